"""This module tests the reading of clinical data types, component by component."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.canonical.model import Coding, Concept, Identifier, Organization, Practitioner
from broker.wire.er7 import Separators
from transforms import hl7_codes as codes
from transforms.hl7_types import Reader

READ = Reader(Separators(), "utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ('""', None),
        ("^^", None),
        ("GLU", Concept(code="GLU")),
        ("2345-7^Glucose^LN", Concept(code="2345-7", system="LN", text="Glucose")),
        ("^Positive", Concept(text="Positive")),
        (
            "2345-7^Glucose [Mass/volume]^LN^GLU^Glukose^L^2.40^V1^blood sugar",
            Concept(
                code="2345-7",
                system="LN",
                text="blood sugar",
                display="Glucose [Mass/volume]",
                alternates=(Coding(code="GLU", system="L", display="Glukose"),),
            ),
        ),
        ("^^^GLU^Glucose^L", Concept(code="GLU", system="L", text="Glucose")),
        ("^^^^^^^^in their own words", Concept(text="in their own words")),
        ("I&O^Intake & Output^L", Concept(code="I&O", system="L", text="Intake & Output")),
        ("A\\T\\B^x\\S\\y", Concept(code="A&B", text="x^y")),
        (
            "1^one^^^^^^^^3^three^SCT^^2.16.840.1.113883.6.1",
            Concept(
                code="1",
                system="urn:oid:2.16.840.1.113883.6.1",
                text="one",
                alternates=(Coding(code="3", system="SCT", display="three"),),
            ),
        ),
    ],
)
def test_concept_is_read(text: str, expected: Concept | None) -> None:
    assert codes.concept(READ, text) == expected


def test_long_concept_is_read() -> None:
    long = "x" * 500
    assert codes.concept(READ, f"A^{long}^L") == Concept(code="A", system="L", text=long)


def test_short_fields_are_kept_and_long_ones_are_not() -> None:
    asked: list[int] = []
    count = codes.kept_fields(lambda _, field: asked.append(len(field)), 2)
    for field in ("short", "short", "x" * 500, "x" * 500):
        count(READ, field)
    assert asked == [5, 500, 500]


@given(st.text(max_size=60))
def test_any_text_is_a_concept_or_none(text: str) -> None:
    found = codes.concept(READ, text)
    assert found is None or found.code or found.text


def test_first_and_every_repetition() -> None:
    assert codes.first_concept(READ, "~B^b~C") == Concept(code="B", text="b")
    assert codes.concepts(READ, "A~~B") == (Concept(code="A"), Concept(code="B"))
    assert codes.first_concept(READ, "") is None
    assert codes.concepts(READ, '""') == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("^LAB", None),
        ("A1", Identifier(value="A1")),
        ("A1^LAB", Identifier(value="A1", system="LAB")),
        ("A1^LAB^1.2.3^ISO", Identifier(value="A1", system="urn:oid:1.2.3")),
        ("A1^^lab.example^DNS~B2", Identifier(value="A1", system="lab.example")),
        ("A1^^0AF^UUID", Identifier(value="A1", system="urn:uuid:0af")),
    ],
)
def test_entity_is_read(text: str, expected: Identifier | None) -> None:
    assert codes.entity(READ, text) == expected


def test_nested_entity_is_read() -> None:
    assert codes.nested_entity(READ, "A1&LAB&1.2.3&ISO") == Identifier(value="A1", system="urn:oid:1.2.3")
    assert codes.nested_entity(READ, "") is None


def test_organization_is_read() -> None:
    assert codes.organization(READ, "Mercy Lab^L^^^^CLIA&2.16.4&ISO^XX^^^05D") == Organization(
        name="Mercy Lab", identifier=Identifier(value="05D", system="urn:oid:2.16.4", type="XX")
    )
    assert codes.organization(READ, "Mercy^L^12") == Organization(name="Mercy", identifier=Identifier(value="12"))
    assert codes.organization(READ, "^L") is None
    assert codes.organization(READ, "") is None
    assert codes.coded_organization(READ, "SKB^GlaxoSmithKline^MVX") == Organization(
        name="GlaxoSmithKline", identifier=Identifier(value="SKB", system="MVX")
    )
    assert codes.coded_organization(READ, "") is None


@pytest.mark.parametrize("text", ["77&Osei&Ama^20240501^20240502", "77^Osei^Ama"])
def test_practitioner_is_read_nested_or_not(text: str) -> None:
    expected = Practitioner(identifier=Identifier(value="77"), family="Osei", given="Ama")
    found = codes.nested_practitioner(READ, text)
    assert found == expected
    assert codes.nested_practitioner(READ, "") is None
    assert codes.nested_practitioner(READ, '""') is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, text) for text in ("5.30", "-1", "+2", ".5", "1e3", "007")],
        (" -1 ", "-1"),
        *[(text, None) for text in ("5,3", "<5", "", "\u0661", None, "+", "NaN", "1 2")],
    ],
)
def test_number_is_as_sent_or_none(text: str | None, expected: str | None) -> None:
    assert codes.number(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("3.0", 3), ("3.5", None), ("", None), ("1e400", None), ("9" * 30, None)]
)
def test_whole_number(text: str, expected: int | None) -> None:
    assert codes.whole(text) == expected


def test_quantity_and_unit() -> None:
    assert codes.quantity(READ, "10^mL&milliliter&UCUM") == ("10", "mL")
    assert codes.quantity(READ, "ten^mL") == (None, "mL")
    assert codes.quantity(READ, "") == (None, None)
    assert codes.unit_of(READ, "^per day") == "per day"
    assert codes.unit_of(READ, "43^mg/hr") == "mg/hr"
    assert codes.unit_of(READ, "1^one^L") == "1"
    assert codes.unit_of(READ, "") is None


def test_day() -> None:
    assert codes.day_of(READ, "soon") is None
    assert codes.day_of(READ, "20240501103000") == "2024-05-01"
    assert codes.day_of(READ, "") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\\.br\\two", "one\ntwo"),
        ("one\\.sp2\\two", "one\n\ntwo"),
        ("one\\.sp9999\\two", "one" + "\n" * 20 + "two"),
        ("\\.ti+4\\\\H\\Bold\\N\\ text\\.ce\\next", "Bold text\nnext"),
        ("a\\.sk3\\b", "a b"),
        ("\\H\\N\\N\\", "N"),
        ("C:\\MIME\\a.pdf", "C:\\MIME\\a.pdf"),
        ("a\\T\\b \\X41\\ \\Zx\\", "a&b A \\Zx\\"),
        ("plain & simple^", "plain & simple^"),
        ("", None),
    ],
)
def test_formatted_text(text: str, expected: str | None) -> None:
    assert codes.formatted(READ, text) == expected


def test_text_without_escape_character() -> None:
    read = Reader(Separators(escape=""), "utf-8")
    assert codes.formatted(read, "one\\.br\\two") == "one\\.br\\two"
