"""This module tests the steps filter, set, script and canonical as a channel uses them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.canonical.model import Consent, Event, Identifier, Patient, Source
from broker.errors import StepError
from broker.message import Document, Filtered
from broker.wire.er7 import Message
from transforms.canonical import CanonicalSpec
from transforms.filter import FilterSpec
from transforms.kit import Kit
from transforms.mistakes import ExpressionError
from transforms.script import ScriptSpec
from transforms.set import SetSpec

MERCY = Path(__file__).parents[2] / "channels"
RAW = (
    b"MSH|^~\\&|ADT1|MERCY|||20240501103000||ADT^A08|1|P|2.5.1\r"
    b"PID|1||00123^^^MERCY^MR~77^^^MERCY^PI||Okafor^Ngozi||19620910|F|||||(217)555-0147^PRN^PH~(217)555-0199^^CP|||||||||||||||||N\r"
    b"PV1|1|I|4EAST^412^B||||||||||||||||V1\r"
)
EVENT = Event(
    kind="patient.updated",
    source=Source(),
    patient=Patient(mrn=Identifier(value="1"), family="OKAFOR", given="NGOZI"),
)


def document(raw: bytes = RAW, **more: Any) -> Document:
    return Document(message=Message.parse(raw), received_at=1.5, **more)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def script(kit: Kit, body: str) -> Any:
    (kit.folder / "rules.py").write_text(body)
    return ScriptSpec(function="rules.py:rule").build(kit)


# --- filter ----------------------------------------------------------------------------------------------------------


def test_filter_lets_through_what_is_true(kit: Kit) -> None:
    given = document()
    assert FilterSpec.model_validate({"expression": "MSH-9.2 in ['A08']"}).build(kit)(given) is given


def test_filter_stops_with_the_expression_and_no_value(kit: Kit) -> None:
    outcome = FilterSpec.model_validate({"expression": " PID-5.1 == 'X' "}).build(kit)(document())
    assert outcome == Filtered("not PID-5.1 == 'X'")


def test_filter_refuses_a_mistake_when_it_is_built(kit: Kit) -> None:
    with pytest.raises(ExpressionError, match="did you mean upper"):
        FilterSpec.model_validate({"expression": "PID-5.1 | uper"}).build(kit)


# --- set -------------------------------------------------------------------------------------------------------------


def test_set_gives_names_that_later_ones_and_later_steps_use(kit: Kit) -> None:
    step = SetSpec.model_validate({"ward": "PV1-3.1", "label": "ward ~ '-' ~ PV1-3.2"}).build(kit)
    given = document(values={"old": 1})
    result = step(given)
    assert isinstance(result, Document)
    assert result.values == {"old": 1, "ward": "4EAST", "label": "4EAST-412"}
    assert given.values == {"old": 1}
    assert kit.names == ("ward", "label")
    assert FilterSpec.model_validate({"expression": "label == '4EAST-412'"}).build(kit)(result) is result


def test_set_cannot_use_a_name_before_it_is_there(kit: Kit) -> None:
    with pytest.raises(ExpressionError, match="label is not defined"):
        SetSpec.model_validate({"ward": "label", "label": "PV1-3.1"}).build(kit)


@pytest.mark.parametrize(
    "name", ["patient", "event", "encounter", "Ward", "1st", "a-b", "_x", "not", "loop", "a\n", ""]
)
def test_set_refuses_a_name_that_means_something_or_is_none(name: str) -> None:
    with pytest.raises(ValidationError):
        SetSpec.model_validate({name: "PV1-3.1"})


def test_set_refuses_nothing_and_what_is_no_text() -> None:
    for wrong in ({}, {"ward": 3}, {"ward": ["PV1-3"]}):
        with pytest.raises(ValidationError):
            SetSpec.model_validate(wrong)


# --- script ----------------------------------------------------------------------------------------------------------


def test_script_sees_message_hl7_event_and_values(kit: Kit) -> None:
    step = script(
        kit,
        "from dataclasses import replace\n"
        "def rule(document):\n"
        "    document.values['ward'] = document.message.get('PV1-3.1') + str(document.hl7.segment('PID')[5][0][0][0])\n"
        "    document.event = replace(document.event, kind='patient.registered')\n"
        "    document.values['at'] = document.received_at\n"
        "    return document\n",
    )
    given = document(event=EVENT)
    result = step(given)
    assert result.values == {"ward": "4EASTOkafor", "at": 1.5}
    assert result.event == replace(EVENT, kind="patient.registered")
    assert (given.values, given.event) == ({}, EVENT)


def test_script_reads_hl7_with_any_line_ends(kit: Kit) -> None:
    step = script(kit, "def rule(d):\n    d.values['n'] = len(d.hl7)\n    return d\n")
    assert step(document(b"\xef\xbb\xbf" + RAW.replace(b"\r", b"\r\n"))).values == {"n": 3}


def test_script_may_return_filtered_or_an_event(kit: Kit) -> None:
    body = (
        "from broker.message import Filtered\ndef rule(d):\n    return Filtered('no') if d.event is None else d.event\n"
    )
    step = script(kit, body)
    assert step(document()) == Filtered("no")
    assert step(document(event=EVENT)).event is EVENT


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("return None", "returned nothing"),
        ("return 'x'", "returned a str"),
        ("d.event = 3; return d", "something else"),
        ("d.values = None; return d", "something else"),
    ],
)
def test_script_that_returns_something_else_fails(kit: Kit, line: str, says: str) -> None:
    with pytest.raises(StepError, match=says):
        script(kit, f"def rule(d):\n    {line}\n")(document())


def test_script_that_raises_is_told_by_type_and_line_and_never_by_text(kit: Kit) -> None:
    step = script(
        kit, "def rule(d):\n    return help_me(d)\n\ndef help_me(d):\n    return int(d.message.get('PID-5.1'))\n"
    )
    with pytest.raises(StepError) as caught:
        step(document())
    assert str(caught.value) == "rules.py:rule raised ValueError at line 5"
    assert caught.value.step == "script"
    assert caught.value.__suppress_context__


def test_script_may_raise_a_step_error_of_its_own(kit: Kit) -> None:
    body = "from broker.errors import StepError\ndef rule(d):\n    raise StepError('no ward', location='PV1-3')\n"
    with pytest.raises(StepError, match="no ward") as caught:
        script(kit, body)(document())
    assert (caught.value.step, caught.value.location) == ("script", "PV1-3")


@pytest.mark.parametrize(("family", "given"), [("OKAFOR", "NGOZI"), ("Okafor", "NGOZI")])
def test_mercy_house_rules_write_capitals_as_names(family: str, given: str) -> None:
    step = ScriptSpec(function="scripts/mercy.py:house_rules").build(Kit(MERCY))
    event = replace(EVENT, patient=replace(EVENT.patient, family=family, given=given))
    result = step(document(event=event))
    assert isinstance(result, Document)
    assert result.event is not None
    assert result.event.patient.family == "Okafor"
    assert result.event.patient.given == ("Ngozi" if family == "OKAFOR" else "NGOZI")


def test_mercy_house_rules_stop_test_patients() -> None:
    step = ScriptSpec(function="scripts/mercy.py:house_rules").build(Kit(MERCY))
    event = replace(EVENT, patient=replace(EVENT.patient, family="ZZTest"))
    assert step(document(event=event)) == Filtered("a test patient of Mercy")


# --- canonical -------------------------------------------------------------------------------------------------------


def canonical(kit: Kit, patient: dict[str, str] | None = None, encounter: dict[str, str] | None = None) -> Any:
    return CanonicalSpec.model_validate({"patient": patient or {}, "encounter": encounter or {}}).build(kit)


def test_canonical_maps_and_leaves_the_given_document_alone(kit: Kit) -> None:
    given = document(values={"a": 1})
    result = canonical(kit)(given)
    assert result.event.patient.mrn == Identifier(value="00123", system="MERCY", type="MR")
    assert (result.values, result.received_at) == ({"a": 1}, 1.5)
    assert given.event is None


def test_canonical_overrides_take_the_place_of_the_mapping(kit: Kit) -> None:
    step = canonical(
        kit,
        {
            "mobile": "PID-13[3=CP].1 | phone('US')",
            "mrn": "PID-3[5=PI].1",
            "deceased": "PID-30",
            "family": "patient.family | upper",
            "email": "PID-99",
            "account": "{'value': PV1-19.1, 'system': 'MERCY'}",
        },
        {"service": "'CAR'", "identifier": "patient.mrn"},
    )
    event = step(document()).event
    assert event.patient.mobile == "+12175550199"
    assert event.patient.mrn == Identifier(value="77", system="MERCY", type="PI")
    assert (event.patient.deceased, event.patient.family, event.patient.email) == (False, "OKAFOR", None)
    assert event.patient.account == Identifier(value="V1", system="MERCY")
    assert (event.encounter.service, event.encounter.identifier) == ("CAR", event.patient.mrn)


def test_canonical_override_reads_a_date_that_the_standard_mapping_cannot(kit: Kit) -> None:
    raw = RAW.replace(b"|19620910|", b"|10.09.1962|").replace(b"|N\rPV1", b"|junk|Y\rPV1")
    expression = "(PID-7[6:] ~ PID-7[3:5] ~ PID-7[:2]) | date"
    patient = canonical(kit, {"birth_date": expression, "deceased_at": "none"})(document(raw)).event.patient
    assert (patient.birth_date, patient.deceased_at) == ("1962-09-10", None)


def test_canonical_override_of_an_unknown_value_makes_an_identifier_of_it(kit: Kit) -> None:
    assert canonical(kit, {"mrn": "PV1-19.1"})(document()).event.patient.mrn == Identifier(value="V1")


def test_canonical_override_is_not_cleared_by_the_explicit_null_that_it_replaces(kit: Kit) -> None:
    raw = RAW.replace(b"|19620910|F|", b'|""|""|')
    event = canonical(kit, {"sex": "'other'"})(document(raw)).event
    assert event.cleared == ("patient.birth_date",)
    assert event.patient.sex == "other"


def test_canonical_encounter_overrides_do_nothing_without_an_encounter(kit: Kit) -> None:
    raw = RAW.partition(b"PV1")[0]
    assert canonical(kit, encounter={"service": "'CAR'"})(document(raw)).event.encounter is None


SIU = b"MSH|^~\\&|A|B|||20240501||SIU^S12|1|P|2.5.1\rSCH|P1||||||||30|min\rPID|1||1^^^M^MR\rZAP|Knee\r"


def test_canonical_overrides_fields_of_the_appointment(kit: Kit) -> None:
    step: Any = CanonicalSpec.model_validate({"appointment": {"comment": "ZAP-1", "status": "'pending'"}}).build(kit)
    appointment = step(document(SIU)).event.appointment
    assert (appointment.comment, appointment.status, appointment.minutes) == ("Knee", "pending", 30)


def test_canonical_leaves_out_a_date_that_is_none_unless_it_is_strict(kit: Kit) -> None:
    raw = RAW.replace(b"19620910", b"DOB")
    assert b"DOB" in raw
    event = canonical(kit)(document(raw)).event
    assert (event.patient.birth_date, event.unread) == (None, ("PID-7",))
    strict: Any = CanonicalSpec.model_validate({"strict": True}).build(kit)
    with pytest.raises(StepError, match="PID-7: not the date") as caught:
        strict(document(raw))
    assert caught.value.location == "PID-7"
    mapped: Any = CanonicalSpec.model_validate({"strict": True, "patient": {"birth_date": "none"}}).build(kit)
    assert mapped(document(raw)).event.unread == ()


def test_canonical_event_about_nobody_needs_no_record_number(kit: Kit) -> None:
    raw = b"MSH|^~\\&|A|B|||20240501||ACK|1|P|2.5.1\rMSA|AA|1\r"
    assert canonical(kit)(document(raw)).event.kind == "acknowledgment.received"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("appointment.minutes", 30),
        ("appointment.locations | length", 0),
        ("event.orders[0].control if event.orders else 'none'", "none"),
        ("referral.priority", None),
        ("document.title", None),
        ("account.status", None),
    ],
)
def test_expressions_know_what_else_an_event_has(kit: Kit, text: str, expected: object) -> None:
    assert kit.expression(text)(canonical(kit)(document(SIU))) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("appointment.start", "appointment has no start"),
        ("referral.proirity", "did you mean priority?"),
        ("document.titel", "did you mean title?"),
        ("account.charges.amount", "take one item"),
        ("event.results[0].kode", "did you mean code?"),
    ],
)
def test_expressions_name_a_field_that_the_model_has_not(kit: Kit, text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        kit.expression(text)
    assert says in f"{caught.value} {caught.value.hint}"


def test_canonical_fails_without_a_record_number_unless_it_is_mapped(kit: Kit) -> None:
    raw = RAW.replace(b"^MERCY^MR~77^^^MERCY^PI", b"^USSSA^SS")
    with pytest.raises(StepError, match="PID-3 has no identifier of type MR") as caught:
        canonical(kit)(document(raw))
    assert (caught.value.step, caught.value.location) == ("canonical", "PID-3")
    assert canonical(kit, {"mrn": "PV1-19.1"})(document(raw)).event.patient.mrn.value == "V1"


@pytest.mark.parametrize(
    ("field", "expression", "says"),
    [
        ("family", "PID-5.1 == 'x'", "must give a text"),
        ("deceased", "PID-5.1", "true or false, or Y or N"),
        ("mrn", "{'value': 'x', 'kind': 'y'}", "value, system and type"),
        ("mrn", "{'system': 'x'}", "an identifier's value"),
        ("mrn", "patient.names", "must give a text"),
    ],
)
def test_canonical_override_that_does_not_fit_fails(kit: Kit, field: str, expression: str, says: str) -> None:
    with pytest.raises(StepError, match=says) as caught:
        canonical(kit, {field: expression})(document())
    assert "Okafor" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "field", "says"),
    [
        ("patient", "moblie", "did you mean mobile?"),
        ("encounter", "patient_clas", "did you mean patient_class?"),
        ("patient", "names", "use a script"),
        ("encounter", "location", "use a script"),
    ],
)
def test_canonical_field_names_are_checked(part: str, field: str, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CanonicalSpec.model_validate({part: {field: "PID-5.1"}})
    assert says in str(caught.value)


def with_consent(kit: Kit, **fields: str) -> Event:
    """Map a message whose ZCN-2 says yes or no."""
    told = CanonicalSpec.model_validate({"consent": fields}).build(kit)(document(RAW + b"ZCN|1|Y\r"))
    assert isinstance(told, Document)
    assert told.event is not None
    return told.event


def test_canonical_takes_consent_from_where_a_hospital_writes_it(kit: Kit) -> None:
    event = with_consent(kit, decision="{'Y': 'permit', 'N': 'deny'}[ZCN-2]", purpose="'appointment'", channel="'sms'")
    assert event.kind == "patient.updated"
    assert event.consent == Consent(decision="permit", purpose="appointment", channel="sms")
    assert with_consent(kit, decision="ZCN-9", purpose="'appointment'").consent is None
    with pytest.raises(StepError, match="must give permit or deny"):
        with_consent(kit, decision="ZCN-2")
