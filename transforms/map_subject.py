"""This module reads what messages of every type begin with: who sent it, when, about whom, and during which visit.

The mappings of all message types use these four: `source_of`, `occurred_at`, `patient_of` and `encounter_of`.
"""

from collections.abc import Collection
from functools import lru_cache
from typing import Final, NoReturn

from broker.canonical.model import Encounter, Patient, Source
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_encounter import map_encounter, time_of
from transforms.map_patient import Gaps, map_patient

_MSH_FIELDS: Final = 12
_EVN_FIELDS: Final = 6
# HL7 table 0357.
_SEGMENTS: Final = 100
_FIELD_MISSING: Final = 101
_TYPE_UNKNOWN: Final = 200
_EVENT_UNKNOWN: Final = 201
Cleared = tuple[str, ...]


def refuse_excess(message: Message) -> None:
    """Raise `StepError` where a message has so many parts that mapping them would take too long."""
    if excess := message.excess():
        fail(*excess)


def fail(location: str, text: str, condition: int = 0) -> NoReturn:
    """Raise the `StepError` of the standard mapping for a location; ``condition`` is a code of HL7 table 0357.

    Without one it is that of a required field that is missing, or of the segments where a segment is meant.
    """
    raise StepError(
        text,
        step="canonical",
        location=location,
        condition=condition or (_FIELD_MISSING if "-" in location else _SEGMENTS),
    )


def fail_missing(message: Message, name: str, unknown: str) -> NoReturn:
    """Raise the `StepError` for a segment that is not there; ``unknown`` is what nobody can say without it."""
    line = message.small_names().get(name)
    hint = f"; line {line} begins with its name in small letters, and segments have theirs in capitals" if line else ""
    fail(name, f"{name} is missing, so nobody can say {unknown}{hint}")


def fields_of(message: Message, name: str, count: int) -> list[str]:
    """Return the fields of the first segment of a name as sent, up to at least number ``count``; empty without one."""
    segment = message.first(name)
    return padded(segment.fields, count) if segment is not None else [""] * (count + 1)


def field_of(message: Message, name: str, number: int) -> str:
    """Return a field of the first segment of a name as sent, "" where there is none."""
    segment = message.first(name)
    if segment is None or len(segment.fields) <= number:
        return ""
    return segment.fields[number]


def type_of(message: Message) -> tuple[str, str]:
    """Return message code and trigger: MSH-9, where it has no trigger EVN-1; "" for what is not said."""
    code, trigger = _type(reader_of(message), field_of(message, "MSH", 9))
    if trigger:
        return code, trigger
    return code, (reader_of(message).first(field_of(message, "EVN", 1)) or "").upper()


@lru_cache(maxsize=1024)
def _type(read: Reader, field: str) -> tuple[str, str]:
    code, trigger, structure = (part or "" for part in read.components(field, 3))
    return (code or structure).partition("_")[0].upper(), trigger.upper()  # some send ADT_A01 for the code


def trigger_of(message: Message, mapped: Collection[str]) -> str:
    """Return the trigger, or raise `StepError` with those that are mapped for its message code."""
    code, trigger = type_of(message)
    if trigger not in mapped:
        found = _shown(trigger) if trigger else "a message without a trigger"
        text = f"the canonical step maps {code} with {' '.join(mapped)}, not {found}; filter it out before"
        fail("MSH-9", text, _EVENT_UNKNOWN)
    return trigger


def fail_type(message: Message, codes: Collection[str]) -> NoReturn:
    """Raise the `StepError` for a message code that is not mapped, with those that are."""
    code, trigger = type_of(message)
    shown = "^".join(_shown(part) for part in (code, trigger) if part) or "a message without a type"
    text = f"the canonical step maps {' '.join(codes)}, not {shown}; filter it out before, or map it in a script"
    fail("MSH-9", text, _TYPE_UNKNOWN)


def _shown(text: str) -> str:
    """Return a code for an error; what is no code could be anything."""
    return text if text.isascii() and text.isalnum() and len(text) <= 3 else "another"  # noqa: PLR2004 - such as A01


