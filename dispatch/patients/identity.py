"""This module finds out who is meant: it turns medical record numbers into records, locked and read.

A patient is identified by the whole key (value, system, type) of ``patient.mrn`` and by nothing else. Any other
identifier is an attribute: a social security number that two charts share must never make one chart of them.

Locks are always taken in the same order (new keys as sorted, then patients by id), so that two writers wait for each
other instead of blocking each other. SQLite needs none: its transaction is alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from broker.sql import Connection
from dispatch.patients.records import Details, Record, Visit
from dispatch.patients.said import LISTS, SCALARS, VISIT_FIELDS, Key, Said, VisitKey

_FIND: Final = (
    "WITH v(value, system, type) AS ({v}) SELECT p.mrn_value, p.mrn_system, p.mrn_type, p.id, p.survivor_id "
    "FROM v JOIN patient p ON p.mrn_value = v.value AND p.mrn_system = v.system AND p.mrn_type = v.type",
    "text text text",
)
_CREATE: Final = (
    "INSERT INTO patient (mrn_value, mrn_system, mrn_type, version, updated_at, delivery_id, source_id) {v} "
    "ON CONFLICT DO NOTHING RETURNING id",
    "text text text integer double bigint integer",
)
_LOCK: Final = ("SELECT id FROM patient WHERE id IN ({v}) ORDER BY id FOR UPDATE", "bigint")
_FAMILY: Final = ("SELECT survivor_id, id FROM patient WHERE survivor_id IN ({v})", "bigint")
_READ: Final = (
    "SELECT p.id, p.survivor_id, p.mrn_value, p.mrn_system, p.mrn_type, p.digest, p.as_of, "
    "e.id, e.value, e.system, e.digest, e.as_of "
    "FROM patient p LEFT JOIN encounter e ON e.id = p.encounter_id WHERE p.id IN ({v})",
    "bigint",
)
_SCALARS: Final = (f"SELECT id, {', '.join(SCALARS)} FROM patient WHERE id IN ({{v}})", "bigint")  # noqa: S608 - names of ours
_IDENTIFIERS: Final = (
    "SELECT patient_id, value, system, type FROM patient_identifier WHERE patient_id IN ({v})",
    "bigint",
)
_LISTS: Final = {
    "names": "SELECT patient_id, family, given, prefix, suffix, use FROM patient_name",
    "telecom": "SELECT patient_id, system, value, use FROM patient_telecom",
    "addresses": "SELECT patient_id, lines, city, district, state, postal_code, country, use FROM patient_address",
}
_IN_ORDER: Final = " WHERE patient_id IN ({v}) ORDER BY patient_id, position"
_VISITS: Final = (
    "WITH v(patient_id, value, system, record_id) AS ({v}) SELECT v.record_id, "  # noqa: S608 - names of ours
    f"e.patient_id, e.value, e.system, e.id, e.digest, e.as_of, {', '.join(VISIT_FIELDS)} "
    "FROM v JOIN encounter e ON e.patient_id = v.patient_id AND e.value = v.value AND e.system = v.system",
    "bigint text text bigint",
)

Found = dict[Key, tuple[int, int | None]]  # patient and survivor


def claim(
    connection: Connection, keys: Mapping[Key, tuple[int, int]], retired: set[Key], now: float
) -> tuple[Found, set[int]]:
    """Make the patients that do not exist yet, and lock all that a batch is about.

    Returns whom the keys mean, which holds until the transaction itself merges some, and the ids of the new ones.
    ``keys`` says for each medical record number which delivery and source it was first heard from; ``retired`` are
    those that a merge makes cease, whose own retired ones are locked too.
    """
    wanted = sorted(keys)
    found = look_up(connection, wanted)
    missing = [key for key in wanted if key not in found]
    created: set[int] = set()
    if missing:
        made = connection.bulk(*_CREATE, [(*key, 0, now, *keys[key]) for key in missing])
        created = {row[0] for row in made}  # without those that another writer made meanwhile
        found |= look_up(connection, missing)
    if connection.dialect == "postgresql":
        found = _locked(connection, wanted, retired, found)
    return found, created


def look_up(connection: Connection, keys: Sequence[Key]) -> Found:
    """Return the patient that has each key, and its survivor if it was merged; keys that nobody has are left out."""
    rows = connection.bulk(*_FIND, keys)
    return {(value, system, kind): (patient, survivor) for value, system, kind, patient, survivor in rows}


def _locked(connection: Connection, keys: Sequence[Key], retired: set[Key], found: Found) -> Found:
    """Lock whom the keys mean; return who that is now that nobody else can change it."""
    locked: set[int] = set()
    while True:
        meant = {patient for pair in found.values() for patient in pair if patient is not None}
        if retired:
            heads = {(survivor or patient,) for patient, survivor in (found[key] for key in retired)}
            meant |= {patient for _survivor, patient in connection.bulk(*_FAMILY, list(heads))}
        if meant <= locked:
            return found
        connection.bulk(*_LOCK, [(patient,) for patient in sorted(meant)])
        locked |= meant
        # Another writer may have merged one of them while we waited.
        found = look_up(connection, keys)


def resolve(connection: Connection, found: Found) -> dict[Key, Record]:
    """Read who stands behind each key: the patient itself, or the survivor that it was merged into."""
    ids = {survivor or patient for patient, survivor in found.values()}
    records = {record.id: record for record in map(_record, connection.bulk(*_READ, [(one,) for one in ids]))}
    return {key: records[survivor or patient] for key, (patient, survivor) in found.items()}


def find(connection: Connection, key: Key) -> tuple[int, int | None]:
    """Return the patient that has this key, and its survivor if it was merged."""
    return look_up(connection, [key])[key]


def _record(row: Sequence[Any]) -> Record:
    (patient, survivor, value, system, kind, digest, as_of, visit_id, number, authority, visit_digest, visit_as_of) = (
        row
    )
    record = Record(patient, survivor, (value, system, kind), digest, as_of, None)
    if visit_id is not None:
        record.visit = Visit((number, authority), visit_id, visit_digest, visit_as_of)
        record.visits[record.visit.key] = record.visit
    return record


def read_details(connection: Connection, events: Sequence[tuple[Record, Said]], created: set[int]) -> None:
    """Read the rest of those records for which an event says something new.

    ``created`` names patients that this transaction made, of which nothing can be known.
    """
    news = {r.id: r for r, said in events if said.digest != r.digest and r.id not in created}
    if news:
        _read_details(connection, news)
    visits = {
        (record.id, said.visit): record
        for record, said in events
        if said.visit is not None and record.id not in created and _is_news(record, said)
    }
    if visits:
        _read_visits(connection, visits)


def _is_news(record: Record, said: Said) -> bool:
    visit = record.visit
    return visit is None or visit.key != said.visit or visit.digest != said.visit_digest


def _read_details(connection: Connection, records: Mapping[int, Record]) -> None:
    ids = [(patient,) for patient in records]
    for row in connection.bulk(*_SCALARS, ids):
        records[row[0]].details = Details(dict(zip(SCALARS, row[1:], strict=True)))
    for name in LISTS:
        for row in connection.bulk(_LISTS[name] + _IN_ORDER, "bigint", ids):
            lists = records[row[0]].details.lists
            lists[name] = (*lists.get(name, ()), row[1:])
    for patient, *identifier in connection.bulk(*_IDENTIFIERS, ids):
        records[patient].details.identifiers.add((identifier[0], identifier[1], identifier[2]))


def _read_visits(connection: Connection, wanted: Mapping[tuple[int, VisitKey], Record]) -> None:
    records = {record.id: record for record in wanted.values()}
    family = [(record, record) for record in records]
    family += connection.bulk(*_FAMILY, [(record,) for record in records])
    members: dict[int, list[int]] = {}
    for record, member in family:
        members.setdefault(record, []).append(member)
    asked = [(member, *key, record) for record, key in wanted for member in members[record]]
    for record_id, patient, value, system, visit_id, digest, as_of, *fields in connection.bulk(*_VISITS, asked):
        visit = Visit((value, system), visit_id, digest, as_of, dict(zip(VISIT_FIELDS, fields, strict=True)))
        _choose(records[record_id], visit, own=patient == record_id)


def _choose(record: Record, visit: Visit, *, own: bool) -> None:
    """Take a visit into the record, unless a better one has the number: the last, the patient's own, the oldest."""
    last, other = record.visit, record.visits.get(visit.key)
    if last is not None and last.id == visit.id:
        record.visit = record.visits[visit.key] = visit
    elif other is None or (other is not last and (own or (not other.own and (other.id or 0) > (visit.id or 0)))):
        visit.own = own
        record.visits[visit.key] = visit
