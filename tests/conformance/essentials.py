"""This module compares the essentials of patients, visits, appointments and observations with a peer's FHIR."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from broker.canonical.model import Encounter, Event, Observation
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from tests.conformance.group import DATA, Group
from transforms.map_message import map_message

_LEAST: Final = 0.97  # of all values that a peer tells, those on which we agree
_CLASSES: Final = {"I": "IMP", "O": "AMB", "E": "EMER", "P": "PRENC"}  # HL7 table 0004 -> FHIR ActCode
_SEVERAL: Final = "about several patients, who are told one by one"
Row = tuple[str, Any, Any]


def essentials() -> list[Group]:
    """Compare every value that a peer tells of the messages, by what it belongs to."""
    groups = {
        name: Group(f"essentials: {name}", _LEAST) for name in ("patient", "encounter", "appointment", "observation")
    }
    for entry in json.loads((DATA / "expect/fhir-essentials.json").read_bytes()):
        try:
            event = map_message(Message.parse((DATA / entry["file"]).read_bytes()))
        except StepError as error:
            several = error.location in {"PID", "MRG"}
            groups["patient"].add(
                "explained" if several else "wrong", f"{entry['file']}: {_SEVERAL if several else error}"
            )
            continue
        except MessageError as error:
            groups["patient"].add("wrong", f"{entry['file']}: {error}")
            continue
        for name, theirs, ours in _rows(entry, event):
            groups[name.partition(".")[0]].compare(same=theirs == ours, note=name)
        for theirs in entry.get("observations") or ():
            same = any(_has_value(each, theirs) for each in _observations(event) if _is(each, theirs))
            note = entry["file"].rpartition("__")[2]
            groups["observation"].compare(same=same or _is_content(event, theirs), note=note)
    return list(groups.values())


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
    yield "encounter.class", theirs["class"], _CLASSES.get(ours.patient_class or "")
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


def _observations(event: Event) -> list[Observation]:
    found = list(event.observations)
    found += [each for result in event.results for each in result.observations]
    found += [each for given in event.immunizations for each in given.observations]
    return found


def _is(ours: Observation, theirs: dict[str, Any]) -> bool:
    code = theirs["code"]
    if ours.code is None:
        return False
    known = {ours.code.code, *(coding.code for coding in ours.code.alternates)}
    return code.get("code") in known or code.get("display") in (ours.code.text, ours.code.display)


def _is_content(event: Event, theirs: dict[str, Any]) -> bool:
    """Tell whether a text is a line of the document that the event is about: there OBX are what it says."""
    files = event.document.attachments if event.document else ()
    return theirs.get("valueString") in {line for file in files for line in (file.data or "").splitlines()}


def _has_value(ours: Observation, theirs: dict[str, Any]) -> bool:
    """Tell whether the values are the same; texts but for their blanks."""
    if "valueQuantity" in theirs:
        number = theirs["valueQuantity"].get("value")
        return number is None or (ours.value is not None and _number(ours.value) == number)
    if "valueCodeableConcept" in theirs:
        code = theirs["valueCodeableConcept"].get("code")
        return code is None or (ours.concept is not None and ours.concept.code == code)
    text = theirs.get("valueString") or theirs.get("valueDateTime")
    return text is None or (ours.value or "").split() == text.split()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
