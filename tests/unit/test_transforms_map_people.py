"""Who belongs to a patient: NK1, GT1, and the people of ROL."""

import pytest

from broker.canonical.model import Address, Concept, Identifier, Name, Organization, Telecom
from tests.mapping import PID, PV1, mapped, segment


def test_next_of_kin_is_mapped_field_by_field() -> None:
    kin = segment(
        "NK1",
        f1="1",
        f2="Okafor^Ben^^^^^L",
        f3="SPO^Spouse^HL70063",
        f4="1 Ash St^^Springfield^IL^62701",
        f5="555-0100",
        f6="555-0101",
        f7="C",
        f8="20200101",
        f9="20260101",
        f15="M",
        f16="19600102",
        f33="77^^^MERCY^PI",
    )
    (person,) = mapped("ADT^A08", PID, kin).related_people
    assert person.names == (Name(family="Okafor", given=("Ben",), use="official"),)
    assert person.relationship == Concept(code="SPO", system="HL70063", text="Spouse")
    assert (person.role, person.sex, person.birth_date) == ("emergency", "male", "1960-01-02")
    assert person.telecom == (Telecom(value="555-0100", use="home"), Telecom(value="555-0101", use="work"))
    assert person.addresses == (Address(lines=("1 Ash St",), city="Springfield", state="IL", postal_code="62701"),)
    assert person.identifiers == (Identifier(value="77", system="MERCY", type="PI"),)
    assert (person.starts_at, person.ends_at) == ("2020-01-01", "2026-01-01")


@pytest.mark.parametrize(
    ("contact", "relation", "role"),
    [
        ("", "", "next-of-kin"),
        ("", "EMC", "emergency"),
        ("", "EMR", "employer"),
        ("N", "EMC", "next-of-kin"),
        ("E", "", "employer"),
        ("O", "", "contact"),
    ],
)
def test_role_follows_contact_role_then_relationship(contact: str, relation: str, role: str) -> None:
    (person,) = mapped("ADT^A08", PID, segment("NK1", f2="A^B", f3=relation, f7=contact)).related_people
    assert person.role == role


def test_nobody_is_left_out_who_can_be_reached_and_nobody_is_made_of_nothing() -> None:
    people = mapped(
        "ADT^A08", PID, "NK1|1", "NK1|2||SPO", segment("NK1", f5="555-0100"), segment("NK1", f13="Acme", f31="555-0102")
    ).related_people
    assert [person.telecom[0].value for person in people] == ["555-0100", "555-0102"]
    assert people[1].organization == Organization(name="Acme")


def test_guarantor_is_a_person_of_their_own() -> None:
    guarantor = segment(
        "GT1", f2="G1^^^MERCY", f3="Okafor^Ben", f6="555-0100", f8="19600102", f9="M", f11="SPO", f12="123-45-6789"
    )
    event = mapped("ADT^A08", PID, guarantor)
    (person,) = event.related_people
    assert (person.role, person.birth_date, person.sex) == ("guarantor", "1960-01-02", "male")
    assert person.identifiers == (Identifier(value="G1", system="MERCY"), Identifier(value="123-45-6789", type="SS"))
    assert "123-45-6789" not in {identifier.value for identifier in event.patient.identifiers}


def test_people_of_rol_fill_what_pd1_and_pv1_leave_open() -> None:
    event = mapped(
        "ADT^A01",
        PID,
        "ROL|1|AD|PP^Primary care|1^Grey",
        PV1 + "|" * 20,
        "ROL|2|AD|AT|2^Lind",
        "ROL|3|AD|CP|3^Berg",
        "ROL|4|AD|CP|4^Holm",
        "ROL|5|DE|AD|5^Gone",
        "ROL|6|AD|XX|6^Other",
    )
    assert event.encounter is not None
    assert event.patient.general_practitioner is not None
    assert event.patient.general_practitioner.family == "Grey"
    assert event.encounter.attending is not None
    assert event.encounter.attending.family == "Lind"
    assert [person.family for person in event.encounter.consulting] == ["Berg", "Holm"]
    assert event.encounter.admitting is None


def test_people_of_rol_replace_nobody() -> None:
    event = mapped(
        "ADT^A01", PID, "PD1||||1^Grey", "ROL|1|AD|PP|2^Lind", segment("PV1", f2="I", f7="3^Berg"), "ROL|2|AD|AT|4^Holm"
    )
    assert event.encounter is not None
    assert event.patient.general_practitioner is not None
    assert event.patient.general_practitioner.family == "Grey"
    assert event.encounter.attending is not None
    assert event.encounter.attending.family == "Berg"
