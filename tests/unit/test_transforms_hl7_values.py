"""This module tests the reading of OBX-5 by the type that OBX-2 names."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.canonical.model import Attachment, Concept, ObservationPart
from broker.wire.er7 import Separators
from transforms.hl7_types import Reader
from transforms.hl7_values import NOTHING, Value, value_of

READ = Reader(Separators(), "utf-8")


def quantity(text: str, comparator: str | None = None, unit: str | None = None) -> Value:
    return Value(text, "quantity", comparator=comparator, unit=unit)


def string(text: str) -> Value:
    return Value(text, "string")


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        ("NM", "5", quantity("5")),
        ("NM", " 5.30 ", quantity("5.30")),
        ("NM", "-1e3", quantity("-1e3")),
        ("NM", "<5", quantity("5", "<")),
        ("NM", ">= 10.5", quantity("10.5", ">=")),
        ("NM", "=<3", quantity("3", "<=")),
        ("NM", "5 mg", string("5 mg")),
        ("NM", "5^mg", string("5 mg")),
        ("NM", '""', NOTHING),
        ("nm", "5", quantity("5")),
        ("NM^x", "5", quantity("5")),
        ("SN", "^5", quantity("5")),
        ("SN", "<^5", quantity("5", "<")),
        ("SN", "=^5", quantity("5")),
        ("SN", "<>^5", string("<>5")),
        ("SN", "^10^-^20", Value("10-20", "range")),
        ("SN", "^1^:^128", Value("1:128", "ratio")),
        ("SN", ">^1^:^128", Value("1:128", "ratio", comparator=">")),
        ("SN", "^2^+", string("2+")),
        ("SN", "5", string("5")),
        ("SN", "^x", string("x")),
        ("SN", "^^^", NOTHING),
        ("ST", "a^b&c", string("a^b&c")),
        ("ST", "", NOTHING),
        ("TX", "one~two~~four", string("one\ntwo\n\nfour")),
        ("FT", "one\\.br\\two~three\\.sp2\\four", string("one\ntwo\nthree\n\nfour")),
        ("CE", "N^Negative^L", Value("Negative", "concept", Concept(code="N", system="L", text="Negative"))),
        ("CWE", "^Negative", Value("Negative", "concept", Concept(text="Negative"))),
        ("ID", "Y", Value("Y", "concept", Concept(code="Y"))),
        ("CWE", "^", NOTHING),
        ("DT", "20240501", Value("2024-05-01", "datetime")),
        ("DT", "May", string("May")),
        ("TS", "202405011030-0500", Value("2024-05-01T10:30:00-05:00", "datetime")),
        ("DTM", "2024", Value("2024", "datetime")),
        ("TS", "noon", string("noon")),
        ("TM", "0815", Value("08:15:00", "time")),
        ("TM", "081530.25-0500", Value("08:15:30", "time")),
        ("TM", "2500", string("2500")),
        ("DR", "20240501^20240502", string("2024-05-01/2024-05-02")),
        ("DR", "20240501", string("2024-05-01/..")),
        ("DR", "a^b", string("a b")),
        ("CQ", "5^mL&milliliter&UCUM", quantity("5", unit="mL")),
        ("CQ", "some^mL", string("some mL")),
        ("XTN", "^WPN^PH^^1^217^5550100", string("+1 217 5550100")),
        ("XTN", "^WPN", NOTHING),
        ("CX", "123^^^M^MR", string("123")),
        ("XAD", "1 Ash St&Ash&1^Apt 2^Town", string("1 Ash St Ash 1 Apt 2 Town")),
        ("XPN", "Okafor^Ngozi", string("Okafor Ngozi")),
        ("", "a \\T\\ b", string("a & b")),
        ("", "a^b", string("a b")),
        ("WHAT", "a", string("a")),
    ],
)
def test_value_is_read_by_its_type(kind: str, field: str, expected: Value) -> None:
    assert value_of(READ, kind, field) == expected


def test_several_codes_are_parts_and_lines() -> None:
    first, second = Concept(code="A", text="a"), Concept(code="B", text="b")
    assert value_of(READ, "CWE", "A^a~~B^b") == Value(
        "a\nb",
        "concept",
        first,
        parts=(
            ObservationPart(value="a", value_type="concept", concept=first),
            ObservationPart(value="b", value_type="concept", concept=second),
        ),
    )


def test_several_numbers_are_parts_and_lines() -> None:
    found = value_of(READ, "NM", "60~<120")
    assert (found.text, found.type) == ("60\n120", "string")
    assert [(part.value, part.comparator, part.value_type) for part in found.parts] == [
        ("60", None, "quantity"),
        ("120", "<", "quantity"),
    ]
    assert value_of(READ, "NM", "60~") == quantity("60")
    assert value_of(READ, "NM", "~") == NOTHING


PDF = base64.b64encode(b"%PDF-1.4 x").decode()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (f"L^application^pdf^Base64^{PDF}", "application/pdf"),
        (f"L^TEXT^PDF^Base64^{PDF}", "application/pdf"),
        (f"^^PDF^BASE64^{PDF}", "application/pdf"),
        (f"^AP^^Base64^{PDF}", "application/pdf"),
        (f"PDF^Base64^{PDF}", "application/pdf"),
        (PDF, "application/pdf"),
        (f"^IM^x-own^Base64^{PDF}", "image/x-own"),
        (f"^^application/fhir+json^Base64^{PDF}", "application/fhir+json"),
        (f"^application^pdf^Base64^{PDF[:6]}\n{PDF[6:]}", "application/pdf"),
        (f"^application^pdf^Hex^{b'%PDF-1.4 x'.hex()}", "application/pdf"),
    ],
)
def test_file_is_read(field: str, expected: str) -> None:
    assert value_of(READ, "ED", field) == Value(
        None,
        "attachment",
        files=(Attachment(content_type=expected, encoding="base64", data=PDF, size=10),),
    )


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("L^text^plain^A^one\\.br\\two^three~four", "text/plain", "one\ntwo^three~four"),
        ("L^TEXT^^A^plain", "text/plain", "plain"),
        ("L^^^^plain", None, "plain"),
        ("L^application^pdf^Hex^no hex", "application/pdf", "no hex"),
    ],
)
def test_text_is_attached_as_text(field: str, kind: str | None, text: str) -> None:
    assert value_of(READ, "ED", field) == Value(None, "attachment", files=(Attachment(content_type=kind, data=text),))


def test_empty_file_is_nothing() -> None:
    assert value_of(READ, "ED", "L^application^pdf^Base64^") == NOTHING


def test_pointer_is_an_address() -> None:
    expected = Attachment(content_type="application/pdf", url="https://pacs/1?a=1&b=2")
    assert value_of(READ, "RP", "https:\\X2F\\/pacs/1?a=1&b=2^PACS^application^PDF") == Value(
        "https://pacs/1?a=1&b=2", "attachment", files=(expected,)
    )
    assert value_of(READ, "RP", "^PACS") == NOTHING


@given(
    st.sampled_from(
        ["NM", "SN", "ST", "FT", "CWE", "DT", "TS", "TM", "DR", "CQ", "ED", "RP", "XTN", "CX", "XAD", "", "?"]
    ),
    st.text(st.sampled_from('^&~\\|<>=-:/+. \n0159AaZTFbr"é'), max_size=40),
)
def test_any_text_is_a_value_or_nothing(kind: str, field: str) -> None:
    found = value_of(READ, kind, field)
    assert found == NOTHING or found.text or found.files
    assert (found.type is None) == (found == NOTHING)
