"""This module reads a file as the engine would, and says what it makes of it: verdict, errors, values, the event.

A file is HL7 v2 (one message, several, or a batch), FHIR R4 as JSON or as lines of JSON, or a CDA document. What can be
read is shown even where it would be refused, so that an analyst sees why. Flat files say too little of themselves: see
`console.rows`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broker.canonical.codec import as_json
from broker.canonical.model import Event, is_known
from broker.errors import MessageError, StepError, refused
from broker.fhir.check import ResourceError, check, described
from broker.fhir.paths import Path
from broker.ids import DELIVERIES
from broker.wire.ack import check_header
from broker.wire.batch import is_batch, split_batch
from broker.wire.charset import mark_of
from broker.wire.er7 import Message
from broker.wire.header import read_header
from broker.wire.location import Location
from broker.wire.strict_json import read_json
from broker.wire.text_lines import BEGINNING
from config.viewing import written
from console.recognition import WHAT_TO_DO, flat_kind, is_plain_json
from transforms.finding import acknowledgment
from transforms.map_cda import map_cda, read_cda
from transforms.map_fhir import map_fhir
from transforms.map_message import map_message
from transforms.several import Split
from transforms.split_bundle import split_bundle
from transforms.split_cda import split_cda
from transforms.split_patients import split_patients
from transforms.to_fhir import to_fhir
from transforms.validation import validate

ACCEPTED, REFUSED = "accepted", "refused"
INTAKE, STEPS = "intake", "steps"
UNREADABLE: Final = "unreadable"  # what a file is of which nothing is known
MOST_MESSAGES: Final = 10_000  # of one file
_BEFORE: Final = b"\xef\xbb\xbf\x0b\r\n\t \0"
_WIDE: Final = frozenset({"utf-16", "utf-32"})  # with a byte order mark
_HEAD: Final = 64  # bytes that show what a file in one of these begins with
_OTHERS: Final = {b"ISA": "X12", b"UNA": "EDIFACT", b"UNB": "EDIFACT"}
_NO_SEGMENT: Final = 100  # HL7 table 0357
_MISSING: Final = 101  # the same: required field missing
# Where a format has what tells whom it is about.
_IDENTIFIERS: Final = {
    "hl7": "PID-3",
    "fhir": "Patient.identifier",
    "cda": "ClinicalDocument.recordTarget.patientRole.id",
}
_SHAPE: Final = 102  # HL7 table 0357, for what is no HL7: it cannot be taken apart


@dataclass(slots=True, kw_only=True)
class Asked:
    """What is to be said of a file: its values at places, and whether the FHIR resources that it becomes."""

    at: Sequence[str] = ()
    fhir: bool = False
    zone: str = "UTC"  # of times that have no offset, for FHIR, which needs one
    level: str = "lenient"
    second: bool = False  # whether hl7apy is asked as well


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one message, or one file, is to the engine; ``source`` is what it was read into, for who shows it."""

    kind: str
    acknowledgment: str = "AA"
    at: str | None = None  # what stops it: INTAKE, or STEPS of a channel; nothing where it goes through
    errors: list[dict[str, Any]] = field(default_factory=list)
    values: dict[str, str | None] = field(default_factory=dict)
    canonical: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)  # one for each patient, where it is about several
    fhir: list[Any] | None = None
    second_opinion: str | None = None  # what hl7apy has against an HL7 message; "" for nothing
    messages: "list[Seen]" = field(default_factory=list)
    source: Any = field(default=None, repr=False)

    @property
    def verdict(self) -> str:
        """Whether the engine would take it."""
        return ACCEPTED if self.acknowledgment == "AA" else REFUSED

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        found: dict[str, Any] = {"kind": self.kind, "verdict": self.verdict, "acknowledgment": self.acknowledgment}
        found |= {"at": self.at, "errors": self.errors, "values": self.values, "canonical": self.canonical}
        if self.events:
            found["events"] = self.events
        if self.fhir is not None:
            found["fhir"] = self.fhir
        if self.second_opinion is not None:
            found["second_opinion"] = self.second_opinion
        if self.messages:
            found["messages"] = [one.as_json() for one in self.messages]
        return found


def inspect(data: bytes, asked: Asked) -> Seen:
    """Return what a file is to the engine; whatever is wrong with it is in the answer."""
    text = data.lstrip(_BEFORE)
    if (other := _OTHERS.get(text[:3])) and not text[3:4].isalnum() and text[3:4] != b"_":
        return _foreign(other)
    begin = text[:1]
    if (codec := mark_of(data[:_HEAD])) in _WIDE:
        begin, text = data[:_HEAD].decode(codec, "ignore").lstrip("\ufeff\r\n\t ")[:1].encode(), data
    if begin in {b"{", b"["}:
        return _inspect_json(text, asked)
    if begin == b"<":
        return _guarded("cda", lambda: _inspect_cda(text, asked))
    if not data:
        return refusal_of("hl7", MessageError("the file is empty", location=BEGINNING, condition=_NO_SEGMENT))
    if not text.startswith((b"MSH", b"FHS", b"BHS")) and (kind := flat_kind(data)):
        return refusal_of(kind, MessageError(f"this is a flat file; {WHAT_TO_DO}", location=BEGINNING))
    return _inspect_hl7(data, asked)


