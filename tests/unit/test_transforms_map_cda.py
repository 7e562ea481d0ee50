"""A care summary becomes one event: patient, visit, document, and the lists of its sections."""

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Concept, Event, Identifier
from broker.errors import MessageError, StepError
from tests.cda_documents import (
    ALLERGIES,
    ENCOUNTERS,
    HEAD,
    IMMUNIZATIONS,
    MEDICATIONS,
    PROBLEMS,
    RESULTS,
    SECTIONS,
    VITALS,
    summary,
)
from transforms.map_cda import map_cda, read_cda


def told(*sections: str, head: str = HEAD) -> Event:
    event = map_cda(read_cda(summary(*sections, head=head)))
    assert decode(encode(event)) == event
    return event


def test_patient_is_known_by_a_record_number_and_not_by_social_security() -> None:
    event = told()
    patient = event.patient
    assert event.kind == "summary.received"
    assert event.occurred_at == "2026-11-20T14:30:00-05:00"
    assert patient.mrn == Identifier(value="MR-7", system="urn:oid:2.16.840.1.113883.3.9999.2")
    assert (patient.family, patient.given, patient.birth_date, patient.sex) == (
        "Testwood",
        "Ada",
        "1962-09-10",
        "female",
    )
    assert (patient.mobile, patient.email, patient.language) == ("+12055550123", "ada@example.org", "en")
    assert patient.addresses[0].lines == ("1 Elm St", "Flat 2")
    assert patient.birth_place == "Mobile, AL"
    assert patient.race
    assert patient.race.code == "2106-3"
    assert [(person.names[0].given, person.role) for person in event.related_people] == [
        (("Gran",), "contact"),
        (("Frank",), "next-of-kin"),
    ]


def test_head_becomes_document_and_visit() -> None:
    event = told()
    document, visit = event.document, event.encounter
    assert document
    assert visit
    assert document.identifier == Identifier(value="DOC-1", system="urn:oid:2.16.840.1.113883.3.9999.1")
    assert document.replaces == Identifier(value="DOC-0", system="urn:oid:2.16.840.1.113883.3.9999.1")
    assert (document.title, document.completion, document.signed_at) == (
        "Continuity of Care", "final", "2026-11-20T15:00:00-05:00"
    )  # fmt: skip
    assert document.author
    assert document.author.family == "Seven"
    assert (visit.patient_class, visit.admitted_at, visit.discharged_at) == ("I", "2026-11-18", "2026-11-20")
    assert visit.attending
    assert visit.attending.given == "Alma"
    assert event.source.facility == "Community Clinic"
    assert event.source.control_id == "2.16.840.1.113883.3.9999.1^DOC-1"


def test_narrative_is_kept_by_its_place_alone() -> None:
    event = told(PROBLEMS, VITALS)
    assert event.document
    assert [(part.title, part.url, part.data) for part in event.document.attachments] == [
        ("Problems", "section[1]/text", None),
        ("Vital signs", "section[2]/text", None),
    ]


def test_problems() -> None:
    first, second = told(PROBLEMS).conditions
    assert first.code
    assert (first.code.code, first.code.text, first.code.alternates[0].code) == (
        "38341003",
        "High blood pressure",
        "I10",
    )
    assert (first.clinical_status, first.onset_at, first.recorded_at) == ("active", "2010-03-15", "2010-04-01")
    assert (second.clinical_status, second.onset_at, second.abated_at) == ("resolved", "2011", "2012-02")


def test_a_problem_that_is_denied_is_refuted() -> None:
    denied = PROBLEMS.replace('<observation classCode="OBS"', '<observation negationInd="true" classCode="OBS"')
    assert [each.verification_status for each in told(denied).conditions] == ["refuted", "refuted"]


def test_allergies() -> None:
    (allergy,) = told(ALLERGIES).allergies
    assert allergy.code
    assert (allergy.code.text, allergy.type, allergy.category) == ("Penicillin", "allergy", "medication")
    assert (allergy.severity, allergy.criticality, allergy.clinical_status) == ("moderate", "high", "active")
    assert [sign.text for sign in allergy.reactions] == ["Hives"]


