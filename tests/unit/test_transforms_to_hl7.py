"""This module tests that canonical events are written as HL7 v2 that reads back as the same event."""

import dataclasses
from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from broker.canonical.model import (
    Appointment,
    Attachment,
    ClinicalDocument,
    Concept,
    Coverage,
    Encounter,
    Event,
    Identifier,
    Merge,
    Name,
    Observation,
    Organization,
    Patient,
    Practitioner,
    Referral,
    Result,
    Source,
    Telecom,
)
from broker.errors import StepError
from broker.wire.er7 import Message
from tests.canonical_events import events_with
from transforms.dictionary import dictionary
from transforms.map_message import map_message
from transforms.map_patient import choose_record_number
from transforms.to_hl7 import TYPES, VERSIONS, to_hl7, type_of
from transforms.to_hl7_values import obx
from transforms.validation import validate

AT = "2024-03-01T10:00:00-06:00"
# What each family of messages is about, and so what an event needs for it.
PARTS = {"ADT": "encounter", "SIU": "appointment", "ORU": "results", "MDM": "document", "REF": "referral"}
# What HL7 requires and an event may lack, for tests that are not about that.
LACKING = frozenset(
    f"{name}-{element.number}"
    for name in dictionary("2.5.1").segments
    for element in dictionary("2.5.1").fields(name) or ()
    if element.least
)
SLOW = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
RECORD = Identifier(value="70031882", system="MERCY", type="MR")
DOCTOR = Practitioner(identifier=Identifier(value="1720051234", system="NPI"), family="Lindqvist", given="Sara")
DOCTOR_PLN = "1720051234^^NPI"
CBC = Concept(code="58410-2", system="LN", text="CBC")
UNTOLD = Observation(code=CBC, value="5", value_type="quantity")
MEASURED = dataclasses.replace(UNTOLD, status="final")
COVERED = Coverage(payer=Organization(identifier=Identifier(value="K1")))


def event(**parts: Any) -> Event:
    patient = Patient(
        mrn=RECORD,
        identifiers=(RECORD,),
        names=(Name(family="Okafor", given=("Adaeze", "Ngozi"), use="official"),),
        birth_date="1962-09-10",
        sex="female",
        telecom=(Telecom(value="(205)555-0142", use="home"),),
    )
    return Event(**{"kind": "patient.updated", "source": Source(), "patient": patient, "occurred_at": AT, **parts})


def segments(message: bytes, name: str) -> list[str]:
    return [line for line in message.decode().split("\r") if line.startswith(f"{name}|")]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_message_reads_back_as_the_same_event_whatever_it_holds(kind: str) -> None:
    part = "merge" if kind == "ADT^A40" else PARTS[kind[:3]]

    @SLOW
    @given(events_with(part))
    def holds(found: Event) -> None:
        # Reading refuses a merge whose numbers name no record; nothing that was read has one.
        assume(found.merge is None or choose_record_number((found.merge.mrn,)) is not None)
        # Twice, because what is read of an observation that says nothing is not written again.
        first = _reread(_reread(found, kind), kind)
        assume(first.patient.mrn is not None)
        # In a document a text is a line of it, also one that was sent as of another type, and was of none.
        assume(kind[:3] != "MDM" or not any(map(_is_line, first.observations)))
        again = _reread(first, kind)
        changed = [
            field.name
            for field in dataclasses.fields(Event)
            if field.name not in {"source", "occurred_at"} and getattr(first, field.name) != getattr(again, field.name)
        ]
        assert not changed

    holds()


def _reread(found: Event, kind: str) -> Event:
    return map_message(Message.parse(to_hl7(found, kind, at=AT, optional=LACKING)))


