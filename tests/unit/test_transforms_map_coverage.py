"""Who pays: IN1, with the IN2 that follows it."""

from broker.canonical.model import Concept, Identifier, Organization
from tests.mapping import PID, mapped, segment


def test_plan_is_mapped_field_by_field() -> None:
    plan = segment(
        "IN1",
        f1="1",
        f2="HMO1^Blue Advantage",
        f3="123^^^NAIC",
        f4="Blue Cross",
        f8="GRP9",
        f9="Acme staff",
        f12="20260101",
        f13="20261231",
        f14="AUTH5^20260101",
        f15="HMO",
        f16="Okafor^Ben",
        f17="SPO^Spouse",
        f18="19600102",
        f22="2",
        f36="POL77",
        f43="M",
        f49="MEM1",
    )
    (coverage,) = mapped("ADT^A08", PID, plan).coverage
    assert coverage.identifier == Identifier(value="POL77")
    assert coverage.payer == Organization(name="Blue Cross", identifier=Identifier(value="123", system="NAIC"))
    assert (coverage.plan, coverage.type) == (Concept(code="HMO1", text="Blue Advantage"), Concept(code="HMO"))
    assert (coverage.group_number, coverage.group_name, coverage.rank) == ("GRP9", "Acme staff", 2)
    assert (coverage.subscriber_id, coverage.subscriber_family, coverage.subscriber_given) == ("MEM1", "Okafor", "Ben")
    assert (coverage.subscriber_birth_date, coverage.subscriber_sex) == ("1960-01-02", "male")
    assert coverage.relationship == Concept(code="SPO", text="Spouse")
    assert (coverage.starts_at, coverage.ends_at) == ("2026-01-01", "2026-12-31")
    assert coverage.authorization == Identifier(value="AUTH5")


def test_second_segment_belongs_to_the_plan_before_it() -> None:
    first, second = mapped(
        "ADT^A08",
        PID,
        "IN1|1|A",
        segment("IN2", f61="MB1^^^H^MB", f72="01^Self"),
        "IN3|1",
        "IN1|2|B",
    ).coverage
    assert (first.subscriber_id, first.relationship) == ("MB1", Concept(code="01", text="Self"))
    assert first.identifier == Identifier(value="MB1", system="H", type="MB")
    assert (second.subscriber_id, second.rank) == (None, 2)


def test_plan_that_names_nothing_is_left_out() -> None:
    assert mapped("ADT^A08", PID, "IN1|1||||||||GRP", "IN2|x").coverage == ()
