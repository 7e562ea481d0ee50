"""Documents: TXA, and the content that OBX brings."""

import base64

import pytest

from broker.canonical.model import Attachment, Concept, Identifier
from broker.errors import StepError
from tests.mapping import PID, PV1, mapped, segment

TXA = segment(
    "TXA",
    f1="1",
    f2="DS^Discharge summary",
    f4="20240501080000",
    f6="20240501090000",
    f9="77^Lind^Maja",
    f12="D2^MERCY",
    f13="D1^MERCY",
    f14="O1",
    f17="AU",
    f18="R",
    f22="88^Berg^Ulf" + "^" * 12 + "20240501100000",
)


def test_document_is_mapped_field_by_field() -> None:
    event = mapped("MDM^T10", "EVN|T10|20240501", PID, PV1, TXA, "OBX|1|TX|1^x||first line", "OBX|2|TX|1^x||second")
    document = event.document
    assert document is not None
    assert event.kind == "document.replaced"
    assert (document.identifier, document.replaces) == (
        Identifier(value="D2", system="MERCY"),
        Identifier(value="D1", system="MERCY"),
    )
    assert document.type == Concept(code="DS", text="Discharge summary")
    assert (document.status, document.completion, document.confidentiality) == ("current", "final", "R")
    assert (document.title, document.created_at) == ("Discharge summary", "2024-05-01T09:00:00")
    assert document.author is not None
    assert document.author.family == "Lind"
    assert document.authenticator is not None
    assert (document.authenticator.family, document.signed_at) == ("Berg", "2024-05-01T10:00:00")
    assert document.attachments == (Attachment(content_type="text/plain", data="first line\nsecond", size=17),)
    assert event.orders[0].identifier == Identifier(value="O1")


@pytest.mark.parametrize(
    ("trigger", "completion", "kind", "status"),
    [
        ("T01", "DI", "document.added", "preliminary"),
        ("T02", "AU", "document.added", "final"),
        ("T03", "DI", "document.updated", "preliminary"),
        ("T03", "AU", "document.signed", "final"),
        ("T04", "LA", "document.signed", "final"),
        ("T06", "AU", "document.updated", "amended"),
        ("T08", "", "document.updated", None),
        ("T11", "AU", "document.cancelled", "final"),
    ],
)
def test_trigger_and_completion_give_kind(trigger: str, completion: str, kind: str, status: str | None) -> None:
    event = mapped(f"MDM^{trigger}", PID, segment("TXA", f2="DS", f17=completion))
    assert event.document is not None
    assert (event.kind, event.document.completion) == (kind, status)
    assert event.document.status == ("entered-in-error" if trigger == "T11" else "current")


def test_file_is_kept_as_it_came_and_other_values_are_observations() -> None:
    data = base64.b64encode(b"%PDF-1.4 " + b"x" * 3000).decode()
    event = mapped(
        "MDM^T02",
        PID,
        TXA,
        f"OBX|1|ED|PDF^x||^application^pdf^Base64^{data}",
        "OBX|2|RP|IMG^x||https://example.org/1^^image^jpeg",
        "OBX|3|NM|8867-4^Heart rate^LN||72|/min",
    )
    assert event.document is not None
    file, pointer = event.document.attachments
    assert (file.content_type, file.encoding, file.data, file.size) == ("application/pdf", "base64", data, 3009)
    assert (pointer.url, pointer.data) == ("https://example.org/1", None)
    assert [observation.value for observation in event.observations] == ["72"]


@pytest.mark.parametrize(
    ("obx", "lines", "observed"),
    [
        ("TX|1^x||a line||||||F|||20240501", "a line", []),
        ("ST|1^x||72|/min|60-100|H", None, ["72"]),  # a text with what only an observation has
        ("TX|1^x||A|^^L", "A", []),  # such a unit says nothing
        ("TX|1^x||a line||||||F||||||CT^Scan||| LUNG", "a line", []),  # as every line of a report may say it
        ("DR|1^x||20240501^20240502", None, ["2024-05-01/2024-05-02"]),
        ("NM|1^x||||||||X", None, [None]),  # not made, and says so
        ("|1^x||||||||X", None, [None]),
        ("NM|1^x||||||||F", None, []),
        ("CWE|1^x||^^L", None, []),
        ("TX|1^x||||||||P", None, []),  # a blank line of a preliminary document
    ],
)
def test_text_is_a_line_of_the_document_and_observations_are_told_from_it(
    obx: str, lines: str | None, observed: list[str | None]
) -> None:
    event = mapped("MDM^T02", PID, TXA, f"OBX|1|{obx}")
    assert event.document is not None
    assert [file.data for file in event.document.attachments] == ([lines] if lines else [])
    assert [observation.value for observation in event.observations] == observed


def test_blank_lines_of_a_text_stay() -> None:
    event = mapped("MDM^T02", PID, TXA, "OBX|1|TX|1^x||a", "OBX|2|TX|1^x||", "OBX|3||1^x||", "OBX|4|TX|1^x||b")
    assert event.document is not None
    assert event.document.attachments[0].data == "a\n\n\nb"


def test_document_without_txa_is_refused() -> None:
    with pytest.raises(StepError) as caught:
        mapped("MDM^T02", PID)
    assert caught.value.location == "TXA"
