"""This module shows that clinical documents are read, and that dangerous or foreign XML is refused."""

import io

import pytest

from broker.errors import MessageError
from broker.formats.cda import CdaSpec
from broker.formats.reading import no_index
from broker.message import Inbound

DOCUMENT = b'<ClinicalDocument xmlns="urn:hl7-org:v3"><id root="1.2.3" extension="d1"/></ClinicalDocument>'
BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ClinicalDocument xmlns="urn:hl7-org:v3">&a;</ClinicalDocument>'


def test_document_is_kept_by_its_id() -> None:
    form = CdaSpec().build(None)
    assert form.read(Inbound(channel="x", body=DOCUMENT, key=b"k"), no_index) == (
        "cda",
        (b"file", b"k"),
        "1.2.3^d1",
        (),
    )
    assert form.document(DOCUMENT, 1.0).message.tag.endswith("ClinicalDocument")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (BOMB, "document type or entity"),
        (b"<a/>", "not ClinicalDocument"),
        (b"<a>", "line 1, column 4"),
        (b"", "not usable XML"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "not usable XML"),
    ],
)
def test_other_xml_is_refused(body: bytes, expected: str) -> None:
    with pytest.raises(MessageError, match=expected):
        CdaSpec().build(None).document(body, 0.0)


def test_file_is_one_message() -> None:
    [piece] = CdaSpec().build(None).split(io.BytesIO(DOCUMENT), "d.xml")
    assert (piece.body, piece.reason) == (DOCUMENT, "")
    with pytest.raises(MessageError, match="empty"):
        list(CdaSpec().build(None).split(io.BytesIO(b""), "d.xml"))
