"""This module tests the standard mapping of messages about medications."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Concept, Event, Identifier, Medication, Organization, Practitioner
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_pharmacy import map_pharmacy

MSH = "MSH|^~\\&|PHARM|MERCY|HANDOFF|PRM|20240501103000||{}|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
ORC = "ORC|NW|P1^EHR|F1^PH||||||20240501081500|||44^Lind^Maja"
LIND = Practitioner(identifier=Identifier(value="44"), family="Lind", given="Maja")


def map_segments(*segments: str, kind: str = "RDE^O11^RDE_O11") -> Event:
    raw = "\r".join([MSH.format(kind), PID, *segments])
    event = map_pharmacy(Message.parse(raw.encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def segment(name: str, **fields: str) -> str:
    """Write a segment; ``f5="…"`` is its field 5."""
    values = {int(key[1:]): value for key, value in fields.items()}
    return "|".join([name, *(values.get(number, "") for number in range(1, max(values) + 1))])


def medication(*segments: str, kind: str = "RDE^O11^RDE_O11") -> Medication:
    found = map_segments(*segments, kind=kind).medications
    assert len(found) == 1
    return found[0]


def test_encoded_order_is_mapped_field_by_field() -> None:
    event = map_segments(
        ORC,
        segment(
            "RXE",
            f2="308191^amoxicillin 500 MG^RXNORM",
            f3="1",
            f4="2",
            f5="cap^capsule^L",
            f6="CAP^Capsule^L",
            f7="^by mouth~^with food",
            f10="30",
            f11="cap^capsule^L",
            f12="2",
            f13="55^Osei^Ama",
            f27="J02.0^Strep throat^I10",
        ),
        "NTE|1||shake",
        "TQ1|1||TID^^08~QHS||||20240501|20240511",
        "RXR|PO^Oral^HL70162|MO^Mouth^HL70163",
        "RXC|B|A1^Base^L|1|mL",
        "RXC|A|A2^Additive^L|1|mL",
    )
    assert event.kind == "medication.prescribed"
    assert event.medications == (
        Medication(
            code=Concept(code="308191", system="RXNORM", text="amoxicillin 500 MG"),
            identifier=Identifier(value="P1", system="EHR"),
            kind="request",
            status="active",
            control="NW",
            dosage="by mouth\nwith food",
            dose="1-2",
            dose_unit="cap",
            frequency="TID QHS",
            route=Concept(code="PO", system="HL70162", text="Oral"),
            form=Concept(code="CAP", system="L", text="Capsule"),
            site=Concept(code="MO", system="HL70163", text="Mouth"),
            quantity="30",
            quantity_unit="cap",
            refills=2,
            prescribed_at="2024-05-01T08:15:00",
            starts_at="2024-05-01",
            ends_at="2024-05-11",
            prescriber=LIND,
            reason=Concept(code="J02.0", system="I10", text="Strep throat"),
            notes=("shake",),
            ingredients=(
                Concept(code="A1", system="L", text="Base"),
                Concept(code="A2", system="L", text="Additive"),
            ),
        ),
    )


def test_what_was_ordered_and_how_it_was_encoded_are_one_request() -> None:
    found = medication(
        ORC,
        segment("RXO", f1="PCN^Penicillin^L", f2="500", f4="mg", f7="^as needed", f20="R05^Cough^I10", f13="3"),
        "NTE|1||ordered",
        "RXR|PO",
        segment("RXE", f2="ABC^Penicillin 500^NDC", f3="1", f5="tab"),
        "NTE|1||encoded",
    )
    assert found.code == Concept(code="ABC", system="NDC", text="Penicillin 500")
    assert (found.dose, found.dose_unit, found.dosage, found.refills) == ("1", "tab", "as needed", 3)
    assert found.route == Concept(code="PO")
    assert found.reason == Concept(code="R05", system="I10", text="Cough")
    assert found.notes == ("ordered", "encoded")


def test_timing_of_older_versions() -> None:
    found = medication("ORC|NW|P1|||||1^BID^^20240501^20240503", segment("RXE", f1="1^Q8H^^20240502", f2="X"))
    assert (found.frequency, found.starts_at) == ("Q8H", "2024-05-02")
    found = medication("ORC|NW|P1|||||1^BID^^20240501^20240503", segment("RXO", f1="X"), kind="OMP^O09")
    assert (found.frequency, found.starts_at, found.ends_at) == ("BID", "2024-05-01", "2024-05-03")


def test_text_of_the_timing_stands_in_for_instructions() -> None:
    assert medication(ORC, segment("RXE", f2="X"), "TQ1|1||||||||||as told").dosage == "as told"


@pytest.mark.parametrize(
    ("control", "state", "status", "kind"),
    [
        ("NW", "", "active", "medication.prescribed"),
        ("CA", "IP", "cancelled", "order.cancelled"),
        ("DC", "", "stopped", "order.cancelled"),
        ("HD", "", "on-hold", "medication.prescribed"),
        ("SC", "CM", "completed", "medication.prescribed"),
        ("ZZ", "", None, "medication.prescribed"),
    ],
)
def test_control_code_gives_status_and_kind(control: str, state: str, status: str | None, kind: str) -> None:
    event = map_segments(f"ORC|{control}|P1|||{state}", segment("RXE", f2="X"))
    assert event.medications[0].status == status
    assert event.kind == kind


def test_dispense_is_mapped_beside_its_request() -> None:
    event = map_segments(
        ORC,
        segment("RXE", f2="X^x^L"),
        "RXD|1|X^x^L|20240502|30|cap|CAP|RX7|1|after food|55^Osei^Ama||||||||L1|20250101|MK^Maker^MVX",
        kind="RDS^O13^RDS_O13",
    )
    assert event.kind == "medication.dispensed"
    request, dispense = event.medications
    assert (request.kind, request.identifier) == ("request", Identifier(value="P1", system="EHR"))
    assert dispense == Medication(
        code=Concept(code="X", system="L", text="x"),
        kind="dispense",
        status="completed",
        control="NW",
        dosage="after food",
        form=Concept(code="CAP"),
        quantity="30",
        quantity_unit="cap",
        refills=1,
        prescribed_at="2024-05-01T08:15:00",
        starts_at="2024-05-02",
        prescriber=LIND,
        order=Identifier(value="P1", system="EHR"),
        performer=Practitioner(identifier=Identifier(value="55"), family="Osei", given="Ama"),
        lot="L1",
        expires_on="2025-01-01",
        manufacturer=Organization(name="Maker", identifier=Identifier(value="MK", system="MVX")),
    )


def test_each_administration_is_told() -> None:
    event = map_segments(
        "ORC|RE|P1^EHR",
        segment("RXA", f3="20240501080000", f4="20240501080500", f5="X^x^L", f6="10", f7="mg", f10="55^Osei"),
        "RXR|IV",
        segment("RXA", f3="20240501120000", f5="X^x^L", f6="999", f18="P^Patient refused^L", f20="RE"),
        segment("RXA", f3="20240501160000", f5="X^x^L", f6="10", f21="D"),
        kind="RAS^O17^RAS_O17",
    )
    assert event.kind == "medication.administered"
    first, second, third = event.medications
    assert (first.status, first.dose, first.starts_at, first.ends_at) == (
        "completed",
        "10",
        "2024-05-01T08:00:00",
        "2024-05-01T08:05:00",
    )
    assert (first.route, second.route) == (Concept(code="IV"), None)
    assert first.performer is not None
    assert (second.status, second.dose, second.reason and second.reason.text) == ("not-done", None, "Patient refused")
    assert third.status == "entered-in-error"
    assert {each.order for each in event.medications} == {Identifier(value="P1", system="EHR")}


def test_give_is_a_request() -> None:
    found = medication(ORC, segment("RXG", f4="X^x^L", f5="5", f7="mL", f9="^slowly"), kind="RGV^O15")
    assert (found.kind, found.dose, found.dose_unit, found.dosage) == ("request", "5", "mL", "slowly")


def test_answer_may_name_no_medication() -> None:
    event = map_segments("ORC|OK|P1^EHR|F1^PH", kind="RRE^O12")
    assert (event.kind, event.medications) == ("order.answered", ())


def test_observations_below_belong_to_the_event() -> None:
    event = map_segments(ORC, segment("RXE", f2="X"), "OBX|1|NM|29463-7^Weight^LN||70|kg")
    assert [(each.value, each.category) for each in event.observations] == [("70", "vital-signs")]


def test_message_without_medication_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        map_segments(ORC)
    assert caught.value.location == "RXE"
