"""This module tests the standard mapping of problems."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Concept, Condition, Event, Identifier
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_problem import map_problem

MSH = "MSH|^~\\&|EHR|MERCY|HANDOFF|PRM|20240501103000||PPR^PC1^PPR_PC1|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"


def map_segments(*segments: str) -> Event:
    event = map_problem(Message.parse("\r".join([MSH, PID, *segments]).encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def prb(**fields: str) -> str:
    values = {1: "AD", 3: "I10^Hypertension^I10", **{int(key[1:]): value for key, value in fields.items()}}
    return "|".join(["PRB", *(values.get(number, "") for number in range(1, max(values) + 1))])


def test_problem_is_mapped_field_by_field() -> None:
    event = map_segments(
        "PV1|1|O",
        prb(
            f2="20240501", f4="7^EHR", f7="20230101", f13="C^Confirmed", f14="ACTIVE", f16="2022", f17="years", f18="2"
        ),
        "NTE|1||since pregnancy",
        "GOL|AD|20240501|G1^Lower it^L",
        "NTE|1||about the goal",
    )
    assert event.kind == "condition.recorded"
    assert event.conditions == (
        Condition(
            code=Concept(code="I10", system="I10", text="Hypertension"),
            identifier=Identifier(value="7", system="EHR"),
            category="problem-list-item",
            clinical_status="active",
            verification_status="confirmed",
            rank=2,
            onset_at="2022",
            recorded_at="2024-05-01",
            notes=("years", "since pregnancy"),
        ),
    )
    assert event.encounter is not None


@pytest.mark.parametrize(
    ("fields", "clinical", "verified"),
    [
        ({"f13": "Resolved", "f9": "20240601"}, "resolved", None),
        ({"f9": "20240601"}, "resolved", None),
        ({"f14": "^Inactive"}, "inactive", None),
        ({"f1": "DE", "f13": "ACTIVE"}, "active", "entered-in-error"),
        ({"f13": "Deleted"}, None, "entered-in-error"),
        ({"f13": "provisional", "f14": "?"}, None, "provisional"),
        ({}, None, None),
    ],
)
def test_status_of_a_problem(fields: dict[str, str], clinical: str | None, verified: str | None) -> None:
    found = map_segments(prb(**fields)).conditions[0]
    assert (found.clinical_status, found.verification_status) == (clinical, verified)


def test_diagnoses_and_orders_come_along() -> None:
    event = map_segments(prb(), "OBX|1|NM|8480-6^Systolic^LN||150", "DG1|1||E11^Diabetes^I10", "ORC|NW|P1", "OBR|||| X")
    assert [each.category for each in event.conditions] == ["problem-list-item", "encounter-diagnosis"]
    assert len(event.orders) == 1
    assert [each.value for each in event.observations] == ["150"]


def test_message_without_a_problem_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        map_segments("PRB|AD|20240501|||")
    assert caught.value.location == "PRB"