def _is_line(found: Observation) -> bool:
    return found.value_type == "string" and not any((found.unit, found.reference_range, found.interpretation))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (Observation(value="10:30:00", value_type="time"), "TM|||103000"),
        (Observation(value="25:30:00", value_type="time"), "ST|||25:30:00"),
        (Observation(value="2024-05", value_type="datetime"), "TS|||202405"),
        (Observation(value="in May", value_type="datetime"), "ST|||in May"),
        (Observation(value="3-5", value_type="range", comparator="<"), "SN|||<^3^-^5"),
        (Observation(value="1.2.3-4", value_type="range"), "ST|||1.2.3-4"),
        (Observation(value="5", value_type="quantity", comparator="ca. "), "ST|||ca. 5"),
    ],
)
def test_value_that_is_not_of_its_type_is_written_as_text(given: Observation, field: str) -> None:
    assert obx([given], (2, 5, 1)) == [f"OBX|1|{field}".rstrip("|")]


def test_observation_that_says_nothing_is_not_written() -> None:
    silent, told = Observation(concept=Concept(), status="final"), Observation(value="5", value_type="quantity")
    assert obx([silent, told], (2, 5, 1)) == ["OBX|1|NM|||5"]
    assert obx([Observation(notes=("see report",))], (2, 5, 1)) == ["OBX|1", "NTE|1||see report"]


def test_bare_number_of_a_merged_record_does_not_get_the_survivors_authority() -> None:
    mrn = Identifier(value="7", system="MERCY", type="MR")
    numbers = (mrn, Identifier(value="8"), Identifier(value="9", system="L"))
    merged = event(kind="patient.merged", merge=Merge(identifiers=numbers, mrn=mrn))
    message = to_hl7(merged, "ADT^A40", at=AT)
    assert segments(message, "MRG")[0].split("|")[1:3] == ["7^^^MERCY^MR", "8~9^^^L"]
    read = map_message(Message.parse(message)).merge
    assert read is not None
    assert read.identifiers == numbers


@SLOW
@given(events_with("encounter", "related_people", "coverage", "allergies"), st.sampled_from(["ADT^A08", "ADT^A03"]))
def test_no_value_breaks_out_of_its_place(found: Event, kind: str) -> None:
    message = to_hl7(found, kind, at=AT, optional=LACKING)
    assert not set(message) & set(b"\n\x0b\x1c")
    assert {line[:4] for line in message.decode().split("\r")[:-1]} <= {
        f"{name}|"
        for name in ("MSH", "EVN", "PID", "PD1", "NK1", "PV1", "PV2", "OBX", "NTE", "AL1", "DG1", "GT1", "IN1")
    }
    read = map_message(Message.parse(message)).patient
    assert (read.birth_date, read.sex, read.mrn) == (found.patient.birth_date, found.patient.sex, found.patient.mrn)


