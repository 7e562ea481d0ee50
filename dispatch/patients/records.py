"""This module says how an event changes a patient's record: pure rules over records that were read from the store.

- *Not said* keeps what is known; a field named in ``cleared`` is emptied. Names, telecom and addresses are replaced as
  whole lists, and what the message derived from them (family and given name, mobile and email) with them. Identifiers
  only ever come in addition.
- An event that surely happened before the one that the record shows does not overwrite it (``late``).
- An encounter's status follows from the kinds of its events; an update alone never moves it.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from dispatch.patients.said import VISIT_FIELDS, Key, ListRow, Said, VisitKey, encounter_said, patient_said
from dispatch.patients.times import is_older

_STATUS: Final = {
    "encounter.admitted": "in-progress",
    "encounter.transferred": "in-progress",
    "encounter.swapped": "in-progress",
    "encounter.discharged": "finished",
    "encounter.planned": "planned",
    "encounter.class_changed": "in-progress",
    "encounter.admission_cancelled": "cancelled",
    "encounter.transfer_cancelled": "in-progress",
    "encounter.discharge_cancelled": "in-progress",
    "encounter.deleted": "cancelled",
}
_MOVES: Final = frozenset({"encounter.transferred", "encounter.swapped"})
_DERIVED: Final = {"names": {"family", "given"}, "telecom": {"mobile", "email"}}


@dataclass(slots=True)
class Visit:
    """One encounter as the store knows it; ``fields`` (see `VISIT_FIELDS`) is read only when something differs."""

    key: VisitKey
    id: int | None = None  # None until it is inserted
    digest: str = ""
    as_of: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    delivery_id: int = 0  # the last delivery that changed it; 0 when none of this batch did
    touched: bool = False  # as_of moved on
    own: bool = True  # not that of a patient who was merged into this one
    first: int = 0  # the delivery that it was first heard from, where that is one of this batch


@dataclass(slots=True)
class Details:
    """The parts of a record that are read only when a delivery says something new, and what the batch made of them."""

    scalars: dict[str, Any] = field(default_factory=dict)
    lists: dict[str, tuple[ListRow, ...]] = field(default_factory=dict)
    identifiers: set[Key] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)  # lists to write anew
    added: dict[Key, int] = field(default_factory=dict)  # identifier -> delivery
    lost_identifiers: bool = False


@dataclass(slots=True)
class Record:
    """One patient's record as far as a batch needs it, and what the batch made of it."""

    id: int
    digest: str | None = None
    as_of: str | None = None
    visit: Visit | None = None  # the one heard of last
    visits: dict[VisitKey, Visit] = field(default_factory=dict)
    details: Details | None = None  # None until they are read; of a new patient there are none
    changes: int = 0  # how many events of this batch changed it
    delivery_id: int = 0  # the last that did
    source_id: int = 0
    is_later: bool = False  # as_of moved on
    touched: bool = False  # digest or visit did
    visits_touched: bool = False  # one of them did

    def is_repeated_by(self, said: Said) -> bool:
        """Say whether an event says nothing but what is known already."""
        last = self.visit
        return said.digest == self.digest and (
            said.visit is None or (last is not None and last.digest == said.visit_digest and last.key == said.visit)
        )

    def settle(self) -> None:
        """Forget what it took to change the record, now that it is written: it is then as it would be read."""
        self.details = None
        self.changes = self.delivery_id = self.source_id = 0
        self.is_later = self.touched = self.visits_touched = False
        last = self.visit
        if last is not None:
            last.fields, last.own, last.touched = {}, True, False
            last.delivery_id = last.first = 0
        if len(self.visits) > (last is not None):
            self.visits = {last.key: last} if last is not None else {}


def apply(record: Record, said: Said) -> tuple[bool, str | None]:
    """Change the record as the event says; return whether it came late, and the names of the fields that changed."""
    changed: list[str] = []
    at = said.occurred_at
    late = is_older(at, record.as_of)
    if not late:
        if said.digest != record.digest:
            changed += _revise(record, said)
            record.digest, record.touched = said.digest, True
        if at is not None and at != record.as_of:
            record.as_of, record.is_later = at, True
    if said.visit is not None:
        late |= _visit(record, said.visit, said, changed)
    return late, ",".join(changed) if changed else None


