"""Other people's messages are mapped or refused with a location, and agree with what a peer makes of them."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import KINDS, Encounter, Event
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from transforms.map_message import map_message

DATA: Final = Path(__file__).parents[2] / "../shared/data"
LEAST: Final = 0.97  # of all values that a peer tells, those on which we agree
CLASSES: Final = {"I": "IMP", "O": "AMB", "E": "EMER", "P": "PRENC"}  # HL7 table 0004 -> FHIR ActCode
Row = tuple[str, Any, Any]


def need(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"needs ../shared/data/{path}, which is not here")
    return DATA / path


def test_every_message_of_other_people_is_mapped_or_refused_with_a_location() -> None:
    outcomes: Counter[str] = Counter()
    for file in sorted(need("hl7").glob("*.hl7")):
        try:
            event = map_message(Message.parse(file.read_bytes()))
        except StepError as error:
            outcomes[error.location] += 1
        except MessageError:
            outcomes["unreadable"] += 1
        else:
            assert event.kind in KINDS
            assert decode(encode(event)) == event, file.name
            outcomes["mapped"] += 1
    assert outcomes["mapped"] >= 250, outcomes
    assert "" not in outcomes


def test_mapping_agrees_with_a_peer_on_the_essentials() -> None:
    same: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for entry in json.loads(need("expect/fhir-essentials.json").read_bytes()):
        event = _mapped(entry["file"])
        for name, theirs, ours in _rows(entry, event) if event else ():
            seen[name] += 1
            same[name] += theirs == ours
    missed = {name: f"{same[name]} of {seen[name]}" for name in seen if same[name] < seen[name]}
    assert sum(seen.values()) > 1000, seen
    assert sum(same.values()) / sum(seen.values()) >= LEAST, missed


def _mapped(file: str) -> Event | None:
    """Return the event, or None where a message is about several patients: a peer tells of each of them."""
    try:
        return map_message(Message.parse((DATA / file).read_bytes()))
    except StepError as error:
        if error.location not in {"PID", "MRG"}:
            raise
        return None


def _rows(entry: dict[str, Any], event: Event) -> Iterator[Row]:
    if "patient" in entry:
        yield from _patient(entry["patient"], event, Message.parse((DATA / entry["file"]).read_bytes()).texts("PID")[0])
    if entry.get("encounters"):
        yield from _encounter(entry["encounters"][0], event.encounter or Encounter())
    if entry.get("appointments"):
        yield from _appointment(entry["appointments"][0], event)


def _patient(theirs: dict[str, Any], event: Event, pid: str) -> Iterator[Row]:
    ours = event.patient
    yield "patient.family", theirs.get("family"), ours.family
    yield "patient.given", (theirs.get("given") or [None])[0], ours.given
    yield "patient.birth_date", theirs.get("birthDate"), ours.birth_date
    yield "patient.sex", theirs.get("gender"), ours.sex
    if "multipleBirthInteger" in theirs:
        yield "patient.birth_order", theirs["multipleBirthInteger"], ours.birth_order
    if "deceasedDateTime" in theirs:
        yield "patient.deceased_at", _instant(theirs["deceasedDateTime"]), _instant(ours.deceased_at)
    if "deceasedBoolean" in theirs:
        yield "patient.deceased", theirs["deceasedBoolean"], ours.deceased
    yield from _lists(theirs, event, pid)


def _lists(theirs: dict[str, Any], event: Event, pid: str) -> Iterator[Row]:
    """Compare what of a peer's lists stands in PID: it also gives the patient what guarantor and insured have."""
    ours = event.patient
    known = {identifier.value for identifier in ours.identifiers} | {ours.account.value if ours.account else ""}
    for identifier in theirs.get("identifiers", ()):
        if (value := identifier.get("value")) and value in pid:
            yield "patient.identifier", True, value in known
    for name in theirs.get("names", ()):
        if name.get("family", "\0") in pid:
            yield "patient.names", True, name["family"] in {each.family for each in ours.names}
    for address in theirs.get("address", ()):
        if "city" in address:
            yield "patient.addresses", True, address["city"].strip() in {each.city for each in ours.addresses}


def _encounter(theirs: dict[str, Any], ours: Encounter) -> Iterator[Row]:
    # A registration: a peer has no state of its own for it.
    yield "encounter.status", theirs["status"], "in-progress" if ours.status == "arrived" else ours.status
    yield "encounter.class", theirs["class"], CLASSES.get(ours.patient_class or "")
    known = {each.value for each in (ours.identifier, ours.alternate) if each}
    for identifier in theirs.get("identifiers", ()):
        if identifier["value"].strip():
            yield "encounter.identifier", True, identifier["value"] in known
    period = theirs.get("period", {})
    if "start" in period:
        yield "encounter.admitted_at", _instant(period["start"]), _instant(ours.admitted_at)
    if "end" in period and ours.discharged_at:
        yield "encounter.discharged_at", _instant(period["end"]), _instant(ours.discharged_at)
    for kind in theirs.get("type", ())[:1]:
        yield "encounter.type", kind.get("code"), ours.type.code if ours.type else None
    for reason in theirs.get("reason", ())[:1]:
        yield "encounter.reason", reason.get("code"), ours.reason.code if ours.reason else None


def _appointment(theirs: dict[str, Any], event: Event) -> Iterator[Row]:
    ours = event.appointment
    assert ours is not None
    yield "appointment.status", theirs["status"], ours.status
    yield "appointment.starts_at", _instant(theirs["start"]), _instant(ours.starts_at)
    yield "appointment.ends_at", _instant(theirs["end"]), _instant(ours.ends_at)
    yield "appointment.minutes", theirs["minutesDuration"], ours.minutes
    yield "appointment.reason", theirs["appointmentType"]["code"], ours.reason.code if ours.reason else None
    if "comment" in theirs:
        yield "appointment.comment", theirs["comment"], ours.comment
    known = {each.value for each in (ours.identifier, ours.filler) if each}
    for identifier in theirs["identifiers"]:
        yield "appointment.identifier", True, identifier["value"] in known


def _instant(text: str | None) -> float | str | None:
    """Return a time as an instant: a peer writes it in its own zone. A date stays what it is."""
    if text is None or "T" not in text:
        return text
    return datetime.fromisoformat(text).timestamp()