EXAMPLES = {
    "ADT^A08": event(encounter=Encounter(patient_class="I", attending=DOCTOR)),
    "ADT^A31": event(),
    "ADT^A40": event(kind="patient.merged", merge=Merge(identifiers=(RECORD,), mrn=RECORD)),
    "SIU^S12": event(
        kind="appointment.booked",
        appointment=Appointment(
            filler=Identifier(value="A1"), starts_at=AT, minutes=30, event_reason=Concept(code="ROUTINE"),
            services=(Concept(code="CONS", text="Consultation"),), practitioners=(DOCTOR,),
        ),
    ),
    "ORU^R01": event(
        kind="result.final",
        results=(
            Result(
                identifier=Identifier(value="F1"), status="final",
                code=Concept(code="58410-2", system="LN", text="CBC"),
                observations=(
                    Observation(
                        code=Concept(code="718-7", system="LN", text="Hemoglobin"), value="13.5",
                        value_type="quantity", unit="g/dL", status="final", interpretation="N",
                    ),
                ),
            ),
        ),
    ),
    "MDM^T02": event(
        kind="document.added",
        encounter=Encounter(patient_class="O"),
        document=ClinicalDocument(
            identifier=Identifier(value="D1"), type=Concept(code="DS"), completion="final", status="current",
            attachments=(Attachment(content_type="text/plain", data="one\ntwo"),),
        ),
    ),
    "REF^I12": event(
        kind="referral.requested",
        referral=Referral(
            identifier=Identifier(value="R1"), status="active", sender=DOCTOR, receiver=DOCTOR,
            receiving_organization=Organization(name="East Clinic"),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_message_is_what_hl7apy_takes_for_valid(kind: str) -> None:
    written = to_hl7(EXAMPLES[kind]).decode()
    assert written.split("|", 9)[8].startswith(kind)
    parsed = parse_message(written, validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=True)
    assert parsed.name == TYPES[kind][0]
    assert not [child.name for child in parsed.children if child.name.startswith("Z")]
    strict = parse_message(written, validation_level=VALIDATION_LEVEL.STRICT, find_groups=True)
    assert strict.validate()
    assert not [each for each in validate(Message.parse(written.encode()), "strict") if each.severity == "error"]


def test_fields_are_those_of_the_version() -> None:
    seen = Observation(
        code=Concept(code="8480-6"), status="final", body_site=Concept(code="ARM"), identifier=Identifier(value="9"),
        performing_organization=Organization(name="East Lab", identifier=Identifier(value="33D")), notes=("sitting",),
    )  # fmt: skip
    found = event(observations=(seen,), referral=EXAMPLES["REF^I12"].referral)
    fields = {version: segments(to_hl7(found, "ORU^R01", version=version), "OBX")[0].split("|") for version in VERSIONS}
    assert {version: len(each) - 1 for version, each in fields.items() if version < "2.5.1"} == dict.fromkeys(
        ("2.3", "2.3.1", "2.4", "2.5"), 15
    )
    assert fields["2.4"][15] == "33D^East Lab"
    assert fields["2.5.1"][20:] == ["", "", "", "East Lab^^^^^^^^^33D"]
    assert fields["2.6"][20:] == ["ARM", "9", "", "East Lab^^^^^^^^^33D"]
    assert segments(to_hl7(found, "REF^I12"), "PRD")[1].split("|")[4:] == ["^^^^^^^^East Clinic", "", "", DOCTOR_PLN]
    assert segments(to_hl7(found, "REF^I12", version="2.6"), "PRD")[1].split("|")[10] == "East Clinic"
    assert segments(to_hl7(found, "ORU^R01"), "NTE") == ["NTE|1||sitting"]
    assert not segments(to_hl7(found, "ADT^A08"), "NTE")  # which has no place for it


def test_what_is_not_known_is_said_as_the_standard_says_it() -> None:
    nameless = dataclasses.replace(event().patient, names=(), family=None, given=None)
    booked = event(patient=nameless, appointment=Appointment(starts_at=AT), coverage=(COVERED,))
    assert segments(to_hl7(booked, "SIU^S12"), "SCH")[0].split("|")[6] == "NAV^Not available^HL70353"
    assert segments(to_hl7(booked, "SIU^S12"), "PID")[0].endswith("||^^^^^^U||19620910|F|||||(205)555-0142^PRN^PH")
    assert segments(to_hl7(booked, "ADT^A08"), "IN1") == ["IN1|1|NAV^Not available^HL70353|K1"]
    back = map_message(Message.parse(to_hl7(booked, "SIU^S12"))).patient
    assert (back.names, back.family) == ((), None)


@pytest.mark.parametrize(
    ("parts", "kind", "place", "said"),
    [
        ({"observations": (MEASURED, UNTOLD)}, "ADT^A08", "OBX(2)-11", "event.observations[…].status"),
        ({"results": (Result(code=CBC, observations=(UNTOLD,)),)}, "ORU^R01", "OBX-11", "observations[…].status"),
        ({"results": (Result(status="final"),)}, "ORU^R01", "OBR-4", "event.results[…].code"),
        ({"document": ClinicalDocument(type=CBC)}, "MDM^T02", "TXA-17", "event.document.completion"),
        ({"referral": Referral()}, "REF^I12", "RF1-6", "event.referral.identifier"),
        ({"patient": Patient(mrn=None, family="A")}, "ADT^A31", "PID-3", "event.patient.identifiers"),
    ],
)
def test_event_that_lacks_what_must_be_there_is_refused_unless_the_partner_takes_it_so(
    parts: dict[str, Any], kind: str, place: str, said: str
) -> None:
    with pytest.raises(StepError, match=r"HL7 2\.5\.1 requires") as caught:
        to_hl7(event(**parts), kind)
    assert caught.value.location == place
    assert said in str(caught.value)
    field = place.replace("(2)", "")
    assert f"optional='{field}'" in str(caught.value)
    assert to_hl7(event(**parts), kind, optional={field})


@pytest.mark.parametrize(("status", "letter"), [("final", "F"), ("preliminary", "P"), ("corrected", None)])
def test_observation_without_a_status_has_that_of_its_report(status: str, letter: str | None) -> None:
    found = event(results=(Result(code=CBC, status=status, observations=(UNTOLD,)),))
    if letter is None:
        with pytest.raises(StepError, match="OBX-11"):
            to_hl7(found, "ORU^R01")
    else:
        assert segments(to_hl7(found, "ORU^R01"), "OBX")[0].split("|")[11] == letter
    declined = dataclasses.replace(UNTOLD, value=None, value_type=None, absent="not-asked")
    assert segments(to_hl7(event(observations=(declined,)), "ORU^R01"), "OBX")[0].split("|")[11] == "N"


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_kind_names_its_message_and_the_same_event_gives_the_same_bytes(kind: str) -> None:
    assert type_of(EXAMPLES[kind]) == kind
    assert to_hl7(EXAMPLES[kind]) == to_hl7(EXAMPLES[kind])
    ids = {to_hl7(EXAMPLES[kind], each).split(b"|", 10)[9] for each in (kind, None)}
    assert len(ids) == 1
    assert all(len(each) <= 20 for each in ids)


def test_cleared_fields_go_as_explicit_null() -> None:
    cleared = ("patient.marital_status", "patient.sex", "encounter.service")
    message = to_hl7(event(cleared=cleared, encounter=Encounter(patient_class="O")))
    read = map_message(Message.parse(message))
    assert set(read.cleared) == {"patient.marital_status", "encounter.service"}  # a sex is said, so it is not cleared
    assert segments(message, "PID")[0].split("|")[16] == '""'


def test_header_says_who_when_and_in_which_letters() -> None:
    message = to_hl7(
        event(),
        sending="HANDOFF|MERCY",
        receiving="EPIC|1.2.3",
        version="2.4",
        control_id="C|1",
        at="2024-03-01T16:00:00Z",
    )
    header = segments(message, "MSH")[0].split("|")
    assert header[2:7] == ["HANDOFF", "MERCY", "EPIC", "1.2.3", "20240301160000+0000"]
    assert header[9:12] == ["C\\F\\1", "P", "2.4"]
    assert header[17] == "UNICODE UTF-8"
    assert segments(message, "EVN")[0].endswith("|20240301100000-0600")


def test_other_record_is_never_found_first() -> None:
    """An identifier that a reader would take for the record number stands where nobody takes it for that."""
    own, other = Identifier(value="E1", system="EPI", type="PI"), Identifier(value="9", system="OLD", type="MR")
    found = event(patient=Patient(mrn=own, identifiers=(other, own), family="A"))
    assert map_message(Message.parse(to_hl7(found))).patient.mrn == own
    merged = event(kind="patient.merged", merge=Merge(identifiers=(other, own), mrn=own))
    merge = map_message(Message.parse(to_hl7(merged))).merge
    assert merge is not None
    assert merge.mrn == own


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("ADT^A40", "MRG-1"),
        ("SIU^S12", "SCH"),
        ("ORU^R01", "OBR"),
        ("MDM^T02", "TXA"),
        ("REF^I12", "RF1"),
        ("ADT^A99", "MSH-9"),
    ],
)
def test_event_without_what_the_message_is_about_is_refused_with_its_place(kind: str, place: str) -> None:
    with pytest.raises(StepError) as caught:
        to_hl7(event(), kind)
    assert caught.value.location == place


def test_message_without_any_time_or_of_another_version_is_refused() -> None:
    with pytest.raises(StepError, match="MSH-7"):
        to_hl7(dataclasses.replace(event(), occurred_at=None))
    with pytest.raises(StepError, match="version 3 is not written"):
        to_hl7(event(), version="3")
    with pytest.raises(StepError, match="no message tells query"):
        to_hl7(event(kind="query.asked"))
