"""This module makes deliveries for the tests of the patient store, and tells the whole state of one."""

from collections.abc import Sequence
from typing import Any

from broker.canonical.model import Encounter, Event, Identifier, Merge, Patient, Source
from broker.delivery import Delivered, Delivery, Outcome
from broker.sql import Connection
from dispatch.patients import identity
from dispatch.patients.apply import Batch
from dispatch.patients.known import Held, Known
from dispatch.patients.said import SCALARS, VISIT_FIELDS, frame


def mrn(value: str, system: str = "MERCY") -> Identifier:
    """Return a medical record number."""
    return Identifier(value=value, system=system, type="MR")


def visit(value: str, **fields: Any) -> Encounter:
    """Return an encounter with a visit number."""
    return Encounter(identifier=Identifier(value=value, system="MERCY", type="VN"), **fields)


def delivery(number: int, event: Event, attempt: int = 1) -> Delivery:
    """Return delivery ``number`` (from 1) of an event, framed as the renderer does."""
    request = frame(event)
    return Delivery(id=(number << 22) + 1, route=1, key=f"k{number}", request=request, attempt=attempt)


def told(
    number: int,
    who: str,
    kind: str = "patient.updated",
    *,
    at: str | None = None,
    encounter: Encounter | None = None,
    cleared: tuple[str, ...] = (),
    system: str = "MERCY",
    **fields: Any,
) -> Delivery:
    """Return a delivery that says something of the patient ``who``; ``fields`` are the patient's."""
    event = Event(
        kind=kind,
        source=Source(application="ADT", facility="MERCY"),
        patient=Patient(mrn=mrn(who, system), **fields),
        occurred_at=at,
        encounter=encounter,
        cleared=cleared,
    )
    return delivery(number, event)


def merged(
    number: int, survivor: str, retired: str, *others: Identifier, kind: str = "patient.merged", **fields: Any
) -> Delivery:
    """Return a delivery that merges one patient into another (A40), or changes a record number (A47)."""
    event = Event(
        kind=kind,
        source=Source(application="ADT", facility="MERCY"),
        patient=Patient(mrn=mrn(survivor), **fields),
        merge=Merge(mrn=mrn(retired), identifiers=(mrn(retired), *others)),
    )
    return delivery(number, event)


def apply(connection: Connection, *deliveries: Delivery, now: float = 1.0, known: Known | None = None) -> list[Outcome]:
    """Apply deliveries as one batch."""
    return Batch(connection, "mercy-adt", now, known).apply(deliveries)


def deliver(connection: Connection, *deliveries: Delivery) -> None:
    """Apply deliveries as one batch; all must be delivered."""
    outcomes = apply(connection, *deliveries)
    assert outcomes == [Delivered()] * len(deliveries)


def assert_known_as_read(store: Connection, known: Known) -> None:
    """Check that what is remembered is what would be read instead; and give it back."""
    with store.transaction():
        held, read = known.take(), Held()
        who = store.rows("SELECT mrn_value, mrn_system, mrn_type, id, survivor_id FROM patient")
        identity.resolve(store, {(row[0], row[1], row[2]): (row[3], None) for row in who}, read)
    assert held.records.items() <= read.records.items()
    assert held.patients.items() <= {(row[0], row[1], row[2]): row[3] for row in who if row[4] is None}.items()
    known.keep(held)


def state(connection: Connection, *, order: bool = True) -> dict[str, Any]:
    """Return all that the store holds, without the keys that it made up; ``order``: of the whole timeline."""
    names = {row[0]: f"{row[1]}|{row[2]}" for row in connection.rows("SELECT id, mrn_value, mrn_system FROM patient")}

    def rows(columns: str, table: str, last: str) -> list[list[Any]]:
        found = connection.rows(f"SELECT patient_id, {columns} FROM {table} ORDER BY {last}")
        return [[names[row[0]], *row[1:]] for row in found]

    events = rows("delivery_id, kind, occurred_at, late, changed", "patient_event", "id")
    for event in events:
        event[4] = bool(event[4])
    return {
        "patients": sorted(
            (names[row[0]], names.get(row[1]), *row[2:])
            for row in connection.rows(
                "SELECT p.id, p.survivor_id, p.version, p.delivery_id, COALESCE(p.digest, ''), COALESCE(p.as_of, ''), "
                "COALESCE(e.value, ''), "
                f"{', '.join(_text(name) for name in SCALARS)} FROM patient p LEFT JOIN encounter e "
                "ON e.id = p.encounter_id"
            )
        ),
        "identifiers": sorted(rows("value, system, type, delivery_id", "patient_identifier", "value")),
        "names": sorted(rows("position, family, given, use", "patient_name", "position")),
        "telecom": sorted(rows("position, system, value, use", "patient_telecom", "patient_id")),
        "addresses": sorted(rows("position, lines, city", "patient_address", "patient_id")),
        "encounters": sorted(
            rows(
                f"value, system, COALESCE(as_of, ''), delivery_id, {', '.join(_text(name) for name in VISIT_FIELDS)}",
                "encounter",
                "value",
            )
        ),
        "events": events if order else _by_patient(events),
        "applied": sorted(rows("delivery_id", "applied", "delivery_id")),
    }


def _by_patient(events: Sequence[list[Any]]) -> dict[str, list[list[Any]]]:
    lanes: dict[str, list[list[Any]]] = {}
    for event in events:
        lanes.setdefault(event[0], []).append(event)
    return lanes


def _text(name: str) -> str:
    return f"COALESCE(CAST({'p' if name in SCALARS else 'encounter'}.{name} AS text), '')"
