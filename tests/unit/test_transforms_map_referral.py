"""Referrals: RF1, who refers to whom (PRD), and the answer."""

import pytest

from broker.canonical.model import Concept, Identifier, Organization
from broker.errors import StepError
from tests.mapping import PID, mapped, segment

RF1 = segment(
    "RF1",
    f1="P^Pending",
    f2="S^Stat",
    f3="Med^Medical",
    f4="SO^Second opinion",
    f5="O^Outpatient",
    f6="R77^EPIC",
    f7="20240501",
    f8="20240601",
    f10="O^Provider ordered",
)


def test_referral_is_mapped_field_by_field() -> None:
    event = mapped(
        "REF^I12",
        RF1,
        segment("AUT", f6="A5"),
        segment("PRD", f1="RP", f2="Lind^Maja^^^Dr.", f5="^WPN^PH^^^217^5550100", f7="1001^SL^IL"),
        segment("PRD", f1="RT^Referred to", f2="Berg^Ulf", f10="Heart Center"),
        "NTE|1||Please see soon",
        PID,
        "NTE|1||of the patient",
        "DG1|1||I10^Hypertension^I10",
        "OBX|1|NM|8867-4^Heart rate^LN||72|/min|||||F",
        "NTE|1||measured at rest",
        "OBR|1||L1|22310-7^H. pylori Ab^LN",
        "OBX|1|ST|22310-7^H. pylori Ab^LN||positive|||||F",
    )
    referral = event.referral
    assert referral is not None
    assert event.kind == "referral.requested"
    assert referral.identifier == Identifier(value="R77", system="EPIC")
    assert (referral.status, referral.priority) == ("draft", "stat")
    assert (referral.effective_at, referral.expires_at) == ("2024-05-01", "2024-06-01")
    assert (referral.type, referral.category) == (
        Concept(code="Med", text="Medical"),
        Concept(code="O", text="Outpatient"),
    )
    assert referral.reason == Concept(code="O", text="Provider ordered")
    assert referral.disposition == Concept(code="SO", text="Second opinion")
    assert referral.authorization == Identifier(value="A5")
    assert referral.sender is not None
    assert (referral.sender.family, referral.sender.given, referral.sender.prefix) == ("Lind", "Maja", "Dr.")
    assert referral.sender.identifier == Identifier(value="1001", system="IL", type="SL")
    assert referral.sender.telecom[0].value == "217 5550100"
    assert referral.receiver is not None
    assert referral.receiver.family == "Berg"
    assert referral.receiving_organization == Organization(name="Heart Center")
    assert referral.notes == ("Please see soon",)
    assert len(event.conditions) == 1
    assert event.observations[0].notes == ("measured at rest",)
    assert event.results[0].observations[0].value == "positive"


@pytest.mark.parametrize(
    ("kind", "expected", "status"),
    [
        ("REF^I12", "referral.requested", "active"),
        ("REF^I13", "referral.updated", "active"),
        ("REF^I14", "referral.cancelled", "revoked"),
        ("REF^I15", "referral.inquired", "active"),
        ("RRI^I12", "referral.answered", "active"),
    ],
)
def test_trigger_gives_kind_and_status(kind: str, expected: str, status: str) -> None:
    event = mapped(kind, "RF1|A", PID)
    assert event.referral is not None
    assert (event.kind, event.referral.status) == (expected, status)


def test_referral_without_rf1_is_refused_and_an_answer_is_not() -> None:
    with pytest.raises(StepError) as caught:
        mapped("REF^I12", PID)
    assert caught.value.location == "RF1"
    assert mapped("RRI^I12", PID).referral is None
