"""This module is `handoff explain`: what a location, a segment, a message structure or a code table is in HL7 v2."""

import difflib
from collections.abc import Iterator
from typing import Any, Final

import click

from broker.wire.location import Location
from console.cli.client import print_json
from console.cli.main import FINDINGS, Failure
from console.cli.show import table
from transforms.dictionary import (
    ANYTHING,
    NEAREST,
    VERSIONS,
    Dictionary,
    Element,
    Group,
    check_location,
    dictionary,
    nearest_version,
    type_name,
)
from transforms.structures import structure_of

_CODES_SHOWN: Final = 40  # codes of a table in the explanation of a field; --table shows all
_WIDTH: Final = 100
_LONGEST_TABLE_NUMBER: Final = 4


@click.command()
@click.argument("what", required=False)
@click.option("--version", "version", default="2.5.1", show_default=True, help="The version of HL7 v2.")
@click.option("--table", "number", metavar="NUMBER", help="Explain a code table instead, such as 0001.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(what: str | None, version: str, number: str | None, *, as_json: bool) -> None:
    """Explain what a location is in HL7 v2: its name, data type, parts, code table, and whether it is required.

    WHAT is a location (PID-5.1), a segment (PID), a data type (CX) or a message structure (ADT_A01).
    """
    if (what is None) == (number is None):
        raise click.UsageError("name one thing: a location, a segment, a structure, or --table NUMBER")
    known = _dictionary(version)
    found = _table(known, number) if number is not None else _explained(known, (what or "").strip().upper())
    print_json(found) if as_json else click.echo("\n".join(_lines(found)))


def _dictionary(version: str) -> Dictionary:
    chosen = nearest_version(version)
    if chosen != version:
        if version not in NEAREST:
            message = f"there is no version {version!r} of HL7 v2; there is {', '.join([*VERSIONS, *NEAREST])}"
            raise click.BadParameter(message, param_hint="--version")
        click.echo(f"there are no tables for {version}; this is {chosen}, the nearest that has them", err=True)
    return dictionary(chosen)


def _explained(known: Dictionary, what: str) -> dict[str, Any]:
    code, _, trigger = what.replace("^", "_").partition("_")
    tree = known.structure(structure_of(known, code, trigger, "") if trigger else what)
    if tree is not None:
        return {"kind": "structure", "version": known.version, "name": tree.name, "segments": _tree(tree)}
    if what in known.datatypes and known.fields(what) is None:
        parts = known.components(what)
        return {"kind": "datatype", "version": known.version, "name": type_name(what), "components": _parts(parts)}
    try:
        place = Location.parse(what)
    except ValueError:
        raise _unknown(known, what) from None
    fields = known.fields(place.segment)
    if fields is None:
        raise _unknown(known, what)
    if not place.field:
        found = {"kind": "segment", "version": known.version, "name": what, "fields": _parts(fields)}
        return found | {"versions": _versions(place)}
    return _location(known, place)


def _location(known: Dictionary, place: Location) -> dict[str, Any]:
    wrong = check_location(place, known.version)
    element = _element(known, place)
    if wrong is not None or element is None:
        text = wrong or f"{place} does not exist in HL7 {known.version}: it was withdrawn"
        exists = _versions(place)
        raise Failure(f"{text}; it exists in {', '.join(exists)}" if exists else text, FINDINGS)
    found = {
        "kind": "location",
        "version": known.version,
        "location": str(place),
        "name": element.name,
        "datatype": type_name(element.datatype),
        "required": bool(element.least),
        "repeats": element.most not in {0, 1},
        "most": element.most if element.most > 0 else None,
        "withdrawn": not element.most,
        "components": [] if element.datatype == ANYTHING else _parts(known.components(element.datatype)),
        "versions": _versions(place),
    }
    if element.table:
        codes = known.tables.get(element.table)
        title, listed = (codes.title, sorted(codes.codes)) if codes else ("", [])
        found["table"] = {"number": element.table, "title": title, "codes": listed}
    return found


def _element(known: Dictionary, place: Location) -> Element | None:
    elements: tuple[Element, ...] = known.fields(place.segment) or ()
    element = None
    for number in (place.field, place.component, place.subcomponent):
        if not number:
            break
        if element is not None and not elements and number == 1:  # PID-8.1 of a field without parts is the field
            break
        element = next((each for each in elements if each.number == number), None)
        if element is None:
            return None
        elements = known.components(element.datatype)
    return element


def _versions(place: Location) -> list[str]:
    """Return the versions in which a location exists and is not withdrawn."""
    found = []
    for version in VERSIONS:
        known = dictionary(version)
        if check_location(place, version) is None:
            element = _element(known, place)
            if not place.field or (element is not None and element.most):
                found.append(version)
    return found


def _table(known: Dictionary, number: str) -> dict[str, Any]:
    wanted = number.upper().removeprefix("HL7").rjust(_LONGEST_TABLE_NUMBER, "0")
    found = known.tables.get(wanted)
    if found is None:
        hint = _nearest(wanted, list(known.tables))
        raise Failure(f"HL7 {known.version} has no table {wanted} with codes{hint}", FINDINGS)
    return {
        "kind": "table",
        "version": known.version,
        "number": wanted,
        "title": found.title,
        "codes": sorted(found.codes),
        "beginnings": list(found.beginnings),
        "closed": found.closed,
    }


def _tree(group: Group) -> list[dict[str, Any]]:
    found = []
    for child in group.children:
        entry: dict[str, Any] = {"name": child.name, "required": bool(child.least), "repeats": child.most != 1}
        if child.children:
            entry |= {"one_of": child.one_of, "segments": _tree(child)}
        found.append(entry)
    return found


def _parts(elements: tuple[Element, ...]) -> list[dict[str, Any]]:
    return [
        {
            "number": each.number,
            "name": each.name,
            "datatype": type_name(each.datatype),
            "required": bool(each.least),
            "repeats": each.most not in {0, 1},
            "withdrawn": not each.most,
            "table": each.table or None,
        }
        for each in elements
    ]


def _unknown(known: Dictionary, what: str) -> Failure:
    names = [*known.segments, *known.structures, *known.datatypes]
    hint = _nearest(what.upper().partition("-")[0], names)
    return Failure(f"HL7 {known.version} has no {what!r}{hint}", FINDINGS)


def _nearest(word: str, names: list[str]) -> str:
    """Return a hint: letters that changed places come first, then what is alike."""
    swapped = [name for name in names if sorted(name) == sorted(word)]
    close = swapped or difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


# For people.


def _lines(found: dict[str, Any]) -> Iterator[str]:
    kind = found["kind"]
    if kind == "structure":
        yield f"{found['name']}  message structure of HL7 {found['version']}"
        yield "[ ] may be missing, { } may repeat, < | > one of these"
        yield from _drawn(found["segments"], 1)
    elif kind == "table":
        yield f"table {found['number']}  {found['title']}  HL7 {found['version']}"
        yield from _wrapped([*found["codes"], *(f"{each}…" for each in found["beginnings"])])
        if not found["closed"]:
            yield "these are examples; others are allowed"
    elif kind == "location":
        yield from _location_lines(found)
    else:
        yield f"{found['name']}  {'data type' if kind == 'datatype' else kind} of HL7 {found['version']}"
        yield from _part_lines(found["fields" if kind == "segment" else "components"])
        if kind == "segment":
            yield f"exists in {', '.join(found['versions'])}"


def _location_lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['location']}  {found['name']}  HL7 {found['version']}"
    yield f"  data type  {found['datatype']}"
    often = (
        f"up to {found['most']} times" if found["repeats"] and found["most"] else "yes" if found["repeats"] else "no"
    )
    yield f"  required   {'yes' if found['required'] else 'no'}"
    yield f"  repeats    {often}"
    yield f"  exists in  {', '.join(found['versions'])}" + (" (withdrawn here)" if found["withdrawn"] else "")
    if codes := found.get("table"):
        yield f"  table      {codes['number']} {codes['title']}".rstrip()
        listed = codes["codes"][:_CODES_SHOWN]
        more = len(codes["codes"]) - len(listed)
        yield from (f"             {line}" for line in _wrapped(listed))
        if more:
            yield f"             and {more} more: handoff explain --table {codes['number']}"
    if found["components"]:
        yield "components"
        yield from _part_lines(found["components"])


