"""This module tests the standard mapping of vaccinations."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Concept, Event, Identifier, Immunization, Location, Organization, Practitioner
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_vaccination import map_vaccination

MSH = "MSH|^~\\&|EHR|MERCY|IIS|STATE|20240501103000||VXU^V04^VXU_V04|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
ORC = "ORC|RE|P1^EHR|F1^IIS||||||20240501"


def map_segments(*segments: str) -> Event:
    event = map_vaccination(Message.parse("\r".join([MSH, PID, *segments]).encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def rxa(**fields: str) -> str:
    values = {3: "20240501", 5: "140^Influenza^CVX", **{int(key[1:]): value for key, value in fields.items()}}
    return "|".join(["RXA", *(values.get(number, "") for number in range(1, max(values) + 1))])


def vaccination(*segments: str) -> Immunization:
    found = map_segments(*segments).immunizations
    assert len(found) == 1
    return found[0]


def test_vaccination_is_mapped_field_by_field() -> None:
    event = map_segments(
        ORC,
        rxa(
            f6="0.5",
            f7="mL^milliliter^UCUM",
            f9="00^New record^NIP001~^left arm sore",
            f10="55^Osei^Ama",
            f11="^^^X68",
            f15="Z0860BB",
            f16="20241104",
            f17="CSL^CSL Behring^MVX",
            f20="CP",
            f21="A",
            f22="20240502",
        ),
        "RXR|C28161^Intramuscular^NCIT|LD^Left deltoid^HL70163",
        "OBX|1|CE|64994-7^Eligibility^LN|1|V05^VFC^HL70064||||||F",
        "NTE|1||told the parent",
    )
    assert event.kind == "immunization.recorded"
    found = event.immunizations[0]
    assert [each.value for each in found.observations] == ["VFC"]
    assert found.observations[0].notes == ("told the parent",)
    assert event.observations == ()
    assert found == Immunization(
        code=Concept(code="140", system="CVX", text="Influenza"),
        identifier=Identifier(value="F1", system="IIS"),
        status="completed",
        occurred_at="2024-05-01",
        recorded_at="2024-05-02",
        historical=False,
        lot="Z0860BB",
        manufacturer=Organization(name="CSL Behring", identifier=Identifier(value="CSL", system="MVX")),
        expires_on="2024-11-04",
        dose="0.5",
        dose_unit="mL",
        route=Concept(code="C28161", system="NCIT", text="Intramuscular"),
        site=Concept(code="LD", system="HL70163", text="Left deltoid"),
        performer=Practitioner(identifier=Identifier(value="55"), family="Osei", given="Ama"),
        location=Location(facility="X68"),
        observations=found.observations,
        notes=("left arm sore",),
    )


def test_history_has_no_dose() -> None:
    found = vaccination(ORC, rxa(f6="999", f9="01^Historical^NIP001"))
    assert (found.historical, found.dose, found.dose_unit) == (True, None, None)
    assert found.recorded_at == "2024-05-01"


def test_source_that_is_not_said_is_unknown() -> None:
    assert vaccination(ORC, rxa()).historical is None


@pytest.mark.parametrize(
    ("completion", "action", "status"),
    [
        *[("CP", "A", "completed"), ("PA", "", "completed"), ("", "", "completed")],
        *[("RE", "", "not-done"), ("NA", "A", "not-done"), ("CP", "D", "entered-in-error")],
    ],
)
def test_completion_and_action_give_the_status(completion: str, action: str, status: str) -> None:
    assert vaccination(ORC, rxa(f20=completion, f21=action)).status == status


def test_refusal_has_its_reason_and_no_dose() -> None:
    found = vaccination(ORC, rxa(f6="0", f7="mL", f18="00^Parental decision^NIP002", f20="RE"))
    assert found.reason == Concept(code="00", system="NIP002", text="Parental decision")
    assert (found.dose, found.dose_unit) == (None, None)


def test_no_vaccine_was_given() -> None:
    assert vaccination(ORC, rxa(f5="998^No vaccine administered^CVX")).status == "not-done"
    assert vaccination(ORC, rxa(f5="998^Own code^L")).status == "completed"


def test_each_vaccination_keeps_its_own_observations() -> None:
    event = map_segments(
        "OBX|1|NM|8867-4^Heart rate^LN||70",
        ORC,
        rxa(f15="L1"),
        "OBX|1|ST|a||1",
        "ORC|RE||F2^IIS",
        rxa(f15="L2"),
        "OBX|1|ST|a||2",
        "OBX|2|ST|a||3",
    )
    assert [each.value for each in event.observations] == ["70"]
    assert [(each.lot, [one.value for one in each.observations]) for each in event.immunizations] == [
        ("L1", ["1"]),
        ("L2", ["2", "3"]),
    ]


def test_several_below_one_order_share_no_number() -> None:
    event = map_segments(ORC, rxa(f15="L1"), "OBX|1|ST|a||1", rxa(f15="L2"), "OBX|1|ST|a||2")
    assert [(each.identifier, [one.value for one in each.observations]) for each in event.immunizations] == [
        (None, ["1"]),
        (None, ["2"]),
    ]


def test_vaccinations_without_an_order() -> None:
    assert [each.lot for each in map_segments(rxa(f15="L1"), rxa(f15="L2")).immunizations] == ["L1", "L2"]


def test_message_without_vaccination_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        map_segments(ORC)
    assert caught.value.location == "RXA"
