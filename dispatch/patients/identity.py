"""This module finds out who is meant: it turns medical record numbers into records, locked and read.

A patient is identified by the whole key (value, system, type) of ``patient.mrn`` and by nothing else. Any other
identifier is an attribute: a social security number that two charts share must never make one chart of them.

Locks are always taken in the same order (new keys as sorted, then patients by id), so that two writers wait for each
other instead of blocking each other. SQLite needs none: its transaction is alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from broker.sql import Connection
from dispatch.patients.known import Held
from dispatch.patients.records import Details, Record, Visit
from dispatch.patients.said import LISTS, SCALARS, VISIT_FIELDS, Key, Said, VisitKey

_MEANT: Final = "FROM v JOIN patient p ON p.mrn_value = v.value AND p.mrn_system = v.system AND p.mrn_type = v.type"
_FIND: Final = (
    "WITH v(value, system, type) AS ({v}) SELECT p.mrn_value, p.mrn_system, p.mrn_type, p.id, p.survivor_id " + _MEANT,
    "text text text",
)
_STATE: Final = "p.id, p.digest, p.as_of, e.id, e.value, e.system, e.digest, e.as_of"
_LAST_VISIT: Final = "LEFT JOIN encounter e ON e.id = p.encounter_id"
_FIND_AND_READ: Final = (
    "WITH v(value, system, type) AS ({v}) SELECT p.mrn_value, p.mrn_system, p.mrn_type, p.survivor_id, "
    f"{_STATE} {_MEANT} {_LAST_VISIT}",
    "text text text",
)
_READ: Final = (f"SELECT {_STATE} FROM patient p {_LAST_VISIT} WHERE p.id IN ({{v}})", "bigint")  # noqa: S608
_CREATE: Final = (
    "INSERT INTO patient (mrn_value, mrn_system, mrn_type, version, updated_at, delivery_id, source_id) {v} "
    "ON CONFLICT DO NOTHING RETURNING mrn_value, mrn_system, mrn_type, id",
    "text text text integer double bigint integer",
)
_LOCK: Final = (
    "SELECT id, survivor_id, digest, as_of, encounter_id FROM patient WHERE id IN ({v}) ORDER BY id FOR UPDATE",
    "bigint",
)
_LAST_VISITS: Final = ("SELECT id, value, system, digest, as_of FROM encounter WHERE id IN ({v})", "bigint")
_FAMILY: Final = ("SELECT survivor_id, id FROM patient WHERE survivor_id IN ({v})", "bigint")
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

_NO_VISIT: Final = (None,) * 5

Found = dict[Key, tuple[int, int | None]]  # patient and survivor


class Claimed(NamedTuple):
    """Whom the keys of a batch mean, which holds until its own transaction merges some, and who is new."""

    found: Found
    created: set[int]  # patients that this transaction made, of which nothing can be known


def claim(connection: Connection, keys: Mapping[Key, Said], retired: set[Key], held: Held, now: float) -> Claimed:
    """Make the patients that do not exist yet, lock all that a batch is about, and hold what is known of them.

    ``keys`` says for each medical record number what was said of it first; ``retired`` are those that a merge makes
    cease, whose own retired ones are locked too.
    """
    if connection.dialect == "postgresql":
        found, created = _make(connection, keys, look_up(connection, list(keys)), now)
        found, held.records = _locked(connection, retired, found, created)
        return Claimed(found, created)
    found = _found(connection, keys, held)
    if len(found) == len(keys):
        return Claimed(found, set())
    found, created = _make(connection, keys, found, now)
    held.records.update((one, Record(one)) for one in created)
    held.patients.update((key, one) for key, (one, _survivor) in found.items() if one in created)
    return Claimed(found, created)


def _found(connection: Connection, keys: Iterable[Key], held: Held) -> Found:
    """Return whom the keys mean that somebody has, reading and holding those who are not held."""
    found: Found = {}
    asked = []
    for key in keys:
        one = held.patients.get(key)
        if one is None:
            asked.append(key)
        else:
            found[key] = (one, None)
    for value, system, kind, survivor, *state in connection.bulk(*_FIND_AND_READ, asked):
        found[value, system, kind] = (state[0], survivor)
        if survivor is None:
            held.patients[value, system, kind] = state[0]
            held.records.setdefault(state[0], _record(*state))
    return found


def _make(connection: Connection, keys: Mapping[Key, Said], found: Found, now: float) -> tuple[Found, set[int]]:
    """Make the patients that were not found; return whom all keys mean then, and who is new."""
    missing = sorted(keys.keys() - found.keys())
    if not missing:
        return found, set()
    rows = [(*key, 0, now, keys[key].delivery_id, keys[key].source_id) for key in missing]
    made: Found = {(row[0], row[1], row[2]): (row[3], None) for row in connection.bulk(*_CREATE, rows)}
    # The others were made by another writer meanwhile.
    found = found | made | look_up(connection, [key for key in missing if key not in made])
    return found, {patient for patient, _survivor in made.values()}


def look_up(connection: Connection, keys: Sequence[Key]) -> Found:
    """Return the patient that has each key, and its survivor if it was merged; keys that nobody has are left out."""
    rows = connection.bulk(*_FIND, keys)
    return {(value, system, kind): (patient, survivor) for value, system, kind, patient, survivor in rows}


def _locked(
    connection: Connection, retired: set[Key], found: Found, created: set[int]
) -> tuple[Found, dict[int, Record]]:
    """Lock whom the keys mean, and read them now that nobody else can change them; created ones are ours alone."""
    rows: dict[int, Sequence[Any]] = dict.fromkeys(created, (None,) * 4)
    while True:
        meant = {patient for pair in found.values() for patient in pair if patient is not None}
        if retired:
            heads = {(survivor or patient,) for patient, survivor in (found[key] for key in retired)}
            meant |= {patient for _survivor, patient in connection.bulk(*_FAMILY, list(heads))}
        if meant <= rows.keys():
            return found, _with_visits(connection, rows)
        for one, *row in connection.bulk(*_LOCK, [(patient,) for patient in sorted(meant - rows.keys())]):
            rows[one] = row
        # Another writer may have merged one of them while we waited.
        found = {key: (patient, rows[patient][0]) for key, (patient, _survivor) in found.items()}


def _with_visits(connection: Connection, rows: Mapping[int, Sequence[Any]]) -> dict[int, Record]:
    asked = [(row[3],) for row in rows.values() if row[3] is not None]
    visits = {row[0]: row for row in connection.bulk(*_LAST_VISITS, asked)}
    return {
        one: _record(one, digest, as_of, *visits.get(last, _NO_VISIT))
        for one, (_survivor, digest, as_of, last) in rows.items()
    }


def resolve(connection: Connection, found: Found, held: Held) -> dict[Key, Record]:
    """Return who stands behind each key: the patient itself, or the survivor that it was merged into.

    Who is not held is read.
    """
    who = {key: survivor or patient for key, (patient, survivor) in found.items()}
    records = held.records
    missing = [(one,) for one in who.values() if one not in records]
    if missing:
        records.update((row[0], _record(*row)) for row in connection.bulk(*_READ, list(set(missing))))
    return {key: records[one] for key, one in who.items()}


def find(connection: Connection, key: Key) -> tuple[int, int | None]:
    """Return the patient that has this key, and its survivor if it was merged."""
    return look_up(connection, [key])[key]


def _record(patient: int, digest: str | None, as_of: str | None, visit_id: int | None, *visit: Any) -> Record:
    if visit_id is None:
        return Record(patient, digest, as_of)
    number, authority, visit_digest, visit_as_of = visit
    last = Visit((number, authority), visit_id, visit_digest, visit_as_of)
    return Record(patient, digest, as_of, last, {last.key: last})


def read_details(connection: Connection, events: Sequence[tuple[Record, Said]], created: set[int]) -> None:
    """Read the rest of those records for which an event says something new.

    ``created`` names patients that this transaction made, of which nothing can be known.
    """
    news = [(record, said) for record, said in events if not record.is_repeated_by(said) and record.id not in created]
    if not news:
        return
    told = {record.id: record for record, said in news if said.digest != record.digest}
    if told:
        _read_details(connection, told)
    visits = {
        (record.id, said.visit): record
        for record, said in news
        if said.visit is not None and _is_news(record.visit, said)
    }
    if visits:
        _read_visits(connection, visits)


def _is_news(last: Visit | None, said: Said) -> bool:
    return last is None or last.key != said.visit or last.digest != said.visit_digest


def _read_details(connection: Connection, records: Mapping[int, Record]) -> None:
    ids = [(patient,) for patient in records]
    details = {row[0]: Details(dict(zip(SCALARS, row[1:], strict=True))) for row in connection.bulk(*_SCALARS, ids)}
    for name in LISTS:
        for row in connection.bulk(_LISTS[name] + _IN_ORDER, "bigint", ids):
            lists = details[row[0]].lists
            lists[name] = (*lists.get(name, ()), row[1:])
    for patient, *identifier in connection.bulk(*_IDENTIFIERS, ids):
        details[patient].identifiers.add((identifier[0], identifier[1], identifier[2]))
    for patient, record in records.items():
        record.details = details[patient]


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