def _foreign(kind: str) -> Seen:
    text = f"{kind} is not read; have it translated to HL7 v2 or FHIR"
    return refusal_of(kind.lower(), MessageError(text, location=BEGINNING))


def _inspect_hl7(data: bytes, asked: Asked) -> Seen:
    if not is_batch(data):
        return inspect_message(data, asked)
    try:
        batch = split_batch(data, MOST_MESSAGES)
    except MessageError as error:
        return refusal_of("hl7", error)
    bodies = [body for group in batch.groups for body in group.messages]
    faults = [told(fault.location, fault.condition, "error", fault.text) for fault in batch.faults]
    seen = _several("hl7", [inspect_message(body, asked) for body in bodies], faults)
    if faults and seen.acknowledgment == "AA":
        seen.acknowledgment, seen.at = batch.faults[0].code, INTAKE
    return seen


def inspect_message(body: bytes, asked: Asked) -> Seen:
    """Return what one HL7 v2 message is to the engine."""
    try:
        header = read_header(body)
    except MessageError as error:
        return refusal_of("hl7", error)
    refusal = check_header(header)
    try:
        message = Message.parse(body, None, header)
    except MessageError as error:
        # What MSH-18 says is not so; to see what the message says it is read as what it seems to be.
        message = Message.parse(body, None, header._replace(charset=b""))
        refusal = refused(error)
    refusal = refusal or message.check_text()
    # What has too many parts to be mapped has too many for a screen.
    seen = Seen(kind="hl7", source=None if message.excess() else message)
    findings = validate(message, asked.level)  # type: ignore[arg-type]  # a choice of the command line
    seen.acknowledgment = acknowledgment(findings)
    seen.at = None if seen.verdict == ACCEPTED else STEPS
    if refusal:
        seen.errors.append(told(refusal.location, refusal.condition, "error", str(refusal)))
        seen.acknowledgment, seen.at = refusal.code, INTAKE
    seen.errors += [told(one.location, one.condition, one.severity, one.text) for one in findings]
    seen.values = {place: _read_at(message.get, Location.parse, place) for place in asked.at}
    _tell_each(seen, message, split_patients, map_message, asked)
    if asked.second and seen.source:
        seen.second_opinion = second_opinion(message)
    return seen


def second_opinion(message: Message) -> str:
    """Return what hl7apy, at its strictest, has against a message; "" for nothing. It takes a tenth of a second."""
    from hl7apy.consts import VALIDATION_LEVEL  # noqa: PLC0415 - slow to load, and rarely asked
    from hl7apy.exceptions import HL7apyException  # noqa: PLC0415 - as above
    from hl7apy.parser import parse_message  # noqa: PLC0415 - as above

    try:
        parse_message("\r".join(message.lines()), validation_level=VALIDATION_LEVEL.STRICT).validate()
    except HL7apyException as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 - it raises whatever it stumbles over
        return f"it cannot say ({type(error).__name__})"
    return ""


def _inspect_json(data: bytes, asked: Asked) -> Seen:
    whole = _inspect_line(data, asked)
    lines = {number: line for number, line in enumerate(data.splitlines(), 1) if line.strip()}
    if whole.source is not None or len(lines) < 2 or not all(line.lstrip()[:1] == b"{" for line in lines.values()):  # noqa: PLR2004
        if is_plain_json(whole.source):
            whole.errors.append(told("", 0, "information", f"this is no FHIR; {WHAT_TO_DO}"))
        return whole
    # Lines of JSON (NDJSON): each is a resource of its own.
    resources = [_inspect_line(line, asked, number) for number, line in lines.items()]
    known = [resource.source for resource in resources if resource.source is not None]
    if known and all(map(is_plain_json, known)):
        text = f"these are lines of JSON that is no FHIR; {WHAT_TO_DO}"
        return refusal_of("ndjson", MessageError(text, location=BEGINNING))
    return _several("fhir", resources)


def _inspect_line(data: bytes, asked: Asked, number: int = 1) -> Seen:
    try:
        return _inspect_resource(read_json(data), asked)
    except MessageError as error:
        place = error.location.replace("line 1,", f"line {number},")
        text = str(error).replace(error.location, place) if place else str(error)
        return refusal_of("fhir", MessageError(text, location=place, condition=error.condition))


