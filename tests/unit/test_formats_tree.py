"""This module shows that JSON is read right, whole and by lines, and that what is doubtful in it is refused."""

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from broker.errors import MessageError
from broker.formats.reading import Format, no_index
from broker.formats.tree import FhirSpec, JsonSpec, NdjsonSpec
from broker.message import Document, Inbound
from transforms.kit import Kit

PATIENT = b'{"resourceType": "Patient", "id": "p1", "name": [{"family": "Lee", "given": ["Ann", "Jo"]}]}'


def ndjson(**options: Any) -> Format:
    return NdjsonSpec.model_validate(options).build(None)


def value(form: Format, expression: str, document: Document) -> Any:
    return Kit(Path(), form).expression(expression)(document)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("Patient.name[0].family", "Lee"),
        ("resource.name[0].given | join(' ')", "Ann Jo"),
        ("Patient.name[0].suffix", None),
        ("Patient.name[3].family", None),
        ("Patient.telecom[0].value", None),
        ("Encounter.status", None),
        ("resource.resourceType == 'Patient'", True),
    ],
)
def test_paths_of_a_resource_can_be_written_in_expressions(expression: str, expected: object) -> None:
    form = FhirSpec().build(None)
    assert value(form, expression, form.document(PATIENT, 0.0)) == expected


def test_resource_is_kept_by_type_and_id() -> None:
    form = FhirSpec().build(None)
    reading = form.read(Inbound(channel="x", body=PATIENT, key=b"k"), no_index)
    assert reading == ("Patient", (b"file", b"k"), "p1", ())
    assert form.read(Inbound(channel="x", body=PATIENT), no_index).key == ()


def test_numbers_keep_their_digits() -> None:
    form = JsonSpec().build(None)
    document = form.document(b'{"dose": 0.50, "count": 3, "list": [[{"a": 1}]]}', 0.0)
    assert document.message["dose"] == Decimal("0.50")
    assert value(form, "message.dose ~ ' mg'", document) == "0.50 mg"
    assert value(form, "message.list[0][0].a", document) == 1
    rendered = Kit(Path(), form).template('{"all": {{ message }}}', "json")(document)
    assert rendered == '{"all": {"dose":0.50,"count":3,"list":[[{"a":1}]]}}'


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1', "line 1, column 8"),
        (b"\xff", "offset 0 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"", "no JSON"),
    ],
)
def test_document_is_refused_when_it_is_no_json(body: bytes, expected: str) -> None:
    with pytest.raises(MessageError, match=expected):
        JsonSpec().build(None).document(body, 0.0)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'"x"', b'{"resourceType": 3}'])
def test_other_json_is_no_resource(body: bytes) -> None:
    with pytest.raises(MessageError, match="resourceType"):
        FhirSpec().build(None).document(body, 0.0)


def test_file_is_one_message() -> None:
    [piece] = FhirSpec().build(None).split(io.BytesIO(PATIENT), "p.json")
    assert (piece.body, piece.line, piece.reason) == (PATIENT, 1, "")
    with pytest.raises(MessageError, match="empty"):
        list(JsonSpec().build(None).split(io.BytesIO(b""), "p.json"))


def test_lines_are_messages_and_a_bad_one_fails_alone() -> None:
    form = ndjson()
    data = b'{"mrn": "1"}\n{"mrn": \n{"mrn": "3"}\n\n'
    found = list(form.split(io.BytesIO(data), "a.ndjson"))
    assert [piece.line for piece in found] == [1, 2, 3]
    assert form.document(found[0].body, 0.0).values == {"message": {"mrn": "1"}, "file": "a.ndjson", "line": 1}
    with pytest.raises(MessageError, match=r"line 2 of a\.ndjson: no JSON at column"):
        form.document(found[1].body, 0.0)
    reading = form.read(Inbound(channel="x", body=found[1].body, key=b"k"), lambda _: [("a", "b")])
    assert reading == ("ndjson", (b"row", b"k"), "a.ndjson:2", ())
    assert form.read(Inbound(channel="x", body=found[0].body), lambda _: [("a", "b")]).values == [("a", "b")]


def test_lines_can_be_resources() -> None:
    form = ndjson(holds="fhir")
    [piece] = form.split(io.BytesIO(PATIENT), "a.ndjson")
    assert value(form, "Patient.id", form.document(piece.body, 0.0)) == "p1"
    with pytest.raises(MessageError, match=r"line 1 of b: a FHIR resource"):
        form.document(next(form.split(io.BytesIO(b"{}\n"), "b")).body, 0.0)


def test_blank_lines_are_left_out_where_that_is_declared() -> None:
    data = b'\n{"a": 1}\n\n{"a": 2}\n'
    assert [piece.line for piece in ndjson(blank="skip").split(io.BytesIO(data), "a")] == [2, 4]
    assert [piece.line for piece in ndjson().split(io.BytesIO(data), "a")] == [1, 2, 3, 4]
    with pytest.raises(MessageError, match="no line"):
        list(ndjson().split(io.BytesIO(b"\n\n"), "a"))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"a":\n 1,}', "line 2, column 4"),
        (b'{"a": 1,\n "a": 2}', "line 2, column 2"),
        (b'{"a": NaN}', "line 1, column 7"),
        (b'\n{"a": "\xff"}', "line 2, column 8"),
        (b"[" * 100_000, "line 1, column 65"),
    ],
)
def test_what_is_no_json_is_told_with_line_and_column(body: bytes, place: str) -> None:
    for form in (JsonSpec().build(None), FhirSpec().build(None)):
        with pytest.raises(MessageError) as whole:
            form.document(body, 0.0)
        assert whole.value.location == place
    if b"\n" not in body:
        rows = [piece.body for piece in ndjson().split(io.BytesIO(b"{}\n{}\n" + body + b"\n"), "x.ndjson")]
        with pytest.raises(MessageError) as row:
            ndjson().document(rows[2], 0.0)
        assert row.value.location == place.replace("line 1", "line 3")