def test_medications() -> None:
    (medicine,) = told(MEDICATIONS).medications
    assert medicine.code
    assert (medicine.code.text, medicine.dosage) == ("Lisinopril 10 MG", "one tablet twice a day")
    assert (medicine.kind, medicine.status, medicine.dose, medicine.frequency) == (
        "statement",
        "active",
        "1",
        "every 12 h",
    )
    assert (medicine.starts_at, medicine.ends_at, medicine.refills, medicine.quantity) == (
        "2024-01-01", "2027-01-01", 3, "60"
    )  # fmt: skip


def test_a_medication_that_is_to_be_given_is_a_request() -> None:
    (medicine,) = told(MEDICATIONS.replace('classCode="SBADM" moodCode="EVN"', 'moodCode="INT"')).medications
    assert (medicine.kind, medicine.intent) == ("request", "order")


def test_immunizations_given_and_refused() -> None:
    given, refused = told(IMMUNIZATIONS).immunizations
    assert (given.status, given.lot, given.dose, given.dose_unit) == ("completed", "LOT-9", "0.50", "mL")
    assert refused.reason
    assert (refused.status, refused.reason.code) == ("not-done", "PATOBJ")


def test_results_and_vital_signs() -> None:
    event = told(RESULTS, VITALS)
    (report,) = event.results
    potassium, colour = report.observations
    assert (report.status, report.observed_at) == ("final", "2026-11-19T08:30:00-05:00")
    assert (potassium.value, potassium.unit, potassium.reference_range) == ("4.10", "mmol/L", "3.5-5.1")
    assert (colour.value, colour.value_type, colour.status) == ("Yellow", "string", "preliminary")
    assert [(sign.value, sign.category) for sign in event.observations] == [("128", "vital-signs")]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('<value xsi:type="CD" code="1" displayName="One"/>', ("One", "concept", None)),
        ('<value xsi:type="IVL_PQ"><low value="1" unit="g"/></value>', (">= 1", "range", "g")),
        ('<value xsi:type="TS" value="20260102"/>', ("2026-01-02", "datetime", None)),
        ('<value xsi:type="BL" value="true"/>', ("true", "boolean", None)),
        ('<value xsi:type="INT" value="3"/>', ("3", "quantity", None)),
        ('<value xsi:type="ST">seen</value>', ("seen", "string", None)),
        ("", (None, None, None)),
    ],
)
def test_values_of_every_type(value: str, found: tuple[str | None, ...]) -> None:
    first, _, rest = VITALS.partition('<value xsi:type="PQ" value="128" unit="mm[Hg]"/>')
    (sign,) = told(first + value + rest).observations
    assert (sign.value, sign.value_type, sign.unit) == found


def test_visits_of_a_section_count_where_the_head_names_none() -> None:
    without = HEAD[: HEAD.index("<componentOf>")]
    visit = told(ENCOUNTERS, head=without).encounter
    assert visit
    assert (visit.patient_class, visit.admitted_at) == ("O", "2026-09-01")
    assert told(ENCOUNTERS).encounter != visit


def test_sections_are_known_without_templates_and_without_codes() -> None:
    plain = [section for section in SECTIONS if section.startswith("<section><templateId")]
    bare = told(*(section[: section.index("<templateId")] + section[section.index("/>") + 2 :] for section in plain))
    assert not bare.medications  # neither template nor code
    assert len(bare.conditions) == 2  # by LOINC code
    nested = f"<section><code code='x'/><component>{PROBLEMS}</component></section>"
    assert len(told(nested).conditions) == 2


def test_unstructured_body_comes_along() -> None:
    text = '<text mediaType="application/pdf" representation="B64">JVBE\nRi0=</text>'
    body = f"<component><nonXMLBody>{text}</nonXMLBody></component>"
    event = map_cda(read_cda(f"{HEAD}{body}</ClinicalDocument>".encode()))
    assert event.document
    (part,) = event.document.attachments
    assert (part.content_type, part.encoding, part.data) == ("application/pdf", "base64", "JVBERi0=")


