"""The patient store, on both databases: one effect per delivery, one patient per medical record number."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.canonical.model import Address, Identifier, Location, Name, Telecom
from broker.delivery import Delivered, Delivery, Rejected
from broker.errors import StoreUnavailable
from broker.sql import Connection, connect
from dispatch.patients import apply as applying
from dispatch.patients import writes
from dispatch.patients.known import Known
from dispatch.patients.queries import find
from dispatch.patients.schema import metadata
from tests.prm_events import apply, assert_known_as_read, deliver, merged, mrn, state, told, visit

SSN = Identifier(value="123-45-6789", system="SSA", type="SS")


@pytest.fixture
def store(laid_urls: str) -> Iterator[Connection]:
    """A connection to an empty patient store."""
    connection = connect(laid_urls)
    yield connection
    connection.close()


def count(connection: Connection, table: str) -> int:
    """Return how many rows a table holds."""
    return int(connection.rows(f"SELECT count(*) FROM {table}")[0][0])


# One effect per delivery.


def test_delivery_takes_effect_once_when_sent_again(store: Connection) -> None:
    first = told(1, "0012", family="Okafor", at="2026-01-01")
    deliver(store, first)
    before = state(store)
    deliver(store, first)
    deliver(store, told(2, "0099"), first, first)
    after = state(store)
    assert [event for event in after["events"] if event[0] != "0099|MERCY"] == before["events"]
    assert count(store, "applied") == 2


def test_old_delivery_changes_nothing_when_sent_again_later(store: Connection) -> None:
    old = told(1, "0012", family="Okafor")
    deliver(store, old, told(2, "0012", family="Obi"))
    deliver(store, old)
    assert find(store, "0012")[0].family == "Obi"


def test_batch_has_no_effect_when_it_fails_before_commit(store: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise StoreUnavailable(name)

    batch = [told(1, "0012", family="Okafor"), told(2, "0013", family="Obi")]
    with monkeypatch.context() as patch:
        patch.setattr(writes, "write_events", lambda *_: fail("events"))
        with pytest.raises(StoreUnavailable):
            apply(store, *batch)
    assert count(store, "patient") == count(store, "applied") == 0
    deliver(store, *batch)
    assert count(store, "patient_event") == 2


def test_crash_points_stand_on_both_sides_of_the_commit(store: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(applying, "crash_point", lambda name: seen.append((name, count(store, "applied"))))
    deliver(store, told(1, "0012"))
    assert seen == [("prm.before_commit", 1), ("prm.after_commit", 1)]


# One patient per medical record number, and nothing else.


def test_two_deliveries_of_a_batch_make_one_patient_when_their_number_is_new(store: Connection) -> None:
    deliver(store, told(1, "0012", family="Okafor"), told(2, "0012", birth_date="1962-09-10"))
    (patient,) = find(store, "0012")
    assert (patient.family, patient.birth_date, patient.version) == ("Okafor", "1962-09-10", 2)
    assert count(store, "patient") == 1


def test_shared_security_number_never_makes_one_patient_of_two(store: Connection) -> None:
    deliver(store, *(told(n, f"00{n}", family=f"F{n}", identifiers=(mrn(f"00{n}"), SSN)) for n in range(1, 9)))
    assert count(store, "patient") == 8
    for number in range(1, 9):
        (patient,) = find(store, f"00{number}")
        assert patient.family == f"F{number}"
        assert SSN in patient.identifiers


def test_same_number_of_two_authorities_is_two_patients(store: Connection) -> None:
    deliver(store, told(1, "0012", family="Okafor"), told(2, "0012", system="NORTH", family="Obi"))
    assert [patient.family for patient in find(store, "0012")] == ["Okafor", "Obi"]
    assert [patient.family for patient in find(store, "0012", "NORTH")] == ["Obi"]
    assert find(store, "0012", "SOUTH") == []


# What an event changes.


def test_lists_are_replaced_and_unsaid_fields_stay_when_updated(store: Connection) -> None:
    home, work = Telecom(value="1", use="home"), Telecom(value="2", use="work")
    name = Name(family="Okafor", given=("Ada", "N"))
    address = Address(lines=("1 High St", "Flat 2"), city="Leeds")
    deliver(
        store, told(1, "1", names=(name,), telecom=(home, work), addresses=(address,), sex="female", deceased=False)
    )
    deliver(store, told(2, "1", telecom=(work,), identifiers=(SSN,)))
    (patient,) = find(store, "1")
    assert patient.telecom == (work,)
    assert patient.names == (name,)
    assert patient.addresses == (address,)
    assert (patient.sex, patient.deceased) == ("female", False)
    assert patient.identifiers == (mrn("1"), SSN)
    assert patient.timeline[0].changed == ("telecom", "identifiers")


def test_fields_are_emptied_when_sent_as_null(store: Connection) -> None:
    deliver(store, told(1, "1", telecom=(Telecom(value="1"),), mobile="+12025550123", sex="male", identifiers=(SSN,)))
    deliver(store, told(2, "1", cleared=("patient.telecom", "patient.mobile", "patient.sex", "patient.identifiers")))
    (patient,) = find(store, "1")
    assert (patient.telecom, patient.mobile, patient.sex, patient.identifiers) == ((), None, None, (mrn("1"),))


def test_unchanged_update_writes_only_its_line_in_the_timeline(store: Connection) -> None:
    fields: dict[str, Any] = {"family": "Okafor", "names": (Name(family="Okafor"),)}
    stay = visit("V1", location=Location(room="101"))
    deliver(store, told(1, "1", at="2026-01-01", encounter=stay, **fields))
    before = state(store)
    deliver(store, told(2, "1", at="2026-01-01", encounter=stay, **fields))
    after = state(store)
    assert {name for name in before if before[name] != after[name]} == {"events", "applied"}


def test_late_event_keeps_newer_details_and_is_marked(store: Connection) -> None:
    deliver(store, told(1, "1", at="2026-02-02", family="New"), told(2, "1", at="2026-01-01", family="Old"))
    (patient,) = find(store, "1")
    assert patient.family == "New"
    assert [event.late for event in patient.timeline] == [True, False]
    deliver(store, told(3, "1", at="2026-01-01T10:00:00Z", family="Unclear"))  # not comparable: it counts
    assert find(store, "1")[0].family == "Unclear"


def test_encounter_follows_its_events(store: Connection) -> None:
    ward = {"location": Location(room="101")}
    other = {"location": Location(room="202")}
    steps = [
        ("encounter.planned", {}, ("planned", None, None)),
        ("encounter.admitted", ward, ("in-progress", "101", None)),
        ("encounter.transferred", other, ("in-progress", "202", "101")),
        ("encounter.discharged", {"discharged_at": "2026-01-03", "disposition": "01"}, ("finished", "202", "101")),
        ("patient.updated", {"status": "in-progress"}, ("finished", "202", "101")),
        ("encounter.discharge_cancelled", {}, ("in-progress", "202", "101")),
        ("encounter.admission_cancelled", {}, ("cancelled", "202", "101")),
    ]
    for number, (kind, fields, expected) in enumerate(steps, 1):
        deliver(store, told(number, "1", kind, encounter=visit("V1", **cast("dict[str, Any]", fields))))
        (stay,) = find(store, "1")[0].encounters
        places = [place["room"] if place else None for place in (stay.location, stay.prior_location)]
        assert (stay.status, *places) == expected, kind
        assert (stay.discharged_at, stay.disposition) == (
            ("2026-01-03", "01") if expected[0] == "finished" else (None, None)
        )


def test_late_encounter_event_does_not_undo_a_newer_one(store: Connection) -> None:
    deliver(store, told(1, "1", "encounter.discharged", at="2026-01-03", encounter=visit("V1")))
    deliver(store, told(2, "1", "encounter.admitted", at="2026-01-01", encounter=visit("V1")))
    deliver(store, told(3, "1", "encounter.admitted", at="2026-01-02", encounter=visit("V2")))
    (patient,) = find(store, "1")
    assert {stay.identifier.value: stay.status for stay in patient.encounters} == {
        "V1": "finished",
        "V2": "in-progress",
    }
    assert [event.late for event in patient.timeline] == [True, True, False]


def test_encounter_repeated_later_guards_against_what_happened_between(store: Connection) -> None:
    here, there = visit("V1", location=Location(room="1")), visit("V1", location=Location(room="2"))
    deliver(store, told(1, "1", at="2026-01-01", encounter=here))
    deliver(store, told(2, "1", at="2026-01-03", encounter=here))
    deliver(store, told(3, "1", at="2026-01-02", encounter=there))
    assert find(store, "1")[0].encounters[0].location == {"room": "1"}


def test_visit_number_shared_by_patients_is_an_encounter_of_each(store: Connection) -> None:
    deliver(store, *(told(n, str(n), "encounter.admitted", encounter=visit("V1")) for n in range(1, 4)))
    assert count(store, "encounter") == 3


# Merges.


def test_merge_lets_the_old_number_resolve_to_the_survivor(store: Connection) -> None:
    deliver(store, told(1, "OLD", "encounter.admitted", family="Old", encounter=visit("V1"), identifiers=(SSN,)))
    deliver(store, told(2, "NEW", family="New"), merged(3, "NEW", "OLD"), told(4, "OLD", sex="female"))
    by_new, by_old = find(store, "NEW"), find(store, "OLD")
    assert by_new == by_old
    (patient,) = by_new
    assert (patient.mrn, patient.merged_from) == (mrn("NEW"), (mrn("OLD"),))
    assert (patient.family, patient.sex) == ("New", "female")
    assert set(patient.identifiers) == {mrn("NEW"), mrn("OLD"), SSN}
    assert [stay.mrn.value for stay in patient.encounters] == ["OLD"]
    assert [event.kind for event in patient.timeline] == [
        "patient.updated",
        "patient.merged",
        "patient.updated",
        "encounter.admitted",
    ]


def test_record_number_that_changed_keeps_its_patient(store: Connection) -> None:
    changed = merged(2, "NEW", "OLD", kind="patient.identifier_changed")
    deliver(store, told(1, "OLD", family="Okafor", encounter=visit("V1")), changed, told(3, "OLD", sex="female"))
    (patient,) = find(store, "NEW")
    assert find(store, "OLD") == [patient]
    assert (patient.mrn, patient.sex, len(patient.encounters)) == (mrn("NEW"), "female", 1)


def test_encounter_goes_on_under_the_survivor_after_a_merge(store: Connection) -> None:
    deliver(store, told(1, "OLD", "encounter.admitted", encounter=visit("V1")), merged(2, "NEW", "OLD"))
    deliver(store, told(3, "NEW", "encounter.discharged", encounter=visit("V1")))
    (patient,) = find(store, "NEW")
    assert [(stay.identifier.value, stay.status) for stay in patient.encounters] == [("V1", "finished")]


def test_merges_of_merges_resolve_to_the_last_survivor(store: Connection) -> None:
    deliver(store, told(1, "A"), told(2, "B"), told(3, "C"), merged(4, "B", "A"), merged(5, "C", "B"))
    deliver(store, merged(6, "B", "D"))  # the survivor was merged itself: what it became survives
    for number in ("A", "B", "D"):
        assert [patient.mrn.value for patient in find(store, number)] == ["C"]
    survivors = store.rows(
        "SELECT count(*) FROM patient p JOIN patient s ON s.id = p.survivor_id WHERE s.survivor_id > 0"
    )
    assert survivors == [(0,)]


def test_merge_makes_patients_that_are_unknown(store: Connection) -> None:
    deliver(store, merged(1, "NEW", "OLD", SSN, family="New"))
    (patient,) = find(store, "OLD")
    assert (patient.mrn, patient.family, patient.merged_from) == (mrn("NEW"), "New", (mrn("OLD"),))
    assert SSN in patient.identifiers


def test_merge_again_changes_nothing_but_the_timeline(store: Connection) -> None:
    deliver(store, told(1, "OLD"), merged(2, "NEW", "OLD"))
    before = state(store)
    deliver(store, merged(3, "NEW", "OLD"))
    after = state(store)
    assert {name for name in before if before[name] != after[name]} == {"events", "applied"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (merged(1, "B", "A"), merged(2, "A", "A"), "are the same"),
        (merged(1, "B", "A"), merged(2, "A", "B"), "was itself merged into the retired"),
        (merged(1, "B", "A"), merged(2, "C", "A"), "into another survivor"),
    ],
)
def test_merge_is_refused_when_it_contradicts(store: Connection, first: Delivery, second: Delivery, words: str) -> None:
    deliver(store, first)
    before = state(store)
    outcomes = apply(store, told(3, "Z"), second, told(4, "Z"))
    assert [type(outcome) for outcome in outcomes] == [Delivered, Rejected, Delivered]
    assert isinstance(outcomes[1], Rejected)
    assert words in outcomes[1].reason
    after = state(store)
    assert [patient for patient in after["patients"] if patient[0] != "Z|MERCY"] == before["patients"]
    assert second.id not in [row[1] for row in after["applied"]]


# Any history ends the same, however it is cut, repeated or interrupted.

_TIMES = st.sampled_from([None, "2026-01-01", "2026-01-02", "2026-01-03"])
_KINDS = st.sampled_from(
    ["patient.updated", "encounter.admitted", "encounter.transferred", "encounter.discharged", "patient.registered"]
)
_VISITS = st.none() | st.builds(
    lambda number, room: visit(number, location=room and Location(room=room)),
    st.sampled_from(["V1", "V2"]),
    st.sampled_from([None, "101", "202"]),
)
_TELECOM = st.lists(st.builds(Telecom, value=st.sampled_from("12")), max_size=2).map(tuple)
_TOLD = st.builds(
    lambda who, kind, at, stay, family, telecom, cleared: (
        lambda number: told(number, who, kind, at=at, encounter=stay, family=family, telecom=telecom, cleared=cleared)
    ),
    st.sampled_from("ABC"),
    _KINDS,
    _TIMES,
    _VISITS,
    st.sampled_from([None, "Okafor", "Obi"]),
    _TELECOM,
    st.sampled_from([(), (), ("patient.family",), ("patient.telecom", "encounter.location")]),
)
_MERGED = st.builds(
    lambda survivor, retired, family: lambda number: merged(number, survivor, retired, family=family),
    st.sampled_from("ABC"),
    st.sampled_from("ABC"),
    st.sampled_from([None, "Okafor"]),
)
_EVENTS = st.lists(st.one_of(_TOLD, _TOLD, _TOLD, _MERGED), min_size=1, max_size=14)


def test_of_two_visits_with_one_number_the_one_heard_of_first_is_the_older(store: Connection) -> None:
    names = [f"{number * 7 % 20:02}" for number in range(20)]  # in no order of theirs
    apply(store, *(told(number, who, encounter=visit("V1")) for number, who in enumerate(names, 1)))
    rows = store.rows("SELECT p.mrn_value FROM encounter e JOIN patient p ON p.id = e.patient_id ORDER BY e.id")
    assert [row[0] for row in rows] == names


def _lane_order(events: list[Callable[[int], Delivery]]) -> list[Delivery]:
    return [event(number) for number, event in enumerate(events, 1)]


@contextlib.contextmanager
def _emptied(store: Connection) -> Iterator[Connection]:
    store.run("UPDATE patient SET survivor_id = NULL")
    for table in reversed(metadata.sorted_tables):
        store.run(f"DELETE FROM {table.name}")
    yield store


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=_EVENTS, data=st.data())
def test_batches_redeliveries_and_failures_end_as_each_event_once(
    store: Connection, monkeypatch: pytest.MonkeyPatch, events: list[Callable[[int], Delivery]], data: st.DataObject
) -> None:
    deliveries = _lane_order(events)
    with _emptied(store):
        taken = [delivery for delivery in deliveries if apply(store, delivery) == [Delivered()]]
        expected = state(store)
    with _emptied(store):
        position, memory = 0, Known(store)
        while position < len(deliveries):
            size = data.draw(st.integers(1, 6), label="size")
            due = deliveries[position : position + size]
            # Not those that were refused: what happened since may have made them right.
            known = [delivery for delivery in taken if delivery.id <= due[-1].id]
            batch = [*due, *(data.draw(st.lists(st.sampled_from(known), max_size=3), label="again") if known else ())]
            if data.draw(st.booleans(), label="fails"):
                with monkeypatch.context() as patch:
                    patch.setattr(applying, "crash_point", _unavailable)  # just before the commit
                    with pytest.raises(applying.CommitUnknown):
                        apply(store, *batch, known=memory)
            apply(store, *batch, known=memory)
            assert_known_as_read(store, memory)
            position += size
        assert state(store) == expected


def _unavailable(*_: object) -> None:
    raise StoreUnavailable


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_TOLD, min_size=2, max_size=12), data=st.data())
def test_lanes_may_interleave_in_any_way(
    store: Connection, events: list[Callable[[int], Delivery]], data: st.DataObject
) -> None:
    deliveries = _lane_order(events)
    with _emptied(store):
        for delivery in deliveries:
            apply(store, delivery)
        expected = state(store, order=False)
    lanes: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        lanes.setdefault(delivery.request.split(b'["', 2)[2][:1].decode(), []).append(delivery)
    with _emptied(store):
        while lanes:
            batch = []
            for lane in data.draw(st.sets(st.sampled_from(sorted(lanes)), min_size=1), label="lanes"):
                batch.append(lanes[lane].pop(0))
                if not lanes[lane]:
                    del lanes[lane]
            apply(store, *batch)
        assert state(store, order=False) == expected
