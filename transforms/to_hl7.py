"""This module writes canonical events as HL7 v2 messages: ADT, SIU, ORU, MDM and REF, in UTF-8.

It is pure: what is not given (control id, time) comes from the event, so the same event gives the same bytes.
"""

import hashlib
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from broker.canonical.model import Event
from broker.errors import StepError
from transforms.to_hl7_care import al1, booked, contents, dg1, document, referral, reports, schedule
from transforms.to_hl7_people import gt1, in1, mrg, nk1, pd1, pid, pv1, pv2
from transforms.to_hl7_rules import keep_to, rules_of
from transforms.to_hl7_types import authority, stamp, text
from transforms.to_hl7_values import nte, obx

VERSIONS: Final = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8")
_CHARSET: Final = "UNICODE UTF-8"  # HL7 table 0211
_OURS: Final = "HANDOFF"
_ID_BYTES: Final = 10  # twenty characters, which is all that MSH-10 has before 2.7


@dataclass(frozen=True, slots=True)
class Writing:
    """One message on its way: what all of its segments may need."""

    event: Event
    version: tuple[int, ...]
    application: str  # ours, escaped
    control_id: str
    at: str  # as HL7 writes it


_Segments = Callable[[Writing], list[str]]


def _evn(writing: Writing, trigger: str) -> str:
    return f"EVN|{trigger}|{writing.at}||||{stamp(writing.event.occurred_at)}".rstrip("|")


def _visit(writing: Writing) -> list[str]:
    return [pv1(writing.event), *pv2(writing.event)]


def _visit_if_any(writing: Writing) -> list[str]:
    return _visit(writing) if writing.event.encounter is not None else []


def _merged(writing: Writing) -> list[str]:
    merge = writing.event.merge
    if merge is None:
        raise _missing("merge", "MRG-1")
    return [mrg(merge, writing.event.patient)]


def _schedule(writing: Writing) -> list[str]:
    given = writing.event.appointment
    if given is None:
        raise _missing("appointment", "SCH")
    return schedule(given, writing.application)


def _booked(writing: Writing) -> list[str]:
    return booked(writing.event.appointment) if writing.event.appointment else []


def _reports(writing: Writing) -> list[str]:
    lines = reports(writing.event, writing.version)
    if not lines:
        raise _missing("results", "OBR")
    return lines


def _observed(writing: Writing) -> list[str]:
    return reports(writing.event, writing.version)


def _document(writing: Writing) -> list[str]:
    given = writing.event.document
    if given is None:
        raise _missing("document", "TXA")
    return [document(given, writing.control_id)]


def _contents(writing: Writing) -> list[str]:
    given = writing.event.document
    return contents(given, writing.event.observations, writing.version) if given else []


def _referral(writing: Writing) -> list[str]:
    given = writing.event.referral
    if given is None:
        raise _missing("referral", "RF1")
    return referral(given, writing.event, writing.version)


def _missing(part: str, location: str) -> StepError:
    text_of_error = f"hl7: the event has no {part}, which this message is about; let `when:` choose the events that do"
    return StepError(text_of_error, location=location)


def _of(write: Callable[[Event], list[str]]) -> _Segments:
    return lambda writing: write(writing.event)


_PID: Final[_Segments] = lambda writing: [pid(writing.event), *pd1(writing.event)]  # noqa: E731 - one of many
_OBX: Final[_Segments] = lambda writing: obx(  # noqa: E731
    writing.event.observations, writing.version, with_notes=False
)
_LISTS: Final = (_of(al1), _of(dg1))
_PAYERS: Final = (_of(gt1), _of(in1))
_A01: Final = (_PID, _of(nk1), _visit, _OBX, *_LISTS, *_PAYERS)
_A02: Final = (_PID, _visit, _OBX)
_A03: Final = (_PID, _of(nk1), _visit, *_LISTS, _OBX, *_PAYERS)
_A09: Final = (_PID, _visit, _OBX, _of(dg1))
_A39: Final = (_PID, _merged, _visit_if_any)
_S12: Final = (_schedule, _PID, _visit_if_any, _OBX, _of(dg1), _booked)
_R01: Final = (_PID, lambda writing: nte(writing.event.notes), _of(nk1), _visit_if_any, _reports)
_T01: Final = (lambda writing: [pid(writing.event), pv1(writing.event)], _document)
_T02: Final = (*_T01, _contents)
_I12: Final = (
    _referral, _PID, _of(nk1), *_PAYERS, _of(dg1), _of(al1), _observed, _visit_if_any,
    lambda writing: _remarks(writing.event),
)  # fmt: skip