def test_document_about_nobody_or_several_is_refused() -> None:
    begin, end = HEAD.index("<recordTarget>"), HEAD.index("</recordTarget>") + len("</recordTarget>")
    for count, words in ((0, "names no patient"), (2, "several patients")):
        head = HEAD[:begin] + HEAD[begin:end] * count + HEAD[end:]
        with pytest.raises(StepError, match=words) as caught:
            told(head=head)
        assert caught.value.location == "ClinicalDocument.recordTarget"


@pytest.mark.parametrize("data", [b"<ClinicalDocument/>", b'<Patient xmlns="http://hl7.org/fhir"/>'])
def test_other_xml_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="is no CDA"):
        read_cda(data)


def test_what_says_nothing_is_nothing() -> None:
    empty = '<ClinicalDocument xmlns="urn:hl7-org:v3"><recordTarget><patientRole/></recordTarget></ClinicalDocument>'
    event = map_cda(read_cda(empty.encode()))
    assert event.patient.mrn is None
    assert event.patient.names == ()
    assert event.encounter is None


def test_problem_says_itself_whether_it_is_there_and_is_named_by_the_narrative_or_passed_over() -> None:
    status = (
        '<entryRelationship><observation><code code="33999-4"/><value code="{}"/></observation></entryRelationship>'
    )
    second = '<observation classCode="OBS" moodCode="EVN"><effectiveTime><low value="2011"/><high value="201202"/>'
    begin, _, rest = PROBLEMS.partition(second)
    found = told(begin + second.replace("<effectiveTime>", status.format("55561003") + "<effectiveTime>") + rest)
    assert [problem.clinical_status for problem in found.conditions] == ["active", "active"]
    unknown = told(begin + second.replace("<effectiveTime>", status.format("1") + "<effectiveTime>") + rest)
    assert [problem.clinical_status for problem in unknown.conditions] == ["active", "resolved"]
    asthma = rest[rest.index("<value") : rest.index("/>") + 2]
    written = told(begin + second + rest.replace(asthma, '<text><reference value="#p1"/></text>'))
    assert written.conditions[1].code == Concept(text="High blood pressure")
    assert len(told(begin + second + rest.replace(asthma, "")).conditions) == 1


def test_what_is_taken_may_be_named_in_words_and_timed_by_an_event() -> None:
    coded = MEDICATIONS[MEDICATIONS.index("<code code=") : MEDICATIONS.index("</manufacturedMaterial>")]
    (named,) = told(MEDICATIONS.replace(coded, "<name>Herbal tea</name>")).medications
    assert named.code == Concept(text="Herbal tea")
    assert told(MEDICATIONS.replace(coded, "")).medications == ()
    (at_meals,) = told(MEDICATIONS.replace('<period value="12" unit="h"/>', '<event code="C"/>')).medications
    assert at_meals.frequency == "C"
    low, high = '<low value="20240101"/>', '<high value="20270101"/>'
    untimed = MEDICATIONS.replace(low + high, "").replace('<period value="12" unit="h"/>', "")
    (bare,) = told(untimed.replace('<statusCode code="active"/>', "")).medications
    assert (bare.starts_at, bare.ends_at, bare.frequency, bare.status) == (None, None, None, None)
    (refused,) = told(MEDICATIONS.replace('moodCode="EVN"><id', 'moodCode="EVN" negationInd="true"><id')).medications
    assert refused.status == "not-taken"


def test_vaccine_without_a_name_is_passed_over_and_a_refusal_needs_no_reason() -> None:
    coded = IMMUNIZATIONS[IMMUNIZATIONS.index('<code code="140"') : IMMUNIZATIONS.index("<lotNumberText>")]
    (refused,) = told(IMMUNIZATIONS.replace(coded, "").replace('"RSON"', '"COMP"')).immunizations
    assert (refused.status, refused.reason) == ("not-done", None)


def test_section_of_an_unknown_template_goes_by_its_code() -> None:
    named = PROBLEMS.replace("10.20.22.2.5.1", "10.99")
    assert len(told(named).conditions) == 2
