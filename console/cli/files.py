"""This module is `handoff show`: what files of messages hold, and what the engine makes of them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from broker.fhir.paths import Path as FhirPath
from broker.fhir.paths import outline
from broker.wire.er7 import Message, Segment
from broker.wire.location import Location
from console.cli.main import FINDINGS, USAGE, Failure
from console.inspection import REFUSED, Asked, Seen, inspect
from transforms.dictionary import Dictionary, Element, dictionary, nearest_version
from transforms.to_fhir import as_text

_LONGEST = 200  # characters of a value that are shown
_NAMES = 34  # characters of a field's name


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each file.")
@click.option("--at", multiple=True, metavar="PLACE", help="Show the value at a location or path; may be given again.")
@click.option("--fhir", is_flag=True, help="Show the FHIR R4 resources that the message becomes, too.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone, for --fhir, of times without an offset.")
@click.option("--second-opinion", "second", is_flag=True, help="Ask hl7apy, too, what is wrong with HL7 messages.")
@click.option("--level", type=click.Choice(["off", "lenient", "strict"]), default="lenient", show_default=True)
def show(
    files: Sequence[Path], at: Sequence[str], zone: str, level: str, *, as_json: bool, fhir: bool, second: bool
) -> int:
    """Show what is in FILES: HL7 v2, FHIR R4 (JSON, NDJSON) and CDA, and what the engine makes of it.

    Places are HL7 locations (PID-5.1) or FHIR paths (Patient.name.family). Exit code 1 says that one was refused.
    """
    for place in at:
        _check_place(place)
    asked = Asked(at=at, fhir=fhir, zone=zone, level=level, second=second)
    refused = False
    for file in files:
        seen = inspect(_read(file), asked)
        refused = refused or seen.verdict == REFUSED
        if as_json:
            click.echo(as_text({"file": str(file)} | seen.as_json()))
        else:
            click.echo("\n".join(_lines(str(file), seen)))
    return FINDINGS if refused else 0


def _check_place(place: str) -> None:
    reasons = []
    for parse in (Location.parse, FhirPath.parse):
        try:
            parse(place)
        except ValueError as error:
            reasons.append(str(error))
        else:
            return
    raise click.BadParameter(reasons[0], param_hint="--at")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}", USAGE) from None


def _lines(name: str, seen: Seen) -> Iterator[str]:
    yield f"{name}  {seen.kind}  {seen.verdict} ({seen.acknowledgment})"
    if seen.messages:
        for number, message in enumerate(seen.messages, 1):
            yield from _lines(f"message {number}", message)
        return
    yield from _contents(seen.source)
    for place, value in seen.values.items():
        yield f"  {place} = {'nothing' if value is None else _cut(value)}"
    for error in seen.errors:
        yield f"  {error['severity']} {error['code'] or ''} {error['location']}: {error['text']}"
    if seen.second_opinion is not None:
        yield f"  hl7apy: {seen.second_opinion or 'nothing wrong'}"
    shown: list[tuple[str, Any]] = [(f"event {number}", event) for number, event in enumerate(seen.events, 1)]
    for title, found in (*(shown or [("event", seen.canonical)]), ("fhir", seen.fhir)):
        if found is not None:
            yield f"  {title}"
            yield from ("    " + line for line in json.dumps(json.loads(as_text(found)), indent=2).splitlines())


def _contents(source: Any) -> Iterator[str]:
    """Give what was read, value by value."""
    if isinstance(source, Message):
        yield from _tree(source)
    elif isinstance(source, dict):
        yield from (f"  {path:<{_NAMES + 10}}  {_cut(str(value))}" for path, value in outline(source))


def _tree(message: Message) -> Iterator[str]:
    """Give every segment with its fields, their names and what was sent."""
    known = dictionary(nearest_version(message.header.version.decode("latin-1").strip()) or "2.5.1")
    for segment in message.segments():
        names = {element.number: element for element in known.fields(segment.name) or ()}
        yield f"  {segment.name}"
        for number in range(1, len(segment.fields)):
            if segment.fields[number]:
                yield from _field(known, segment, number, names.get(number))


def _field(known: Dictionary, segment: Segment, number: int, element: Element | None) -> Iterator[str]:
    name = element.name if element else ""
    for place, repetition in enumerate(segment.repetitions(number), 1):
        label = f"{segment.name}-{number}" + (f"({place})" if place > 1 else "")
        yield f"    {label:<10} {name[:_NAMES]:<{_NAMES}} {_cut(repetition)}"
        parts = {part.number: part for part in known.components(element.datatype)} if element else {}
        mark = segment.separators.component
        if parts and mark and mark in repetition and number > 1:
            for component, text in enumerate(repetition.split(mark), 1):
                if text:
                    part: Any = parts.get(component)
                    yield f"      .{component:<7} {(part.name if part else '')[:_NAMES]:<{_NAMES}} {_cut(text)}"


def _cut(text: str) -> str:
    shown = text.replace("\r", "\\r").replace("\n", "\\n")
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(text)} characters)"