def _remarks(event: Event) -> list[str]:
    return nte((*event.referral.notes, *event.notes)) if event.referral else []


# Message type -> its structure (HL7 table 0354), and what its segments after MSH and EVN are.
TYPES: Final[dict[str, tuple[str, tuple[_Segments, ...]]]] = {
    **{f"ADT^{trigger}": ("ADT_A01", _A01) for trigger in ("A01", "A04", "A08", "A13")},
    "ADT^A02": ("ADT_A02", _A02),
    "ADT^A03": ("ADT_A03", _A03),
    **{f"ADT^{trigger}": ("ADT_A05", _A01) for trigger in ("A05", "A14", "A28", "A31")},
    **{f"ADT^{trigger}": ("ADT_A09", _A09) for trigger in ("A11", "A12")},
    "ADT^A40": ("ADT_A39", _A39),
    **{f"SIU^{trigger}": ("SIU_S12", _S12) for trigger in ("S12", "S13", "S14", "S15", "S17", "S26")},
    "ORU^R01": ("ORU_R01", _R01),
    **{f"MDM^{trigger}": ("MDM_T01", _T01) for trigger in ("T01", "T03", "T11")},
    **{f"MDM^{trigger}": ("MDM_T02", _T02) for trigger in ("T02", "T04", "T10")},
    **{f"REF^{trigger}": ("REF_I12", _I12) for trigger in ("I12", "I13", "I14")},
}
_WITH_EVN: Final = frozenset({"ADT", "MDM"})

# Kind -> the message that tells it, and that for an event without a visit where it is another.
_KINDS: Final[dict[str, tuple[str, str]]] = {
    "patient.registered": ("ADT^A04", "ADT^A28"),
    "patient.updated": ("ADT^A08", "ADT^A31"),
    "patient.merged": ("ADT^A40", "ADT^A40"),
    "encounter.admitted": ("ADT^A01", "ADT^A01"),
    "encounter.transferred": ("ADT^A02", "ADT^A02"),
    "encounter.discharged": ("ADT^A03", "ADT^A03"),
    "encounter.planned": ("ADT^A05", "ADT^A05"),
    "encounter.admission_cancelled": ("ADT^A11", "ADT^A11"),
    "encounter.transfer_cancelled": ("ADT^A12", "ADT^A12"),
    "encounter.discharge_cancelled": ("ADT^A13", "ADT^A13"),
    "encounter.updated": ("ADT^A08", "ADT^A31"),
    "allergy.recorded": ("ADT^A08", "ADT^A31"),
    "condition.recorded": ("ADT^A08", "ADT^A31"),
    "coverage.changed": ("ADT^A08", "ADT^A31"),
    "related_person.changed": ("ADT^A08", "ADT^A31"),
    "appointment.booked": ("SIU^S12", "SIU^S12"),
    "appointment.rescheduled": ("SIU^S13", "SIU^S13"),
    "appointment.updated": ("SIU^S14", "SIU^S14"),
    "appointment.arrived": ("SIU^S14", "SIU^S14"),
    "appointment.cancelled": ("SIU^S15", "SIU^S15"),
    "appointment.no_show": ("SIU^S26", "SIU^S26"),
    **{f"result.{state}": ("ORU^R01", "ORU^R01") for state in ("preliminary", "final", "corrected", "cancelled")},
    "observation.recorded": ("ORU^R01", "ORU^R01"),
    "document.added": ("MDM^T02", "MDM^T02"),
    "document.signed": ("MDM^T04", "MDM^T04"),
    "document.updated": ("MDM^T04", "MDM^T04"),
    "document.replaced": ("MDM^T10", "MDM^T10"),
    "document.cancelled": ("MDM^T11", "MDM^T11"),
    "referral.requested": ("REF^I12", "REF^I12"),
    "referral.updated": ("REF^I13", "REF^I13"),
    "referral.cancelled": ("REF^I14", "REF^I14"),
}


