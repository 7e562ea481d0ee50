"""This module is `handoff show`: what files of messages hold, and what the engine makes of them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.fhir.paths import Path as FhirPath
from broker.fhir.paths import outline
from broker.formats.rows import Row
from broker.wire.er7 import Message, Segment
from broker.wire.location import Location
from console.cli.main import FINDINGS, USAGE, Failure, Options
from console.inspection import REFUSED, STEPS, UNREADABLE, Asked, Seen, inspect, unreadable
from transforms.dictionary import Dictionary, Element, dictionary, nearest_version
from transforms.to_fhir import as_text

if TYPE_CHECKING:
    from console.rows import Rows

_LONGEST = 200  # characters of a value that are shown
_NAMES = 34  # characters of a field's name


# A file or row as it is called, what JSON says of its place, and what was seen.
_Shown = tuple[str, dict[str, Any], Seen]


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON for each file, or each row of it.")
@click.option("--at", multiple=True, metavar="PLACE", help="Show the value at a location or path; may be given again.")
@click.option("--channel", metavar="NAME", help="Read the files as flat files of this channel, row by row.")
@click.option("--fhir", is_flag=True, help="Show the FHIR R4 resources that the message becomes, too.")
@click.option("--zone", default="UTC", show_default=True, help="The time zone, for --fhir, of times without an offset.")
@click.option("--second-opinion", "second", is_flag=True, help="Ask hl7apy, too, what is wrong with HL7 messages.")
@click.option("--level", type=click.Choice(["off", "lenient", "strict"]), default="lenient", show_default=True)
@click.pass_obj
def show(options: Options, /, files: Sequence[Path], channel: str | None, *, as_json: bool, **asked: Any) -> int:
    """Show what is in FILES: HL7 v2, FHIR R4 (JSON, NDJSON) and CDA, and what the engine makes of it.

    Flat files (CSV, fixed width, NDJSON) need the --channel that takes them: its steps run over every row.

    Places are HL7 locations (PID-5.1) or FHIR paths (Patient.name.family); with --channel they are expressions of that
    channel (row.mrn). Exit code 1 says that one was refused, 2 that a file cannot be read; the others are shown.
    """
    wanted = Asked(**asked)
    found = _whole(files, wanted) if channel is None else _by_row(files, channel, options, wanted)
    refused, unread = False, 0
    for name, place, seen in found:
        refused = refused or seen.verdict == REFUSED
        unread += seen.kind == UNREADABLE
        if as_json:
            click.echo(as_text(place | seen.as_json()))
        else:
            click.echo("\n".join(_lines(name, seen)))
    if unread:
        text = f"{unread} of the files cannot be read"
        raise Failure(text, USAGE)
    return FINDINGS if refused else 0


def _whole(files: Sequence[Path], asked: Asked) -> Iterator[_Shown]:
    for place in asked.at:
        _check_place(place)
    for file in files:
        try:
            seen = inspect(file.read_bytes(), asked)
        except OSError as error:
            seen = unreadable(error)
        yield str(file), {"file": str(file)}, seen


def _by_row(files: Sequence[Path], channel: str, options: Options, asked: Asked) -> Iterator[_Shown]:
    from console.rows import reading  # noqa: PLC0415 - costs much, used here only
    from transforms.mistakes import ExpressionError  # noqa: PLC0415 - as above

    settings = options.settings()
    plan = _channel_of(settings, channel)
    try:
        with reading(plan, settings, asked) as rows:
            for file in files:
                yield from _rows_of(file, rows)
    except ExpressionError as error:
        raise Failure(f"--at: {error}", USAGE) from None


def _rows_of(file: Path, rows: "Rows") -> Iterator[_Shown]:
    try:
        for name, line, seen in rows.read(file):
            yield f"{name}:{line}" if line else name, {"file": name, "line": line}, seen
    except OSError as error:
        yield str(file), {"file": str(file), "line": None}, unreadable(error)


def _channel_of(settings: Any, name: str) -> Any:
    """Return the plan of the channel that is to read flat files, or say why it cannot."""
    from config.check import check  # noqa: PLC0415 - costs much, used here only
    from config.findings import did_you_mean, report  # noqa: PLC0415 - as above
    from console.rows import SELF_EVIDENT  # noqa: PLC0415 - as above

    checked = check(settings)
    plans = {plan.name: plan for plan in checked.channels}
    if name not in plans:
        if not checked.ok:
            click.echo(report(checked.findings), err=True)
        raise click.BadParameter(
            f'no channel "{name}" can be used; {did_you_mean(name, plans)}', param_hint="--channel"
        )
    kind = plans[name].format.kind
    if kind in SELF_EVIDENT:
        text = f'"{name}" takes {kind}, not flat files; such files are read without --channel'
        raise click.BadParameter(text, param_hint="--channel")
    return plans[name]


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


def _lines(name: str, seen: Seen) -> Iterator[str]:
    yield f"{name}  {seen.kind}  {_verdict(seen)}"
    if seen.messages:
        for number, message in enumerate(seen.messages, 1):
            yield from _lines(f"message {number}", message)
        return
    yield from _contents(seen.source)
    for place, value in seen.values.items():
        yield f"  {place} = {'nothing' if value is None else _cut(value)}"
    for error in seen.errors:
        words = [str(error[key]) for key in ("severity", "code", "location") if error[key]]
        yield f"  {' '.join(words)}: {error['text']}"
    if seen.second_opinion is not None:
        yield f"  hl7apy: {seen.second_opinion or 'nothing wrong'}"
    shown: list[tuple[str, Any]] = [(f"event {number}", event) for number, event in enumerate(seen.events, 1)]
    for title, found in (*(shown or [("event", seen.canonical)]), ("fhir", seen.fhir)):
        if found is not None:
            yield f"  {title}"
            yield from ("    " + line for line in json.dumps(json.loads(as_text(found)), indent=2).splitlines())


def _verdict(seen: Seen) -> str:
    """Say whether it is taken, and where it ends if not."""
    verdict = f"{seen.verdict} ({seen.acknowledgment})"
    if seen.verdict == REFUSED:
        return verdict + (" by the steps" if seen.at == STEPS else "")
    return verdict + (", and nothing comes of it" if seen.at == STEPS else "")


def _contents(source: Any) -> Iterator[str]:
    """Give what was read, value by value."""
    if isinstance(source, Message):
        yield from _tree(source)
    elif isinstance(source, Row):
        yield from (f"  {column:<{_NAMES}}  {_cut(value)}" for column, value in source.values.items())
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