def source_of(message: Message) -> Source:
    """Return where the message came from."""
    header, read = fields_of(message, "MSH", _MSH_FIELDS), reader_of(message)
    application, facility, version = _sender(read, header[3], header[4], header[12])
    code, trigger = type_of(message)
    return Source(
        application=application,
        facility=facility,
        control_id=read.first(header[10]) or "",
        message_type=f"{code}^{trigger}" if trigger else code,
        version=version,
    )


@lru_cache(maxsize=1024)
def _sender(read: Reader, application: str, facility: str, version: str) -> tuple[str, str, str]:
    return read.first(application) or "", read.first(facility) or "", read.first(version) or ""


def occurred_at(message: Message) -> str | None:
    """Return when it happened: EVN-6, else EVN-2, else MSH-7."""
    read, event = reader_of(message), fields_of(message, "EVN", _EVN_FIELDS)
    return time_of(event[6], read) or time_of(event[2], read) or time_of(field_of(message, "MSH", 7), read)


def patient_of(message: Message, without: frozenset[str] = frozenset()) -> tuple[Patient, Cleared]:
    """Return whom the message is about (PID, PD1), and the fields that were sent as explicit null.

    Raises `StepError` when there is no PID, and when there are several: parts of one patient's chart must never be told
    of another. ``patient.mrn`` is None when PID has no usable identifier; ``without`` names fields of the patient that
    are not to be read, since something else does.
    """
    patients = message.texts("PID")
    if len(patients) > 1:
        fail("PID", f"the message has {len(patients)} PID segments; it must be split into one message for each patient")
    return first_patient(message, without)


def first_patient(message: Message, without: frozenset[str] = frozenset()) -> tuple[Patient, Cleared]:
    """Return whom the first PID is about, where the message type says what further ones mean; as `patient_of`."""
    if not message.texts("PID"):
        fail_missing(message, "PID", "whom this is about")
    patient, cleared, _ = _patient(reader_of(message), _both(message, "PID", "PD1"), message.separators.field, without)
    return patient, cleared


def _both(message: Message, name: str, more: str) -> tuple[str, str]:
    """Return the first segments of two names as sent, "" for one that is not there."""
    sent, other = message.texts(name), message.texts(more)
    return sent[0] if sent else "", other[0] if other else ""


@kept
def _patient(
    read: Reader, sent: tuple[str, ...], separator: str, without: frozenset[str]
) -> tuple[Patient, Cleared, tuple[str, ...]]:
    gaps = Gaps()
    patient = map_patient(sent[0].split(separator), sent[1].split(separator), read, gaps, without)
    return patient, tuple(gaps.cleared), tuple(gaps.unread)


def second_patient(message: Message) -> Patient:
    """Return whom the second PID is about, in messages that are about two patients."""
    texts = message.texts("PID")
    if len(texts) != 2:  # noqa: PLR2004
        fail("PID", f"the message has {len(texts)} PID segments; expected two, for it is about two patients")
    return _patient(reader_of(message), (texts[1], ""), message.separators.field, frozenset())[0]


def unread_of(message: Message, trigger: str, without: frozenset[str]) -> tuple[str, ...]:
    """Return the places of PID and PV1 whose value could not be read and was left out."""
    read, separator = reader_of(message), message.separators.field
    found: tuple[str, ...] = ()
    if message.texts("PID"):
        found += _patient(read, _both(message, "PID", "PD1"), separator, without)[2]
    if message.texts("PV1"):
        found += _encounter(read, _both(message, "PV1", "PV2"), trigger, separator)[2]
    return found


def encounter_of(message: Message, trigger: str = "") -> tuple[Encounter | None, Cleared]:
    """Return the visit (PV1, PV2) or None, and the fields that were sent as explicit null.

    ``trigger`` is an ADT trigger, where it says in what state the visit is; else PV1 says it.
    """
    if not message.texts("PV1"):
        return None, ()
    encounter, cleared, _ = _encounter(
        reader_of(message), _both(message, "PV1", "PV2"), trigger, message.separators.field
    )
    return encounter, cleared


@kept
def _encounter(
    read: Reader, sent: tuple[str, ...], trigger: str, separator: str
) -> tuple[Encounter, Cleared, tuple[str, ...]]:
    gaps = Gaps()
    encounter = map_encounter(trigger, sent[0].split(separator), sent[1].split(separator), read, gaps)
    return encounter, tuple(gaps.cleared), tuple(gaps.unread)
