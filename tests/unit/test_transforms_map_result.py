"""This module tests the standard mapping of messages that bring results."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import (
    Attachment,
    Concept,
    Event,
    Identifier,
    Observation,
    Organization,
    Practitioner,
    Result,
)
from broker.errors import StepError
from broker.wire.er7 import Message
from transforms.map_result import map_result

MSH = "MSH|^~\\&|LAB|MERCY|HANDOFF|PRM|20240501103000||{}|MSG1|P|2.5.1"
PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
ORC = "ORC|RE|P1^EHR|F1^LAB|||||||||44^Lind^Maja"


def map_segments(*segments: str, kind: str = "ORU^R01^ORU_R01", patient: str = PID) -> Event:
    raw = "\r".join([MSH.format(kind), *([patient] if patient else []), *segments])
    event = map_result(Message.parse(raw.encode(), "utf-8"))
    assert decode(encode(event)) == event
    return event


def segment(name: str, **fields: str) -> str:
    """Write a segment; ``f5="…"`` is its field 5."""
    values = {int(key[1:]): value for key, value in fields.items()}
    return "|".join([name, *(values.get(number, "") for number in range(1, max(values) + 1))])


def obr(**fields: str) -> str:
    return segment("OBR", **{"f4": "58410-2^CBC^LN", "f25": "F", **fields})


def obx(**fields: str) -> str:
    return segment("OBX", **{"f2": "NM", "f3": "718-7^Hemoglobin^LN", "f5": "12.5", "f11": "F", **fields})


def observation(**fields: str) -> Observation:
    found = map_segments(obr(), obx(**fields)).results[0].observations
    assert len(found) == 1
    return found[0]


def reports(*segments: str, **named: str) -> tuple[Result, ...]:
    return map_segments(*segments, **named).results


def test_report_is_mapped_field_by_field() -> None:
    event = map_segments(
        "PV1|1|I|4EAST^412^B",
        ORC,
        obr(
            f2="P1^EHR",
            f3="F1^LAB^1.2.3^ISO",
            f7="20240501081500-0500",
            f16="1234^Adeyemi^Tunde",
            f22="20240501102500",
            f24="HM",
            f26="625-4&Bacteria&LN^1^E. coli",
            f29="PP&EHR^FF&LAB",
            f32="77&Osei&Ama",
        ),
        "NTE|1||fasting~two hours",
        obx(),
        "SPM|1|||BLD^Blood^HL70487",
    )
    assert event.kind == "result.final"
    assert (event.source.application, event.source.message_type) == ("LAB", "ORU^R01")
    assert event.patient.family == "Okafor"
    assert event.encounter is not None
    report = event.results[0]
    assert report.observations[0].observed_at == "2024-05-01T08:15:00-05:00"
    assert report == Result(
        identifier=Identifier(value="F1", system="urn:oid:1.2.3"),
        order=Identifier(value="P1", system="EHR"),
        code=Concept(code="58410-2", system="LN", text="CBC"),
        status="final",
        category="HM",
        observed_at="2024-05-01T08:15:00-05:00",
        issued_at="2024-05-01T10:25:00",
        orderer=Practitioner(identifier=Identifier(value="1234"), family="Adeyemi", given="Tunde"),
        interpreter=Practitioner(identifier=Identifier(value="77"), family="Osei", given="Ama"),
        specimen=Concept(code="BLD", system="HL70487", text="Blood"),
        observations=report.observations,
        notes=("fasting\ntwo hours",),
        parent=Identifier(value="FF", system="LAB"),
        parent_code=Concept(code="625-4", system="LN", text="Bacteria"),
        parent_sub_id="1",
    )


def test_observation_is_mapped_field_by_field() -> None:
    found = observation(
        f4="1.1",
        f6="g/dL^gram per deciliter^UCUM",
        f7="12.0-16.0",
        f8="L~A^abnormal",
        f14="20240501090000",
        f16="77^Osei^Ama",
        f17="AUTO^automated^L",
        f20="LA^left arm^L",
        f21="OX1^LAB",
        f23="Mercy Lab^^12",
    )
    assert found == Observation(
        code=Concept(code="718-7", system="LN", text="Hemoglobin"),
        identifier=Identifier(value="OX1", system="LAB"),
        value="12.5",
        value_type="quantity",
        unit="g/dL",
        reference_range="12.0-16.0",
        interpretation="L,A",
        status="final",
        observed_at="2024-05-01T09:00:00",
        sub_id="1.1",
        method=Concept(code="AUTO", system="L", text="automated"),
        body_site=Concept(code="LA", system="L", text="left arm"),
        performer=Practitioner(identifier=Identifier(value="77"), family="Osei", given="Ama"),
        performing_organization=Organization(name="Mercy Lab", identifier=Identifier(value="12")),
    )


def test_producer_stands_in_for_the_performing_organization() -> None:
    found = observation(f15="L7^Lab seven^L").performing_organization
    assert found == Organization(name="Lab seven", identifier=Identifier(value="L7", system="L"))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        *[("F", "final"), ("P", "preliminary"), ("C", "corrected"), ("X", "cancelled"), ("I", "registered")],
        *[
            ("D", "entered-in-error"),
            ("W", "entered-in-error"),
            ("A", "amended"),
            ("f", "final"),
            ("?", None),
            ("", None),
        ],
    ],
)
def test_status_of_an_observation(code: str, status: str | None) -> None:
    assert observation(f11=code).status == status


@pytest.mark.parametrize(
    ("report", "below", "status", "kind"),
    [
        ("F", ("F", "F"), "final", "result.final"),
        ("F", ("F", "X"), "final", "result.final"),
        ("F", ("F", "C"), "final", "result.corrected"),
        ("P", ("F", "F"), "preliminary", "result.preliminary"),
        ("A", ("F",), "partial", "result.preliminary"),
        ("C", ("F",), "corrected", "result.corrected"),
        ("X", ("X",), "cancelled", "result.cancelled"),
        ("", ("F", "F"), "final", "result.final"),
        ("", ("F", "P"), "partial", "result.preliminary"),
        ("", ("P", "I"), "preliminary", "result.preliminary"),
        ("", ("I",), "registered", "result.preliminary"),
        ("", ("X", "X"), "cancelled", "result.cancelled"),
        ("", ("X", "F"), "final", "result.final"),
        ("", ("C", "F"), "corrected", "result.corrected"),
        ("", ("", ""), None, "result.preliminary"),
        ("?", ("F",), "final", "result.final"),
    ],
)
def test_status_of_a_report_and_kind_of_the_event(
    report: str, below: tuple[str, ...], status: str | None, kind: str
) -> None:
    event = map_segments(obr(f25=report), *[obx(f11=code) for code in below])
    assert event.results[0].status == status
    assert event.kind == kind


def test_kind_is_final_only_when_every_report_is() -> None:
    assert map_segments(obr(f25="F"), obx(), obr(f25="P"), obx()).kind == "result.preliminary"
    assert map_segments(obr(f25="F"), obx(), obr(f25="X"), obx(f11="X")).kind == "result.final"


def test_reports_keep_their_own_observations_and_notes() -> None:
    first, second = reports(
        ORC,
        obr(f3="F1"),
        "NTE|1||about the report",
        obx(f5="1"),
        "NTE|1||about the value",
        "NTE|2||",
        "NTE|3||and more",
        obx(f5="2"),
        obr(f3="F2"),
        obx(f5="3"),
    )
    assert [each.value for each in first.observations] == ["1", "2"]
    assert first.notes == ("about the report",)
    assert first.observations[0].notes == ("about the value", "and more")
    assert first.observations[1].notes == ()
    assert [each.value for each in second.observations] == ["3"]
    assert (first.identifier, second.identifier) == (Identifier(value="F1"), Identifier(value="F2"))
    assert second.order is None


def test_numbers_of_the_order_stand_in_for_those_of_the_request() -> None:
    report = reports(ORC, obr(), obx())[0]
    assert report.identifier == Identifier(value="F1", system="LAB")
    assert report.order == Identifier(value="P1", system="EHR")
    assert report.orderer is not None
    assert report.orderer.family == "Lind"


def test_observations_before_any_request_belong_to_no_report() -> None:
    event = map_segments(obx(f5="1"), "NTE|1||loose", obr(), obx(f5="2"))
    assert [each.value for each in event.observations] == ["1"]
    assert event.observations[0].notes == ("loose",)
    assert [each.value for each in event.results[0].observations] == ["2"]


def test_observations_below_an_order_alone_are_a_report() -> None:
    report = reports(ORC, obx())[0]
    assert report.code is None
    assert report.identifier == Identifier(value="F1", system="LAB")
    assert len(report.observations) == 1


def test_observations_alone_give_the_kind() -> None:
    event = map_segments(obx(f11="C"))
    assert event.results == ()
    assert event.kind == "result.corrected"


def test_order_without_request_or_observations_is_no_report() -> None:
    assert len(reports(ORC, ORC, obr(), obx())) == 1


def test_request_without_observations_is_a_report() -> None:
    event = map_segments(obr(f25="S"))
    assert (event.results[0].status, event.results[0].observations) == ("registered", ())
    assert event.kind == "result.preliminary"


def test_notes_of_the_patient_belong_to_the_event() -> None:
    assert map_segments("NTE|1||deaf", obr(), obx()).notes == ("deaf",)


def test_specimen_of_older_versions() -> None:
    assert reports(obr(f15="BLD&Blood&HL70070^^left arm"), obx())[0].specimen == Concept(
        code="BLD", system="HL70070", text="Blood"
    )
    assert reports(obr(f15="^^swab of the throat"), obx())[0].specimen == Concept(text="swab of the throat")
    assert reports(obr(f15="^x"), obx())[0].specimen is None


def test_specimens_come_before_their_requests_in_oul() -> None:
    event = map_segments(
        "SPM|1|||SER",
        obr(f3="F1"),
        "ORC|RE|P1^EHR",
        obx(f5="1"),
        "SPM|2|||UR",
        obr(f3="F2"),
        "ORC|RE|P2^EHR",
        obx(f5="2"),
        kind="OUL^R22^OUL_R22",
    )
    first, second = event.results
    assert (first.specimen, second.specimen) == (Concept(code="SER"), Concept(code="UR"))
    assert (first.order, second.order) == (Identifier(value="P1", system="EHR"), Identifier(value="P2", system="EHR"))
    assert [each.value for each in (*first.observations, *second.observations)] == ["1", "2"]
    assert first.category == "LAB"
    assert first.observations[0].category == "laboratory"


@pytest.mark.parametrize(
    ("section", "code", "category"),
    [
        ("CH", "718-7^x^LN", "laboratory"),
        ("RAD", "718-7^x^LN", "imaging"),
        ("EC", "x", "procedure"),
        ("", "8867-4^Heart rate^LN", "vital-signs"),
        ("LAB", "72166-2^Smoking^LN", "social-history"),
        ("?", "x", None),
    ],
)
def test_category_of_an_observation(section: str, code: str, category: str | None) -> None:
    assert reports(obr(f24=section), obx(f3=code))[0].observations[0].category == category


def test_impressions_are_the_conclusion() -> None:
    report = reports(
        obr(f4="71020^Chest^C4"),
        obx(f2="TX", f3="71020&GDT^Body^C4", f5="No focal opacity."),
        obx(f2="TX", f3="71020&IMP^Impression^C4", f5="Normal."),
        obx(f2="TX", f3="19005-8^Impression^LN", f5="No change."),
    )[0]
    assert report.conclusion == "Normal.\nNo change."


@pytest.mark.parametrize(("code", "reason"), [("X", "not-performed"), ("N", "not-asked"), ("P", "temp-unknown")])
def test_why_there_is_no_value(code: str, reason: str) -> None:
    assert observation(f5="", f11=code).absent == reason
    assert observation(f5='""', f11=code).absent == reason
    assert observation(f5="7", f11=code).absent is None


def test_every_file_of_an_observation_is_kept() -> None:
    found = reports(obr(), obx(f2="ED", f5="L^application^pdf^Base64^JVBERi0x~L^image^jpeg^Base64^/9j/4AAQ"))[0]
    kinds = [each.attachment.content_type for each in found.observations if each.attachment]
    assert kinds == ["application/pdf", "image/jpeg"]


def test_file_is_attached() -> None:
    assert observation(f2="ED", f5="LAB^application^pdf^Base64^JVBERi0xLjQ=").attachment == Attachment(
        content_type="application/pdf", encoding="base64", data="JVBERi0xLjQ=", size=8
    )


def test_lists_of_the_patient_come_along() -> None:
    event = map_segments("AL1|1|DA|PCN^Penicillin^L|SV", "DG1|1||I10^Hypertension^I10", obr(), obx())
    assert [each.code for each in event.allergies] == [Concept(code="PCN", system="L", text="Penicillin")]
    assert [each.code for each in event.conditions] == [Concept(code="I10", system="I10", text="Hypertension")]


def test_each_result_may_repeat_the_same_patient() -> None:
    assert len(reports(obr(), obx(), PID, obr(), obx())) == 2


def test_results_of_several_patients_are_refused() -> None:
    other = "PID|1||00999^^^MERCY^MR||Eze^Obi"
    with pytest.raises(StepError) as caught:
        map_segments(obr(), obx(), other, obr(), obx())
    assert caught.value.location == "PID"
    assert "00999" not in str(caught.value)


@pytest.mark.parametrize(("patient", "location"), [(PID, "OBR"), ("", "PID")])
def test_message_that_tells_no_result_is_refused(patient: str, location: str) -> None:
    with pytest.raises(StepError) as caught:
        map_segments(*(() if patient else (obr(), obx())), patient=patient)
    assert caught.value.location == location


def test_delimiters_of_the_message_are_used() -> None:
    raw = "MSH#*!/%#LAB#M#H#P#20240501##ORU*R01#1#P#2.5\rPID###1**M*MR\rOBR####A*b*L\rOBX##SN#c##<*5#mg%l"
    found = map_result(Message.parse(raw.replace("*M*MR", "***M*MR").encode(), "utf-8")).results[0]
    assert found.code == Concept(code="A", system="L", text="b")
    assert (found.observations[0].comparator, found.observations[0].value) == ("<", "5")
    assert found.observations[0].unit == "mg%l"
