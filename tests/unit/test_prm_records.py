"""How an event changes a patient's record: what is said, not said, emptied, derived, late."""

import pytest

from broker.canonical.model import KINDS, WITHOUT_PATIENT, Identifier, Location, Name, Telecom
from broker.delivery import Delivery
from dispatch.patients.records import Record, apply
from dispatch.patients.said import Misshapen, Said, read
from tests.prm_events import told, visit

HOME = Telecom(value="1", use="home")


def record() -> Record:
    """Return the record of a patient of whom nothing is known."""
    return Record(1)


def said(delivery: Delivery) -> Said:
    """Read a delivery that can be read."""
    result = read(delivery)
    assert isinstance(result, Said)
    return result


def tell(patient: Record, *deliveries: Delivery) -> tuple[bool, set[str]]:
    """Apply deliveries in order; return whether the last was late, and what it changed."""
    late, changed = False, None
    for delivery in deliveries:
        event = said(delivery)
        event.source_id = 7
        late, changed = apply(patient, event)
    return late, set((changed or "").split(",")) - {""}


def test_derived_fields_go_with_their_list() -> None:
    patient = record()
    names = (Name(family="Okafor", given=("Ada",)),)
    tell(patient, told(1, "1", names=names, family="Okafor", given="Ada", telecom=(HOME,), mobile="+1202", email="a@b"))
    assert tell(patient, told(2, "1", telecom=(HOME, HOME), email="c@d")) == (False, {"telecom", "mobile", "email"})
    assert patient.details is not None
    assert patient.details.scalars["mobile"] is None
    assert tell(patient, told(3, "1", names=(Name(family="Obi"),), family="Obi")) == (
        False,
        {"names", "family", "given"},
    )


def test_derived_fields_are_emptied_with_their_list() -> None:
    patient = record()
    tell(patient, told(1, "1", telecom=(HOME,), mobile="+1202"))
    assert tell(patient, told(2, "1", cleared=("patient.telecom",))) == (False, {"telecom", "mobile"})


def test_repeated_event_reads_nothing_but_its_head() -> None:
    patient, again = record(), told(2, "1", family="Okafor")
    tell(patient, told(1, "1", family="Okafor"))
    again.request = again.request.partition(b"\n")[0] + b"\nnot even JSON"
    assert tell(patient, again) == (False, set())
    assert (patient.changes, patient.delivery_id, patient.source_id) == (1, (1 << 22) + 1, 7)


def test_event_of_another_shape_is_refused() -> None:
    for old, new in ((b'"Okafor"', b"[1]"), (b'"patient":{', b'"person":{'), (b'{"kind"', b'["kind"')):
        odd = told(1, "1", family="Okafor")
        odd.request = odd.request.replace(old, new)
        with pytest.raises(Misshapen):
            tell(record(), odd)
    stay = told(1, "1", encounter=visit("V1", service="MED"))
    stay.request = stay.request.replace(b'"MED"', b"7")
    with pytest.raises(Misshapen):
        tell(record(), stay)


def test_cleared_identifiers_leave_only_what_is_said_with_it() -> None:
    patient, ssn = record(), Identifier(value="1", system="SSA", type="SS")
    tell(patient, told(1, "1", identifiers=(ssn,)), told(2, "1", cleared=("patient.identifiers",)))
    assert patient.details is not None
    assert patient.details.identifiers == set(patient.details.added) == {("1", "MERCY", "MR")}
    assert patient.details.lost_identifiers


@pytest.mark.parametrize(
    ("before", "said_status", "after"),
    [
        (None, None, "arrived"),
        ("planned", None, "arrived"),
        ("in-progress", None, "in-progress"),
        ("in-progress", "finished", "finished"),
    ],
)
def test_registration_moves_only_an_encounter_that_has_not_begun(
    before: str | None, said_status: str | None, after: str
) -> None:
    patient = record()
    if before:
        tell(patient, told(1, "1", encounter=visit("V1", status=before)))
    tell(patient, told(2, "1", "patient.registered", encounter=visit("V1", status=said_status)))
    assert patient.visits["V1", "MERCY"].fields["status"] == after


@pytest.mark.parametrize("kind", sorted(set(KINDS) - WITHOUT_PATIENT - {"patient.merged"}))
def test_every_kind_is_applied_to_patient_and_encounter(kind: str) -> None:
    patient = record()
    late, changed = tell(patient, told(1, "1", kind, family="Okafor", encounter=visit("V1", service="MED")))
    assert (late, changed) == (False, {"family", "identifiers", "encounter"})
    assert patient.visits["V1", "MERCY"].fields["service"] == "MED"


@pytest.mark.parametrize(
    ("kind", "before", "said_status", "after"),
    [
        ("encounter.class_changed", "arrived", "in-progress", "in-progress"),
        ("encounter.transfer_cancelled", "in-progress", "in-progress", "in-progress"),
        ("encounter.deleted", "in-progress", "cancelled", "cancelled"),
        ("encounter.plan_cancelled", "planned", "cancelled", "cancelled"),  # A27, A38: the stay
        ("encounter.plan_cancelled", "in-progress", "cancelled", "in-progress"),  # the stay has begun meanwhile
        ("encounter.plan_cancelled", "in-progress", "in-progress", "in-progress"),  # A25, A26: a discharge or move
        ("encounter.discharge_planned", "in-progress", "planned", "in-progress"),
        ("patient.updated", "finished", "in-progress", "finished"),
    ],
)
def test_kind_moves_the_encounter_and_an_update_does_not(kind: str, before: str, said_status: str, after: str) -> None:
    patient = record()
    tell(patient, told(1, "1", encounter=visit("V1", status=before)))
    tell(patient, told(2, "1", kind, encounter=visit("V1", status=said_status)))
    assert patient.visits["V1", "MERCY"].fields["status"] == after


def test_transfer_keeps_the_place_before_unless_it_is_said() -> None:
    patient = record()
    tell(patient, told(1, "1", "encounter.admitted", encounter=visit("V1", location=Location(room="1"))))
    moved = visit("V1", location=Location(room="2"))
    tell(patient, told(2, "1", "encounter.transferred", encounter=moved))
    tell(patient, told(3, "1", "patient.updated", encounter=visit("V1", service="MED")))
    tell(patient, told(4, "1", "encounter.transferred", encounter=moved))  # told again: nobody moved
    assert patient.visits["V1", "MERCY"].fields["prior_location"] == '{"room":"1"}'
    elsewhere = visit("V1", location=Location(room="3"), prior_location=Location(room="9"))
    tell(patient, told(5, "1", "encounter.transferred", encounter=elsewhere))
    assert patient.visits["V1", "MERCY"].fields["prior_location"] == '{"room":"9"}'


def test_late_event_still_makes_an_encounter_that_nobody_knew() -> None:
    patient = record()
    tell(patient, told(1, "1", at="2026-01-02", family="New"))
    late = told(2, "1", "encounter.admitted", at="2026-01-01", family="Old", encounter=visit("V1"))
    assert tell(patient, late) == (True, {"encounter"})
    assert patient.as_of == "2026-01-02"
