"""This module tests the standard mapping of orders and the answers to them."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Concept, Event, Identifier, Order, Practitioner
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_order import map_order

MSH = "MSH|^~\\&|EHR|MERCY|LAB|MERCY|20240501103000||{}|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"


def map_segments(*segments: str, kind: str = "ORM^O01^ORM_O01") -> Event:
    raw = "\r".join([MSH.format(kind), *segments])
    event = map_order(Message.parse(raw.encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def segment(name: str, **fields: str) -> str:
    """Write a segment; ``f5="…"`` is its field 5."""
    values = {int(key[1:]): value for key, value in fields.items()}
    return "|".join([name, *(values.get(number, "") for number in range(1, max(values) + 1))])


def orc(**fields: str) -> str:
    return segment("ORC", **{"f1": "NW", "f2": "P1^EHR", **fields})


def obr(**fields: str) -> str:
    return segment("OBR", **{"f4": "58410-2^CBC^LN", **fields})


def order(*segments: str) -> Order:
    orders = map_segments(PID, *segments).orders
    assert len(orders) == 1
    return orders[0]


def test_order_is_mapped_field_by_field() -> None:
    found = order(
        orc(f3="F1^LAB", f4="G1^EHR", f5="IP", f8="PP&EHR^FF&LAB", f9="20240501081500", f12="44^Lind^Maja"),
        "TQ1|1||||||20240502080000|20240503|S",
        obr(f2="P9", f13="on warfarin", f31="Z79.01^Anticoagulants^I10", f39="^hard stick"),
        "NTE|1||call first",
        "SPM|1|||BLD^Blood^HL70487",
    )
    assert found == Order(
        identifier=Identifier(value="P1", system="EHR"),
        filler=Identifier(value="F1", system="LAB"),
        group=Identifier(value="G1", system="EHR"),
        control="NW",
        status="active",
        priority="stat",
        code=Concept(code="58410-2", system="LN", text="CBC"),
        ordered_at="2024-05-01T08:15:00",
        starts_at="2024-05-02T08:00:00",
        ends_at="2024-05-03",
        orderer=Practitioner(identifier=Identifier(value="44"), family="Lind", given="Maja"),
        reason=Concept(code="Z79.01", system="I10", text="Anticoagulants"),
        specimen=Concept(code="BLD", system="HL70487", text="Blood"),
        notes=("on warfarin", "hard stick", "call first"),
        parent=Identifier(value="PP", system="EHR"),
    )


@pytest.mark.parametrize(
    ("control", "state", "kind", "status"),
    [
        ("NW", "", "order.placed", "active"),
        ("nw", "SC", "order.placed", "active"),
        ("", "", "order.placed", None),
        ("XO", "", "order.updated", None),
        ("SC", "CM", "order.updated", "completed"),
        ("SC", "HD", "order.updated", "on-hold"),
        ("HD", "IP", "order.updated", "on-hold"),
        ("CA", "IP", "order.cancelled", "revoked"),
        ("DC", "", "order.cancelled", "revoked"),
        ("OC", "", "order.cancelled", "revoked"),
        ("OK", "", "order.answered", "active"),
        ("UA", "", "order.answered", "revoked"),
        ("ZZ", "?", "order.updated", None),
    ],
)
def test_control_code_gives_kind_and_status(control: str, state: str, kind: str, status: str | None) -> None:
    event = map_segments(PID, orc(f1=control, f5=state), obr())
    assert event.kind == kind
    assert event.orders[0].status == status


def test_orders_of_different_kinds_are_an_update() -> None:
    event = map_segments(PID, orc(f1="CA"), obr(), orc(f1="NW", f2="P2"), obr())
    assert event.kind == "order.updated"
    assert [each.status for each in event.orders] == ["revoked", "active"]


@pytest.mark.parametrize("code", ["ORR^O02", "ORL^O22", "ORG^O20"])
def test_answers_are_told_as_such(code: str) -> None:
    assert map_segments("MSA|AA|X1", PID, orc(f1="NW"), obr(), kind=code).kind == "order.answered"


@pytest.mark.parametrize(
    ("segments", "priority"),
    [
        ((orc(), "TQ1|1||||||||R^Routine^HL70485", obr(f5="S")), "routine"),
        ((orc(f7="^^^^^A"), obr()), "asap"),
        ((orc(), obr(f27="1^^^^^S~2")), "stat"),
        ((orc(), obr(f5="URGENT")), "urgent"),
        ((orc(), obr(f5="whenever")), None),
    ],
)
def test_priority(segments: tuple[str, ...], priority: str | None) -> None:
    assert order(*segments).priority == priority


@pytest.mark.parametrize(
    ("segments", "starts_at"),
    [
        ((orc(f7="^^^20240502"), obr(f6="20240503")), "2024-05-02"),
        ((orc(), obr(f27="^^^202405020800", f6="20240503")), "2024-05-02T08:00:00"),
        ((orc(f15="20240504"), obr(f6="20240503")), "2024-05-03"),
        ((orc(f15="20240504"), obr()), "2024-05-04"),
        ((orc(f15="soon"), obr()), None),
    ],
)
def test_when_it_is_wanted(segments: tuple[str, ...], starts_at: str | None) -> None:
    assert order(*segments).starts_at == starts_at


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        (("DG1|1||I10^Hypertension^I10",), "I10"),
        (("DG1|1|||chest pain",), None),
        ((), "OLD"),
    ],
)
def test_reason(segments: tuple[str, ...], reason: str | None) -> None:
    found = order(orc(f16="OLD^old reason^L"), obr(), *segments).reason
    assert found is not None
    assert found.code == (reason or "chest pain")


def test_requests_without_an_order_segment_are_orders() -> None:
    found = order(obr(f2="P1^EHR", f3="F1^LAB", f16="44^Lind^Maja"))
    assert (found.identifier, found.filler) == (
        Identifier(value="P1", system="EHR"),
        Identifier(value="F1", system="LAB"),
    )
    assert found.orderer is not None
    assert found.control is None


def test_order_alone_is_an_order() -> None:
    event = map_segments(PID, orc(f1="CA"))
    assert event.kind == "order.cancelled"
    assert event.orders[0].code is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("RQD|1|SW1^Swab^L|MX", "SW1"),
        ("RQD|1||MX9^Swab^M", "MX9"),
        ("ODS|D||LOWSALT^Low salt^L", "LOWSALT"),
        ("ODT|EARLY^Early tray^L", "EARLY"),
        ("RXO|PCN^Penicillin^NDC|500||mg", "PCN"),
    ],
)
def test_other_things_than_tests_can_be_ordered(request_: str, code: str) -> None:
    found = order(orc(), request_).code
    assert found is not None
    assert found.code == code


def test_ordered_drug_is_a_medication_as_well() -> None:
    event = map_segments(PID, orc(), "RXO|PCN^Penicillin^NDC|500||mg")
    assert [each.dose for each in event.medications] == ["500"]


def test_answers_to_questions_are_observations_of_the_event() -> None:
    event = map_segments(
        PID, orc(), obr(f7="20240501"), "OBX|1|ST|AOE1^Pregnant^L||no", orc(f2="P2"), obr(), kind="OML^O21^OML_O21"
    )
    assert [(each.value, each.observed_at) for each in event.observations] == [("no", "2024-05-01")]
    assert event.results == ()


def test_earlier_results_are_results_and_no_orders() -> None:
    event = map_segments(
        PID,
        orc(),
        obr(),
        PID,
        "ORC|PR|P0^EHR",
        obr(f25="F"),
        "OBX|1|NM|718-7^Hb^LN||12|||||F",
        orc(f2="P2"),
        obr(),
        kind="OML^O21^OML_O21",
    )
    assert [each.identifier and each.identifier.value for each in event.orders] == ["P1", "P2"]
    assert [each.order and each.order.value for each in event.results] == ["P0"]
    assert event.results[0].observations[0].value == "12"


def test_specimens_before_their_orders() -> None:
    event = map_segments(PID, "SPM|1|||SER", orc(), obr(), "SPM|2|||UR", orc(f2="P2"), obr(), kind="OML^O33^OML_O33")
    assert [each.specimen and each.specimen.code for each in event.orders] == ["SER", "UR"]


def test_order_for_several_patients_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        map_segments(PID, orc(), obr(), "PID|1||00999^^^MERCY^MR||Eze^Obi", orc(f2="P2"), obr())
    assert caught.value.location == "PID"


def test_message_without_an_order_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        map_segments(PID, "NTE|1||nothing")
    assert caught.value.location == "ORC"