def to_hl7(
    event: Event,
    trigger: str | None = None,
    *,
    version: str = "2.5.1",
    sending: str = _OURS,
    receiving: str = "",
    control_id: str | None = None,
    at: str | None = None,
    optional: Container[str] = (),
) -> bytes:
    """Return an event as an HL7 v2 message.

    ``trigger`` is a key of `TYPES` (``ADT^A08``); without it, the one that tells this kind of event. ``sending`` and
    ``receiving`` are application and facility, with ``|`` between. ``at`` is a FHIR dateTime for MSH-7. Raises
    `StepError` where the event has not what the message is about, or what the version requires in a field that is not
    ``optional`` (``OBX-11``), or no time is known.
    """
    kind = trigger or type_of(event)
    if kind not in TYPES:
        raise StepError(f"hl7: cannot write {kind}; known are {', '.join(TYPES)}", location="MSH-9")
    code, _, event_code = kind.partition("^")
    structure, segments = TYPES[kind]
    when = stamp(at or event.occurred_at)
    if not when:
        raise StepError("hl7: the event says no time for MSH-7; give one: at=…", location="MSH-7")
    writing = Writing(
        event=event,
        version=numbers(version),
        application=text(sending.partition("|")[0]) or _OURS,
        control_id=control_id or derived_id(event, kind),
        at=when,
    )
    rules = rules_of(kind, structure, version)
    ours, theirs = _party(sending), _party(receiving)
    name = kind if writing.version < (2, 3, 1) else f"{kind}^{rules.structure}"
    header = f"{ours}|{theirs}|{when}||{name}|{text(writing.control_id)}|P|{version}||||||{_CHARSET}"
    lines = [_evn(writing, event_code)] if code in _WITH_EVN else []
    for write in segments:
        lines += write(writing)
    whole = "\r".join((f"MSH|^~\\&|{header}", *keep_to(rules, lines, optional), ""))
    return whole.encode("utf-8", "replace")


def type_of(event: Event) -> str:
    """Return the message type that tells an event: its own where it came as one of ours, else by its kind."""
    found = _KINDS.get(event.kind)
    if found is None:
        raise StepError(f"hl7: no message tells {event.kind}; name one of {', '.join(TYPES)}", location="MSH-9")
    return found[event.encounter is None]


def derived_id(event: Event, kind: str) -> str:
    """Return a control id that is the same whenever the same event is written as the same type."""
    source = event.source
    parts = (source.application, source.facility, source.control_id, source.message_type, kind, event.occurred_at or "")
    digest = hashlib.blake2b("\x1f".join(parts).encode("utf-8", "replace"), digest_size=_ID_BYTES)
    return digest.hexdigest().upper()


@lru_cache(maxsize=64)
def numbers(version: str) -> tuple[int, ...]:
    """Return a version as numbers; raise `StepError` for one that is not written."""
    if version not in VERSIONS:
        raise StepError(f"hl7: version {version} is not written; known are {', '.join(VERSIONS)}", location="MSH-12")
    return tuple(int(part) for part in version.split("."))


@lru_cache(maxsize=1024)
def _party(names: str) -> str:
    application, _, facility = names.partition("|")
    return f"{authority(application, '^')}|{authority(facility, '^')}"
