"""This module maps messages about a patient's problems (PPR PC1 to PC3) to canonical events."""

from typing import Final

from broker.canonical.model import Condition, Event
from broker.wire.er7 import Message
from transforms.clinical import Chart, Fields, walk
from transforms.clinical_event import clinical_event
from transforms.hl7_codes import entity, first_concept, whole
from transforms.hl7_types import Reader, reader_of
from transforms.map_observation import notes_of, time_at, upper_code
from transforms.map_order import orders_of
from transforms.map_subject import fail

_DELETED: Final = frozenset({"DE", "D"})  # HL7 table 0287
# What senders write into PRB-13 and PRB-14 (both tables are the user's own): FHIR's codes, and close to them.
_CLINICAL: Final = {
    **{name.upper(): name for name in ("active", "recurrence", "relapse", "inactive", "remission", "resolved")},
    "A": "active", "I": "inactive", "R": "resolved", "CLOSED": "resolved", "CHRONIC": "active",
}  # fmt: skip
_VERIFIED: Final = {
    **{name.upper(): name for name in ("unconfirmed", "provisional", "differential", "confirmed", "refuted")},
    "C": "confirmed", "DELETED": "entered-in-error", "SUSPECTED": "unconfirmed",
}  # fmt: skip


def map_problem(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message about problems tells: each PRB a condition.

    Raises `StepError` with the location when it is about nobody or several patients, or has no PRB;
    ``without`` names fields of the patient that are not to be read, since something else does.
    """
    read = reader_of(message)
    problems = _problems(message, read)
    if not problems:
        fail("PRB", "the message has no PRB that names a problem; filter it out before")
    chart = Chart(message)
    orders, results, observations = orders_of(chart, read)
    return clinical_event(
        message,
        without,
        chart,
        "condition.recorded",
        conditions=problems,
        orders=orders,
        results=results,
        observations=observations,
    )


def _problems(message: Message, read: Reader) -> tuple[Condition, ...]:
    found: list[tuple[Fields, list[Fields]]] = []
    last = ""
    for fields in walk(message):
        if fields[0] == "PRB":
            found.append((fields, []))
        elif fields[0] == "NTE" and last in ("PRB", "NTE") and found:
            found[-1][1].append(fields)
        last = fields[0]
    return tuple([problem for fields, notes in found if (problem := _problem(fields, notes, read))])


def _problem(fields: Fields, notes: list[Fields], read: Reader) -> Condition | None:
    code, identifier = first_concept(read, fields[3]), entity(read, fields[4])
    if code is None and identifier is None:
        return None
    words = [_word(read, fields[number]) for number in (14, 13)]
    ended = time_at(read, fields[9])
    clinical = next((_CLINICAL[word] for word in words if word in _CLINICAL), "resolved" if ended else None)
    verified = next((_VERIFIED[word] for word in words if word in _VERIFIED), None)
    onset = read.plain(fields[17])
    return Condition(
        code=code,
        identifier=identifier,
        category="problem-list-item",
        clinical_status=clinical,
        verification_status="entered-in-error" if upper_code(read, fields[1]) in _DELETED else verified,
        rank=whole(read.first(fields[18])) or whole(read.first(fields[6])),
        severity=first_concept(read, fields[26]),
        onset_at=time_at(read, fields[16]) or time_at(read, fields[7]),
        abated_at=ended,
        recorded_at=time_at(read, fields[2]),
        notes=(*((onset,) if onset else ()), *notes_of(notes, read)),
    )


def _word(read: Reader, field: str) -> str:
    """Return a status by its code, else its text, in upper case."""
    found = first_concept(read, field)
    return ((found.code or found.text or "") if found else "").upper()
