"""This module tests what becomes of a reply to a text: kept, read, and mapped to an event."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.canonical.model import Consent
from broker.errors import MessageError
from broker.formats.reading import no_index
from broker.formats.text import TextSpec
from broker.message import Document, Inbound
from broker.notices import ListenerStarted, Notice
from broker.parts import Tools
from listeners.texts import TextsSpec
from transforms.canonical import CanonicalSpec
from transforms.kit import Kit
from transforms.map_text import map_text, wish_of

FORM = TextSpec().build(None)


def body(**said: Any) -> bytes:
    given = {"kind": "reply", "gateway": "smsc", "at": "2026-11-28T01:00:00.000+00:00", "from": "+12025550123"}
    return orjson.dumps(given | said)


def test_reply_is_kept_as_one_of_its_own() -> None:
    reading = FORM.read(Inbound(channel="replies", body=body(text="Hi")), no_index)
    assert (reading.type, reading.key, reading.control_id) == ("text reply", (), "")
    found_out = Inbound(channel="replies", body=body(kind="opted_out"), key=b"k1")
    assert FORM.read(found_out, no_index).key == (b"text", b"k1")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", body(kind="call"), body(**{"from": ""}), b"MSH|"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        FORM.document(data, 0.0)


def test_file_holds_one_reply(tmp_path: Path) -> None:
    file = tmp_path / "reply.json"
    file.write_bytes(body(text="Hi"))
    with file.open("rb") as opened:
        (piece,) = FORM.split(opened, "reply.json")
    assert FORM.document(piece.body, 0.0).values["message"]["text"] == "Hi"


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        *((word, "stop") for word in ("STOP", "stop", " Stop! ", "STOPALL", "Stop all", "UNSUBSCRIBE", "Cancel.")),
        *((word, "stop") for word in ("END", "QUIT", "revoke", "opt out", "OPTOUT", '"Stop"')),
        *((word, "start") for word in ("START", "unstop")),
        *((word, "help") for word in ("HELP", "info?")),
        *((text, "") for text in ("", "Please stop by at noon", "Thanks", "YES", "don't stop", "STOPPED")),
    ],
)
def test_only_a_word_that_stands_alone_is_a_wish(text: str, wish: str) -> None:
    assert wish_of(text) == wish


def test_opting_out_withdraws_consent() -> None:
    for said in ({"kind": "reply", "text": "STOP"}, {"kind": "opted_out"}):
        event = map_text({"gateway": "smsc", "at": "2026-11-28T01:00:00+00:00", "from": "+12025550123", **said}, 0.0)
        assert event.kind == "consent.withdrawn"
        assert event.patient.mobile == "+12025550123"
        at = "2026-11-28T01:00:00+00:00"
        assert event.consent == Consent(status="active", decision="deny", channel="sms", given_at=at)


def test_opting_in_gives_consent_and_others_just_write() -> None:
    start = map_text({"kind": "reply", "from": "+1202", "text": "Start"}, 0.0)
    assert start.kind == "consent.given"
    assert start.consent is not None
    assert start.consent.decision == "permit"
    other = map_text({"kind": "reply", "from": "+1202", "text": "Help"}, 0.0)
    assert other.kind == "communication.recorded"
    assert other.communication is not None
    assert (other.communication.text, other.communication.category and other.communication.category.text) == (
        "Help",
        "help",
    )


def test_canonical_step_knows_the_patient_by_the_number(tmp_path: Path) -> None:
    step = CanonicalSpec().build(Kit(tmp_path, FORM))
    document = step(FORM.document(body(text="STOP"), 0.0))
    assert isinstance(document, Document)
    assert document.event is not None
    assert document.event.kind == "consent.withdrawn"


async def test_listener_opens_nothing_and_says_whether_it_runs() -> None:
    notices: list[Notice] = []
    nothing: Any = None
    listener = TextsSpec().build(Tools("replies", nothing, notices.append, None))
    assert (list(listener.endpoints), listener.connections) == ([], 0)
    await listener.start()
    assert list(listener.endpoints) == ["gateways"]
    await listener.stop()
    assert list(listener.endpoints) == []
    assert notices == [ListenerStarted(channel="replies", endpoint="gateways")]


def test_a_gateway_that_says_what_was_meant_and_not_when_is_believed() -> None:
    arret = map_text({"kind": "reply", "from": "+1202", "text": "ARRET", "wish": "stop"}, 1_767_225_600.0)
    assert (arret.kind, arret.occurred_at) == ("consent.withdrawn", "2026-01-01T00:00:00.000+00:00")
