"""This module frames what one delivery says about a patient, and reads it again.

A request is two lines of JSON: a head, and the canonical event. Most events repeat what is known; the digests in the
head show that, so that the event itself is read only when it says something new. That keeps two thirds of the work per
event out of the engine's process: the head is made in a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import orjson

from broker.canonical.codec import part_as_json
from broker.canonical.model import Event, Identifier
from broker.delivery import Delivery, Rejected
from dispatch.patients.permissions import Permission, permission_of

Key = tuple[str, str, str]  # value, system and type of a medical record number: what identifies a patient, alone
VisitKey = tuple[str, str]  # value and system of a visit number
Sender = tuple[str, str]  # application and facility
ListRow = tuple[str | None, ...]

SCALARS: Final = (
    "family",
    "given",
    "birth_date",
    "sex",
    "mobile",
    "email",
    "language",
    "marital_status",
    "deceased",
    "deceased_at",
    "account",
)
LISTS: Final = ("names", "telecom", "addresses")
VISIT_FIELDS: Final = (
    "status",
    "patient_class",
    "location",
    "prior_location",
    "attending",
    "referring",
    "service",
    "admitted_at",
    "discharged_at",
    "disposition",
)

# Kinds that do something to an encounter; all others only describe it.
ENCOUNTER_KINDS: Final = frozenset(
    {
        "patient.registered",
        "encounter.admitted",
        "encounter.transferred",
        "encounter.swapped",
        "encounter.discharged",
        "encounter.planned",
        "encounter.class_changed",
        "encounter.admission_cancelled",
        "encounter.transfer_cancelled",
        "encounter.discharge_cancelled",
        "encounter.plan_cancelled",
        "encounter.deleted",
    }
)

_LIST_COLUMNS: Final = {
    "names": ("family", "given", "prefix", "suffix", "use"),
    "telecom": ("system", "value", "use"),
    "addresses": ("lines", "city", "district", "state", "postal_code", "country", "use"),
}
# What goes over of a patient and an encounter: what the store has a place for.
_KEPT: Final = frozenset({"mrn", "identifiers", "identifier", *SCALARS, *LISTS, *VISIT_FIELDS})
_MOST_WRITTEN: Final = 16_384  # parts of events whose JSON is kept: as many as the mapping keeps
MISSHAPEN: Final = Rejected(
    "the request is not a canonical event; replay the message, so that its steps make the request anew"
)


class Misshapen(Exception):
    """The request does not have the shape of a canonical event."""


class NoRecordNumber(Exception):
    """There is no medical record number where one must be; the argument is its place in the event."""


@dataclass(slots=True)
class Said:
    """What one delivery says; `patient_said`, `encounter_said` and `merged_said` read the rest of it."""

    delivery_id: int
    kind: str
    occurred_at: str | None
    sender: Sender
    key: Key
    digest: str  # of the patient: the same digest again changes nothing
    visit: VisitKey | None
    visit_digest: str  # of the encounter and of what the kind does to it
    cleared: Sequence[str]
    retired: Key | None  # the medical record number that ceases to be
    permission: Permission | None  # what the patient allows or forbids
    request: bytes = field(repr=False)
    source_id: int = 0  # what the store calls the sender, once it has been asked
    _event: dict[str, Any] | None = field(default=None, repr=False)

    def event(self) -> dict[str, Any]:
        """Return the whole event. Raises `Misshapen`."""
        if self._event is None:
            try:
                self._event = orjson.loads(self.request.partition(b"\n")[2])
            except ValueError:
                raise Misshapen from None
        if not isinstance(self._event, dict):
            raise Misshapen
        return self._event


def frame(event: Event) -> bytes:
    """Return the request for an event: what the store has a place for, and nothing else of a chart.

    Raises `NoRecordNumber`.
    """
    kind, source, cleared, encounter = event.kind, event.source, event.cleared, event.encounter
    patient, said = _told(event.patient), _told(encounter) if encounter is not None else b"{}"
    visit = encounter.identifier if encounter is not None else None
    head = (
        kind,
        event.occurred_at,
        source.application,
        source.facility,
        _record_number(event.patient.mrn, "patient.mrn"),
        _digest(patient, "patient.", cleared),
        _identifier(visit)[:2] if visit is not None and visit.value else None,
        _digest(b"[%s,%s]" % (orjson.dumps(kind if kind in ENCOUNTER_KINDS else ""), said), "encounter.", cleared),
        cleared,
        _retired(event),
        *_permitted(event),
    )
    body: dict[str, Any] = {"kind": kind, "source": part_as_json(source), "patient": orjson.Fragment(patient)}
    if event.occurred_at is not None:
        body["occurred_at"] = event.occurred_at
    if encounter is not None:
        body["encounter"] = orjson.Fragment(said)
    if event.merge is not None:
        body["merge"] = part_as_json(event.merge)
    if cleared:
        body["cleared"] = cleared
    return orjson.dumps(head) + b"\n" + orjson.dumps(body)


_written: Final[dict[int, tuple[Any, bytes]]] = {}


def _told(part: Any) -> bytes:
    """Return a part of an event as JSON; the mapping gives the very same one for segments that come again."""
    found = _written.get(id(part))
    if found is None:
        if len(_written) >= _MOST_WRITTEN:
            _written.clear()
        # With the part itself, so that nothing else can take its place in memory and be taken for it.
        said = {name: value for name, value in part_as_json(part).items() if name in _KEPT}
        found = _written[id(part)] = (part, orjson.dumps(said))
    return found[1]


def _permitted(event: Event) -> tuple[tuple[Any, ...], ...]:
    """Return what an event says of consent, if anything: most say nothing, and then the head has no place for it."""
    said = permission_of(event)
    return () if said is None else (tuple(said),)


def _retired(event: Event) -> Key | None:
    """Return the medical record number that ceases to be; one that was changed lives on in the new one."""
    merge = event.merge
    if event.kind == "patient.merged":
        return _record_number(merge.mrn if merge is not None else None, "merge.mrn")
    if event.kind != "patient.identifier_changed" or merge is None or event.patient.mrn is None:
        return None
    old, new = _identifier(merge.mrn), _identifier(event.patient.mrn)
    return old if old != new and old[2] == new[2] else None  # of another type: it names something else


def read(delivery: Delivery) -> Said | Rejected:
    """Read a request, or say why it can never be applied."""
    request = delivery.request
    try:
        return _said(delivery.id, orjson.loads(request[: request.index(b"\n")]), request)
    except (TypeError, ValueError, IndexError):
        return MISSHAPEN


def _said(delivery_id: int, head: Sequence[Any], request: bytes) -> Said:
    kind, occurred_at, application, facility, key, digest, visit, visit_digest, cleared, retired, *more = head
    permission = more[0] if more else None  # an older revision of ours said nothing of it
    return Said(
        delivery_id,
        kind,
        occurred_at,
        (application, facility),
        (key[0], key[1], key[2]),
        digest,
        (visit[0], visit[1]) if visit else None,
        visit_digest,
        cleared,
        (retired[0], retired[1], retired[2]) if retired else None,
        Permission(*permission) if permission else None,
        request,
    )


def patient_said(said: Said) -> tuple[dict[str, Any], dict[str, tuple[ListRow, ...]], set[Key]]:
    """Return the plain fields, lists and identifiers that are said, as the store holds them. Raises `Misshapen`."""
    try:
        patient = said.event()["patient"]
        return (
            {name: _scalar(patient.get(name)) for name in SCALARS},
            {name: _list(patient.get(name) or (), columns) for name, columns in _LIST_COLUMNS.items()},
            {_read_identifier(item) for item in patient.get("identifiers") or () if item.get("value")},
        )
    except (TypeError, KeyError, AttributeError):
        raise Misshapen from None


def encounter_said(said: Said) -> dict[str, Any]:
    """Return the fields that are said of the encounter, as the store holds them. Raises `Misshapen`."""
    try:
        encounter = said.event()["encounter"]
        return {name: _scalar(encounter.get(name)) for name in VISIT_FIELDS}
    except (TypeError, KeyError, AttributeError):
        raise Misshapen from None


def merged_said(said: Said) -> set[Key]:
    """Return every identifier that ceases with a merge. Raises `Misshapen`."""
    try:
        return {_read_identifier(item) for item in said.event()["merge"].get("identifiers") or () if item.get("value")}
    except (TypeError, KeyError, AttributeError):
        raise Misshapen from None


def _digest(told: bytes, prefix: str, cleared: Sequence[str]) -> str:
    if cleared:
        told = b"[%s,%s]" % (told, orjson.dumps([name for name in cleared if name.startswith(prefix)]))
    return blake2b(told, digest_size=12).hexdigest()


def _record_number(identifier: Identifier | None, place: str) -> Key:
    if identifier is None or not identifier.value:
        raise NoRecordNumber(place)
    return _identifier(identifier)


def _identifier(item: Identifier) -> Key:
    return (_word(item.value), _word(item.system), _word(item.type))


def _read_identifier(item: dict[str, Any]) -> Key:
    return (_word(item["value"]), _word(item.get("system") or ""), _word(item.get("type") or ""))


def _scalar(value: object) -> Any:
    if isinstance(value, dict):
        said = {key: inner for key, inner in value.items() if inner is not None}
        return orjson.dumps(said).decode() if said else None
    return value if isinstance(value, bool) else _text(value)


def _list(items: Sequence[dict[str, Any]], columns: Sequence[str]) -> tuple[ListRow, ...]:
    return tuple(tuple(_cell(item.get(column)) for column in columns) for item in items)


def _cell(value: object) -> str | None:
    return orjson.dumps(value).decode() if isinstance(value, list) else _text(value)


def _text(value: object) -> str | None:
    return None if value is None else _word(value)


def _word(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError
