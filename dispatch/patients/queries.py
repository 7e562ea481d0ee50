"""This module answers who a patient is: everything that the store knows under a medical record number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from broker.canonical.model import Address, Identifier, Name, Telecom
from broker.ids import message_of, show
from broker.sql import Connection, Row
from dispatch.patients.said import SCALARS, VISIT_FIELDS

_JSON: Final = frozenset({"account", "location", "prior_location", "attending", "referring"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EncounterView:
    """One visit or stay; places and people as the canonical model's fields. ``mrn`` says under whom it was kept."""

    identifier: Identifier
    mrn: Identifier
    status: str | None
    patient_class: str | None
    location: dict[str, Any] | None
    prior_location: dict[str, Any] | None
    attending: dict[str, Any] | None
    referring: dict[str, Any] | None
    service: str | None
    admitted_at: str | None
    discharged_at: str | None
    disposition: str | None
    as_of: str | None
    updated_at: float  # POSIX seconds
    message: str  # the message that changed it last


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """One line of the timeline; ``changed`` names fields."""

    message: str
    delivery: str
    kind: str
    occurred_at: str | None
    recorded_at: float  # POSIX seconds
    late: bool
    changed: tuple[str, ...]
    channel: str
    application: str
    facility: str
    mrn: Identifier  # under whom it was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientView:
    """Everything about one patient, those merged into it included."""

    id: int
    mrn: Identifier
    merged_from: tuple[Identifier, ...]
    family: str | None
    given: str | None
    birth_date: str | None
    sex: str | None
    mobile: str | None
    email: str | None
    language: str | None
    marital_status: str | None
    deceased: bool | None
    deceased_at: str | None
    account: dict[str, Any] | None
    names: tuple[Name, ...]
    telecom: tuple[Telecom, ...]
    addresses: tuple[Address, ...]
    identifiers: tuple[Identifier, ...]
    encounters: tuple[EncounterView, ...]  # newest first
    timeline: tuple[EventView, ...]  # newest first, in the order of recording
    version: int
    as_of: str | None  # when the details were true, as far as senders said
    updated_at: float  # POSIX seconds
    message: str  # the message that changed the details last
    channel: str


def find(connection: Connection, mrn: str, system: str | None = None, *, events: int = 1000) -> list[PatientView]:
    """Return every patient whose medical record number is, or was before a merge, ``mrn``.

    Several authorities may have given the same number; ``system`` keeps to one. ``events`` limits the timeline.
    """
    sql = "SELECT DISTINCT COALESCE(survivor_id, id) FROM patient WHERE mrn_value = ?"
    given: tuple[str, ...] = (mrn,)
    if system is not None:
        sql, given = f"{sql} AND mrn_system = ?", (mrn, system)
    return [_view(connection, row[0], events) for row in sorted(connection.rows(sql, given))]


def _view(connection: Connection, patient: int, events: int) -> PatientView:
    row = connection.rows(
        f"SELECT p.version, p.as_of, p.updated_at, p.delivery_id, s.channel, {', '.join(SCALARS)} "  # noqa: S608
        "FROM patient p JOIN patient_source s ON s.id = p.source_id WHERE p.id = ?",
        (patient,),
    )[0]
    family = {
        one: Identifier(value=value, system=system, type=kind)
        for one, value, system, kind in connection.rows(
            "SELECT id, mrn_value, mrn_system, mrn_type FROM patient WHERE id = ? OR survivor_id = ? ORDER BY id",
            (patient, patient),
        )
    }
    version, as_of, updated_at, delivery, channel, *scalars = row
    return PatientView(
        id=patient,
        mrn=family[patient],
        merged_from=tuple(mrn for one, mrn in family.items() if one != patient),
        **_named(SCALARS, scalars),
        **_lists(connection, patient),
        identifiers=_identifiers(connection, family),
        encounters=_encounters(connection, family),
        timeline=_timeline(connection, family, events),
        version=version,
        as_of=as_of,
        updated_at=updated_at,
        message=show(message_of(delivery)),
        channel=channel,
    )


def _named(names: Sequence[str], values: Iterable[Any]) -> dict[str, Any]:
    named = {
        name: orjson.loads(value) if name in _JSON and value is not None else value
        for name, value in zip(names, values, strict=True)
    }
    if named.get("deceased") is not None:
        named["deceased"] = bool(named["deceased"])  # SQLite keeps it as a number
    return named


def _lists(connection: Connection, patient: int) -> dict[str, Any]:
    def rows(table: str, columns: str) -> list[Row]:
        sql = f"SELECT {columns} FROM {table} WHERE patient_id = ? ORDER BY position"  # noqa: S608 - literals below
        return connection.rows(sql, (patient,))

    return {
        "names": tuple(
            Name(family=family, given=_several(given), prefix=prefix, suffix=suffix, use=use)
            for family, given, prefix, suffix, use in rows("patient_name", "family, given, prefix, suffix, use")
        ),
        "telecom": tuple(
            Telecom(value=value or "", system=system or "phone", use=use)
            for value, system, use in rows("patient_telecom", "value, system, use")
        ),
        "addresses": tuple(
            Address(
                lines=_several(lines), city=city, district=county, state=state, postal_code=code, country=land, use=use
            )
            for lines, city, county, state, code, land, use in rows(
                "patient_address", "lines, city, district, state, postal_code, country, use"
            )
        ),
    }


def _several(text: str | None) -> tuple[str, ...]:
    return tuple(orjson.loads(text)) if text else ()


def _identifiers(connection: Connection, family: dict[int, Identifier]) -> tuple[Identifier, ...]:
    rows = connection.bulk(
        "SELECT DISTINCT value, system, type FROM patient_identifier WHERE patient_id IN ({v})",
        "bigint",
        [(one,) for one in family],
    )
    return tuple(Identifier(value=v, system=s, type=t) for t, s, v in sorted({(t, s, v) for v, s, t in rows}))


def _encounters(connection: Connection, family: dict[int, Identifier]) -> tuple[EncounterView, ...]:
    rows = connection.bulk(
        "SELECT id, patient_id, value, system, as_of, updated_at, delivery_id, "  # noqa: S608 - names of ours
        f"{', '.join(VISIT_FIELDS)} FROM encounter WHERE patient_id IN ({{v}})",
        "bigint",
        [(one,) for one in family],
    )
    return tuple(
        EncounterView(
            identifier=Identifier(value=value, system=system, type="VN"),
            mrn=family[patient],
            as_of=as_of,
            updated_at=updated_at,
            message=show(message_of(delivery)),
            **_named(VISIT_FIELDS, fields),
        )
        for _id, patient, value, system, as_of, updated_at, delivery, *fields in sorted(rows, key=_first, reverse=True)
    )


def _timeline(connection: Connection, family: dict[int, Identifier], events: int) -> tuple[EventView, ...]:
    rows: list[Row] = []
    for one in family:
        rows += connection.rows(
            "SELECT e.id, e.patient_id, e.delivery_id, e.kind, e.occurred_at, e.recorded_at, e.late, e.changed, "
            "s.channel, s.application, s.facility FROM patient_event e JOIN patient_source s ON s.id = e.source_id "
            "WHERE e.patient_id = ? ORDER BY e.id DESC LIMIT ?",
            (one, events),
        )
    return tuple(_event(family, *row[1:]) for row in sorted(rows, key=_first, reverse=True)[:events])


def _event(family: dict[int, Identifier], patient: int, delivery: int, kind: str, *row: Any) -> EventView:
    occurred_at, recorded_at, late, changed, channel, application, facility = row
    return EventView(
        message=show(message_of(delivery)),
        delivery=show(delivery),
        kind=kind,
        occurred_at=occurred_at,
        recorded_at=recorded_at,
        late=bool(late),
        changed=tuple(changed.split(",")) if changed else (),
        channel=channel,
        application=application,
        facility=facility,
        mrn=family[patient],
    )


def _first(row: Row) -> int:
    return int(row[0])
