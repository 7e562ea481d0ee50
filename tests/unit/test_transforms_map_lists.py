"""This module tests the mapping of diagnoses, allergies, accident and death, which come with many messages."""

import pytest

from broker.canonical.model import Allergy, Concept, Condition, Identifier, Observation, Practitioner
from broker.wire.er7 import Message
from transforms.map_circumstances import AUTOPSY, CAUSE, CERTIFIED, CORONER, INJURY, circumstances
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_message import map_message


def message(*segments: str) -> Message:
    return Message.parse("\r".join(["MSH|^~\\&|||||||ADT^A08|1|P|2.5.1", *segments]).encode(), "utf-8")


def diagnosis(segment: str) -> Condition:
    found = conditions_of(message(segment))
    assert len(found) == 1
    return found[0]


def allergy(segment: str) -> Allergy:
    found = allergies_of(message(segment))
    assert len(found) == 1
    return found[0]


def test_diagnosis_is_mapped_field_by_field() -> None:
    text = "DG1|1|I10|I63.9^Stroke^I10|left sided|20240125114025|A|||||||||1|54^Osei^Ama|||20240501|D7^EHR|A"
    assert diagnosis(text) == Condition(
        code=Concept(code="I63.9", system="I10", text="Stroke"),
        identifier=Identifier(value="D7", system="EHR"),
        category="encounter-diagnosis",
        kind="A",
        rank=1,
        onset_at="2024-01-25T11:40:25",
        recorded_at="2024-05-01",
        asserter=Practitioner(identifier=Identifier(value="54"), family="Osei", given="Ama"),
        notes=("left sided",),
    )


def test_diagnosis_of_older_versions() -> None:
    assert diagnosis("DG1|1|I9|412|Old infarct").code == Concept(code="412", system="I9", text="Old infarct")
    assert diagnosis("DG1|1|||Old infarct").code == Concept(text="Old infarct")
    assert diagnosis("DG1|1|I9|412|Old infarct").notes == ()


def test_diagnosis_that_was_deleted_was_an_error() -> None:
    assert diagnosis("DG1|1||I10^x^I10||||||||||||||||||D").verification_status == "entered-in-error"


def test_empty_and_null_diagnoses_are_left_out() -> None:
    assert conditions_of(message("DG1|1", 'DG1|1||""', "PID|1")) == ()


def test_allergy_is_mapped_field_by_field() -> None:
    assert allergy("AL1|1|DA^Drug|PCN^Penicillin^L|SV^Severe|hives~^rash|2020") == Allergy(
        code=Concept(code="PCN", system="L", text="Penicillin"),
        category="medication",
        severity="severe",
        reactions=(Concept(code="hives"), Concept(text="rash")),
        onset_at="2020",
    )


def test_detailed_allergy_is_mapped_field_by_field() -> None:
    text = (
        "IAM|1|FA^Food^HL70127|PN^Peanut^L|MO|hives|A|A7^EHR|seen|AL^Allergy^HL70436||201805|childhood|202010051600||||"
        "C^Confirmed^HL70438"
    )
    assert allergy(text) == Allergy(
        code=Concept(code="PN", system="L", text="Peanut"),
        identifier=Identifier(value="A7", system="EHR"),
        type="allergy",
        category="food",
        severity="moderate",
        reactions=(Concept(code="hives"),),
        verification_status="confirmed",
        onset_at="2018-05",
        recorded_at="2020-10-05T16:00:00",
        notes=("seen", "childhood"),
    )


def test_allergy_that_was_deleted_was_an_error() -> None:
    assert allergy("IAM|1|FA|PN^Peanut^L|||D||||||||||C").verification_status == "entered-in-error"
    assert allergy("IAM|1|FA||||D|A7^EHR").identifier == Identifier(value="A7", system="EHR")


def test_allergies_of_both_kinds_and_empty_ones() -> None:
    found = allergies_of(message("AL1|1|DA|PCN", 'AL1|2|DA|""', "AL1|3", "IAM|1|FA|PN", "IAM|2"))
    assert [each.code and each.code.code for each in found] == ["PN", "PCN"]
    assert allergies_of(message("PID|1")) == ()


def test_death_is_told_by_what_was_certified() -> None:
    found = circumstances(message("PDA|I21^Infarct^I10||Y|20211102|||20211103^20211104||N", "PID|1"))
    assert [(each.code, each.concept and each.concept.code, each.observed_at) for each in found] == [
        (CAUSE, "I21", None),
        (CERTIFIED, "Y", "2021-11-02"),
        (CORONER, "N", None),
    ]
    assert [each.value for each in found] == ["Infarct", "Yes", "No"]
    autopsy = circumstances(message("PDA||||||Y|20211103^20211104"))
    assert [(each.code, each.observed_at) for each in autopsy] == [(AUTOPSY, "2021-11-03")]


@pytest.mark.parametrize("kind", ["ADT^A08", "SIU^S12", "DFT^P03"])
def test_accident_is_told_once(kind: str) -> None:
    lines = (
        f"MSH|^~\\&|A|B|||20240501||{kind}|1|P|2.5",
        "SCH|1",
        "PID|1||1^^^H^MR",
        "PV1|1|E",
        "OBX|1|NM|W||70",
        "ACC||F^Fall",
    )
    found = map_message(Message.parse("\r".join(lines).encode())).observations
    assert [each.value for each in found] == ["70", "Fall"]


def test_accident_is_told() -> None:
    assert circumstances(message("ACC|20140317||Route 50||Y|N||fell off")) == (
        Observation(
            code=INJURY,
            value="fell off",
            value_type="string",
            status="final",
            observed_at="2014-03-17",
            notes=("Route 50",),
        ),
    )
    coded = circumstances(message("ACC||V1^Vehicle^L"))[0]
    assert (coded.value, coded.value_type) == ("Vehicle", "concept")
    assert circumstances(message("ACC|||", "PDA|")) == ()
    assert circumstances(message("PID|1")) == ()