def _revise(record: Record, said: Said) -> list[str]:
    scalars, lists, identifiers = patient_said(said)
    cleared = {name.removeprefix("patient.") for name in said.cleared if name.startswith("patient.")}
    # What the canonical mapping took from a list goes with the list.
    emptied = cleared.union(*(names for source, names in _DERIVED.items() if lists[source] or source in cleared))
    details = record.details = record.details or Details()
    changed = _set_scalars(details.scalars, scalars, emptied)
    changed += _set_lists(details, lists, cleared)
    changed += _add_identifiers(details, identifiers | {said.key}, cleared, said.delivery_id)
    if changed:
        record.changes += 1
        record.delivery_id, record.source_id = said.delivery_id, said.source_id
    return changed


def _set_scalars(known: dict[str, Any], said: dict[str, Any], emptied: set[str]) -> list[str]:
    changed = []
    for name, value in said.items():
        after = known.get(name) if value is None and name not in emptied else value
        if after != known.get(name):
            known[name] = after
            changed.append(name)
    return changed


def _set_lists(details: Details, said: dict[str, tuple[ListRow, ...]], cleared: set[str]) -> list[str]:
    known = details.lists
    changed = [name for name, rows in said.items() if (rows or name in cleared) and rows != known.get(name, ())]
    known.update((name, said[name]) for name in changed)
    details.replaced.update(changed)
    return changed


def _add_identifiers(details: Details, said: set[Key], cleared: set[str], delivery_id: int) -> list[str]:
    known = details.identifiers
    before = frozenset(known)
    if "identifiers" in cleared:
        known.clear()
        details.added.clear()
        details.lost_identifiers = True
    details.added.update((row, delivery_id) for row in said - known)
    known |= said
    return ["identifiers"] if known != before else []


def _visit(record: Record, key: VisitKey, said: Said, changed: list[str]) -> bool:
    visit = record.visits.get(key)
    if visit is None:
        visit = record.visits[key] = Visit(key, first=said.delivery_id)
    if is_older(said.occurred_at, visit.as_of):
        return True
    if visit.digest != said.visit_digest:
        changed += _revise_visit(visit, said)
        record.visits_touched = True
    if said.occurred_at is not None and said.occurred_at != visit.as_of:
        visit.as_of, visit.touched, record.visits_touched = said.occurred_at, True, True
    if record.visit is not visit:
        record.visit, record.touched = visit, True
    return False


def _revise_visit(visit: Visit, said: Said) -> list[str]:
    known = visit.fields
    said_fields = encounter_said(said)
    after = {
        name: known.get(name) if value is None and f"encounter.{name}" not in said.cleared else value
        for name, value in said_fields.items()
    }
    after["status"] = _status(said.kind, said_fields["status"], known.get("status"))
    if said.kind in _MOVES and said_fields["prior_location"] is None:
        moved = after["location"] != known.get("location")
        after["prior_location"] = known.get("location") if moved else known.get("prior_location")
    if said.kind == "encounter.discharge_cancelled":
        after["discharged_at"] = after["disposition"] = None
    created = visit.id is None and not known
    changed = [f"encounter.{name}" for name in VISIT_FIELDS if after[name] != known.get(name)]
    visit.digest, visit.fields, visit.delivery_id, visit.touched = said.visit_digest, after, said.delivery_id, True
    return ["encounter"] if created else changed


def _status(kind: str, said: str | None, known: str | None) -> str | None:
    moved = _STATUS.get(kind)
    if moved is not None:
        return moved
    if kind == "encounter.plan_cancelled" and said == "cancelled":  # the stay; else a move or discharge was planned
        return said if known in {None, "planned"} else known
    if kind == "patient.registered":
        waiting = known in {None, "planned", "cancelled"}
        return said or ("arrived" if waiting else known)
    return known or said
