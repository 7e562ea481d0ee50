"""This module reads what one delivery says about a patient, and turns the parts of it into rows of the store.

The request is the canonical event as JSON. It is read as plain dictionaries: most events repeat what is known, which
two digests show, so building the whole typed event for each would be the larger half of the work.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from broker.delivery import Delivery, Rejected

Key = tuple[str, str, str]  # value, system and type of a medical record number: what identifies a patient, alone
VisitKey = tuple[str, str]  # value and system of a visit number
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
        "encounter.discharged",
        "encounter.planned",
        "encounter.admission_cancelled",
        "encounter.discharge_cancelled",
    }
)

_LIST_COLUMNS: Final = {
    "names": ("family", "given", "prefix", "suffix", "use"),
    "telecom": ("system", "value", "use"),
    "addresses": ("lines", "city", "district", "state", "postal_code", "country", "use"),
}
MISSHAPEN: Final = Rejected(
    "the request is not a canonical event; replay the message, so that its steps make the request anew"
)


class Misshapen(Exception):
    """The request does not have the shape of a canonical event."""


class Said(NamedTuple):
    """What one delivery says. ``patient`` and ``encounter`` are dictionaries of the canonical model's fields."""

    delivery_id: int
    kind: str
    occurred_at: str | None
    application: str
    facility: str
    key: Key
    patient: dict[str, Any]
    digest: bytes  # of patient: the same digest again changes nothing
    encounter: dict[str, Any]
    visit: VisitKey | None
    visit_digest: bytes  # of encounter and of what the kind does to it
    cleared: tuple[str, ...]
    retired: Key | None  # the medical record number that ceases to be
    merged: frozenset[Key]  # every identifier that ceases with it


def read(delivery: Delivery) -> Said | Rejected:
    """Read a request, or say why it can never be applied."""
    try:
        return _read(delivery.id, orjson.loads(delivery.request))
    except _NoRecordNumber as error:
        text = f"the event has no {error}, so nobody can say whose it is; map patient.mrn in the canonical step"
        return Rejected(text, location=str(error))
    except (Misshapen, TypeError, ValueError, KeyError, AttributeError):
        return MISSHAPEN


def patient_said(patient: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[ListRow, ...]], set[Key]]:
    """Return the plain fields, lists and identifiers that are said, as the store holds them. Raises `Misshapen`."""
    try:
        return (
            {name: _scalar(patient.get(name)) for name in SCALARS},
            {name: _list(patient.get(name) or (), columns) for name, columns in _LIST_COLUMNS.items()},
            {_identifier(item) for item in patient.get("identifiers") or () if item.get("value")},
        )
    except (TypeError, KeyError, AttributeError):
        raise Misshapen from None


def encounter_said(encounter: dict[str, Any]) -> dict[str, str | None]:
    """Return the fields that are said of an encounter, as the store holds them. Raises `Misshapen`."""
    try:
        return {name: _scalar(encounter.get(name)) for name in VISIT_FIELDS}
    except TypeError:
        raise Misshapen from None


class _NoRecordNumber(Exception):
    """There is no medical record number where one must be; the argument is its place in the event."""


def _read(delivery_id: int, event: dict[str, Any]) -> Said:
    patient = event["patient"]
    source = event.get("source") or {}
    kind = _word(event["kind"])
    encounter = event.get("encounter") or {}
    visit = encounter.get("identifier")
    cleared = tuple(event.get("cleared") or ())
    retired, merged = _merged(event.get("merge")) if kind == "patient.merged" else (None, frozenset())
    return Said(
        delivery_id=delivery_id,
        kind=kind,
        occurred_at=_text(event.get("occurred_at")),
        application=_word(source.get("application") or ""),
        facility=_word(source.get("facility") or ""),
        key=_record_number(patient.get("mrn"), "patient.mrn"),
        patient=patient,
        digest=_digest(patient, "patient.", cleared),
        encounter=encounter,
        visit=(_word(visit["value"]), _word(visit.get("system") or "")) if visit and visit.get("value") else None,
        visit_digest=_visit_digest(kind, encounter, cleared),
        cleared=cleared,
        retired=retired,
        merged=merged,
    )


def _merged(merge: dict[str, Any] | None) -> tuple[Key, frozenset[Key]]:
    said = merge or {}
    retired = _record_number(said.get("mrn"), "merge.mrn")
    return retired, frozenset(_identifier(item) for item in said.get("identifiers") or () if item.get("value"))


def _visit_digest(kind: str, encounter: dict[str, Any], cleared: tuple[str, ...]) -> bytes:
    effect = kind if kind in ENCOUNTER_KINDS else ""
    return _digest([effect, encounter], "encounter.", cleared) if encounter else b""


def _digest(part: object, prefix: str, cleared: tuple[str, ...]) -> bytes:
    if cleared:
        part = [part, [name for name in cleared if name.startswith(prefix)]]
    return blake2b(orjson.dumps(part), digest_size=16).digest()


def _record_number(identifier: dict[str, Any] | None, place: str) -> Key:
    if not identifier or not identifier.get("value"):
        raise _NoRecordNumber(place)
    return _identifier(identifier)


def _identifier(item: dict[str, Any]) -> Key:
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