def _part_lines(parts: list[dict[str, Any]]) -> Iterator[str]:
    if not parts:
        yield "  it is not divided"
        return
    heads = ("", "name", "type", "required", "repeats", "table")
    rows = [
        (
            each["number"],
            each["name"],
            each["datatype"],
            "withdrawn" if each["withdrawn"] else "yes" if each["required"] else "",
            "yes" if each["repeats"] else "",
            each["table"],
        )
        for each in parts
    ]
    yield table(heads, rows)


def _drawn(entries: list[dict[str, Any]], depth: int) -> Iterator[str]:
    for entry in entries:
        left, right = ("", "") if entry["required"] else ("[", "]")
        if entry["repeats"]:
            left, right = f"{left}{{", f"}}{right}"
        pad = "  " * depth
        below = entry.get("segments")
        if below is None:
            yield f"{pad}{left}{entry['name']}{right}"
        elif entry["one_of"]:
            yield f"{pad}{left}<{' | '.join(each['name'] for each in below)}>{right}"
        else:
            yield f"{pad}{left} {entry['name']}"
            yield from _drawn(below, depth + 1)
            yield f"{pad}{right or '.'}"


def _wrapped(words: list[str]) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) > _WIDTH:
            yield line
            line = ""
        line = f"{line}  {word}" if line else word
    if line:
        yield line