def _inspect_resource(resource: Any, asked: Asked) -> Seen:
    seen = Seen(kind="fhir", source=resource)
    for fault in check(resource):
        condition = ResourceError([fault]).condition if fault.error else 0
        seen.errors.append(told(fault.place, condition, "error" if fault.error else "warning", described(fault)))
        if fault.error:
            seen.acknowledgment, seen.at = "AE", INTAKE
    seen.values = {place: _read_at(lambda path: path.of(resource), Path.parse, place) for place in asked.at}
    if seen.acknowledgment == "AA":
        _tell_each(seen, resource, split_bundle, map_fhir, asked)
    return seen


def _inspect_cda(data: bytes, asked: Asked) -> Seen:
    root = read_cda(data)
    seen = Seen(kind="cda", source=root, values=dict.fromkeys(asked.at))
    _tell_each(seen, root, split_cda, map_cda, asked)
    return seen


def _tell_each(seen: Seen, message: Any, split: Split, mapping: Callable[[Any], Event], asked: Asked) -> None:
    """Add the event of a message, or of each patient that it is about: the first of them is its ``canonical``."""
    try:
        parts = split(message, DELIVERIES)
    except StepError as error:
        _tell_step(seen, error)
        return
    if not parts:
        tell_event(seen, lambda: mapping(message), asked)
        return
    for part in parts:
        one = Seen(kind=seen.kind)
        tell_event(one, partial(mapping, part.message()), asked)
        seen.errors += [
            error | {"location": part.located(error["location"]), "text": part.located(error["text"])}
            for error in one.errors
        ]
        seen.at = seen.at or one.at
        if one.canonical is not None:
            seen.events.append(one.canonical)
        if one.fhir is not None:
            seen.fhir = [*(seen.fhir or ()), *one.fhir]
    seen.canonical = seen.events[0] if seen.events else None


def tell_event(seen: Seen, mapping: Callable[[], Event], asked: Asked) -> None:
    """Add the event, and what it becomes; one that cannot be made is no reason to refuse the message."""
    try:
        event = mapping()
    except (StepError, MessageError) as error:
        _tell_step(seen, error)
        return
    seen.canonical = as_json(event)
    if (place := _IDENTIFIERS.get(seen.kind)) and not is_known(event):
        text = f"{place} has no medical record number, so no destination can say whose it is; map patient.mrn"
        seen.errors.append(told(place, _MISSING, "warning", text))
        seen.at = seen.at or STEPS
    seen.errors += [
        told(place, _SHAPE, "warning", f"{place} is not the date, time or number that must be there; left out")
        for place in event.unread
    ]
    if asked.fhir:
        seen.fhir = to_fhir(event, asked.zone)


def _tell_step(seen: Seen, error: StepError | MessageError) -> None:
    """Add why no event comes of it: a channel with a `canonical` step that takes it makes it a dead letter."""
    seen.errors.append(told(error.location, 0, "warning", str(error)))
    seen.at = seen.at or STEPS


def _read_at(get: Callable[[Any], Any], parse: Callable[[str], Any], place: str) -> str | None:
    """Return the value at a place as text; a place that the format does not have holds nothing."""
    try:
        return written(get(parse(place)))
    except ValueError:
        return None


def _guarded(kind: str, look: Callable[[], Seen]) -> Seen:
    try:
        return look()
    except MessageError as error:
        return refusal_of(kind, error)


def refusal_of(kind: str, error: MessageError) -> Seen:
    """Return what is no message at all."""
    errors = [told(error.location, error.condition, "error", str(error))]
    return Seen(kind=kind, acknowledgment="AR", at=INTAKE, errors=errors)


def unreadable(error: OSError) -> Seen:
    """Return what is said of a file that cannot be opened or read."""
    return refusal_of(UNREADABLE, MessageError(f"the file cannot be read: {error.strerror}"))


def _several(kind: str, messages: list[Seen], faults: Sequence[dict[str, Any]] = ()) -> Seen:
    """Return what a file of several messages is: refused where one of them is, with the values of the first."""
    refused = [one for one in messages if one.verdict == REFUSED]
    found = Seen(kind=kind, messages=messages, errors=list(faults))
    found.acknowledgment = refused[0].acknowledgment if refused else "AA"
    found.at = next((one.at for one in [*refused, *messages] if one.at), None)
    found.errors += _of_messages(messages)
    if messages:
        found.values, found.canonical, found.fhir = messages[0].values, messages[0].canonical, messages[0].fhir
    return found


def _of_messages(messages: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    for number, message in enumerate(messages, 1):
        for error in message.errors:
            yield {"message": number} | error


def told(location: str, code: int, severity: str, text: str) -> dict[str, Any]:
    """Return one error as JSON takes it; ``code`` is of HL7 table 0357, 0 where none fits."""
    return {"location": location, "code": code, "severity": severity, "text": text}
