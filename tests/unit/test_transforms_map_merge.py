"""What ceases, changes or moves: MRG, and the second patient of a link."""

import pytest

from broker.canonical.model import Identifier
from broker.errors import StepError
from tests.mapping import PID, PV1, mapped

OLD = Identifier(value="00999", system="MERCY", type="MR")


@pytest.mark.parametrize("trigger", ["A18", "A30", "A34", "A36", "A39", "A40"])
def test_every_merge_names_the_record_that_ceases(trigger: str) -> None:
    event = mapped(f"ADT^{trigger}", PID, "MRG|00999^^^MERCY^MR||ACC1|||V1^^^MERCY^VN")
    assert event.kind == "patient.merged"
    assert event.merge is not None
    assert (event.merge.mrn, event.merge.account) == (OLD, Identifier(value="ACC1"))
    assert event.encounter is None


def test_patient_id_of_older_versions_stands_in_for_the_list() -> None:
    merge = mapped("ADT^A34", PID, "MRG||ALT1||00999").merge
    assert merge is not None
    assert merge.mrn == OLD
    assert merge.identifiers == (OLD, Identifier(value="ALT1"))


@pytest.mark.parametrize("trigger", ["A35", "A41", "A42", "A43", "A44", "A45", "A50"])
def test_what_is_moved_is_told_with_its_numbers(trigger: str) -> None:
    event = mapped(f"ADT^{trigger}", PID, "MRG|00999^^^MERCY^MR||ACC1||V7^^^MERCY^VN", PV1)
    assert event.kind == "patient.account_moved"
    assert event.merge is not None
    assert (event.merge.mrn, event.merge.visit) == (OLD, Identifier(value="V7", system="MERCY", type="VN"))
    assert event.encounter is not None


def test_account_that_changes_its_number_stays_with_its_patient() -> None:
    event = mapped("ADT^A49", PID, "MRG|||ACC1")
    assert event.merge is not None
    assert event.merge.mrn == event.patient.mrn
    assert event.merge.account == Identifier(value="ACC1")


@pytest.mark.parametrize("trigger", ["A46", "A47", "A48", "A51"])
def test_number_that_changes_is_told_with_the_one_before(trigger: str) -> None:
    event = mapped(f"ADT^{trigger}", PID, "MRG|00999^^^MERCY^MR")
    assert event.kind == "patient.identifier_changed"
    assert event.merge is not None
    assert event.merge.mrn == OLD


@pytest.mark.parametrize(("trigger", "kind"), [("A24", "patient.linked"), ("A37", "patient.unlinked")])
def test_link_names_both_records(trigger: str, kind: str) -> None:
    event = mapped(f"ADT^{trigger}", PID, "PID|2||00999^^^MERCY^MR||Obi^Ada")
    assert (event.kind, event.merge) == (kind, None)
    assert event.linked is not None
    assert (event.linked.mrn, event.linked.family) == (OLD, "Obi")


@pytest.mark.parametrize("trigger", ["A40", "A45", "A47"])
def test_several_pairs_are_refused(trigger: str) -> None:
    with pytest.raises(StepError, match="several pairs of PID and MRG") as caught:
        mapped(f"ADT^{trigger}", PID, "MRG|1", "MRG|2")
    assert caught.value.location == "MRG"
