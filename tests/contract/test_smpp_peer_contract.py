"""This module holds the SMPP gateway to its contract against node-smpp, an SMSC that we did not write."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.delivery import Delivered, Rejected, Retry, Suppressed, Unknown
from broker.errors import NotAccepted, StoreUnavailable
from broker.notices_texts import GatewayUnbound, ReplyRefused
from tests.conftest import Need
from tests.contract.smpp_rig import Start, rigs
from tests.peers.smsc import Smsc


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setenv("SMPP_TEST_PASSWORD", "pw")
    async with rigs(f"sqlite:///{tmp_path / 'patients.db'}") as begin:
        yield begin


@pytest.fixture
async def smsc(need: Need) -> AsyncIterator[Smsc]:
    with Smsc(need) as running:
        yield running


async def test_peer_takes_a_text_and_reports_of_it(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    assert await rig.send(text="Grüße, 5 € [Okafor]") == Delivered(reference="smsc/m1")
    await rig.until(lambda: bool(rig.kept.reports))
    (report,) = rig.kept.reports
    assert (report.reference, report.state, report.code) == ("smsc/m1", "delivered", "")
    told = await asyncio.to_thread(smsc.wait, "submit")
    assert (told["from"], told["from_ton"], told["to"], told["to_ton"]) == ("12025550100", 1, "12025550123", 1)
    assert (told["coding"], told["esm_class"], told["registered"]) == (0, 0, 1)
    assert told["text"] == "Grüße, 5 € [Okafor]"
    assert (await asyncio.to_thread(smsc.wait, "taken"))["status"] == 0


async def test_peer_reports_what_could_not_be_delivered(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    assert isinstance(await rig.send("+12025550179"), Delivered)
    await rig.until(lambda: bool(rig.kept.reports))
    assert (rig.kept.reports[0].state, rig.kept.reports[0].code) == ("undeliverable", "00B")


async def test_peer_puts_long_texts_together(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    assert await rig.send(text="a" * 153 + "b" * 153 + "c") == Delivered(reference="smsc/m1 smsc/m2 smsc/m3")
    assert isinstance(await rig.send(text="日" * 67 + "本" * 4), Delivered)
    await asyncio.to_thread(smsc.wait, "submit", 5)
    told = smsc.heard("submit")
    assert [one["text"] for one in told] == ["a" * 153, "b" * 153, "c", "日" * 67, "本" * 4]
    assert [one["coding"] for one in told] == [0, 0, 0, 8, 8]
    assert [one["parts"][0][-4:] for one in told] == ["0301", "0302", "0303", "0201", "0202"]
    assert {one["esm_class"] for one in told} == {0x40}


async def test_peer_cuts_long_texts_itself_when_asked_to(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port, long="payload", receipts=False)
    assert await rig.send(text="a" * 400) == Delivered(reference="smsc/m1")
    told = await asyncio.to_thread(smsc.wait, "submit")
    assert (told["payload"], told["registered"]) == ("a" * 400, 0)


@pytest.mark.parametrize(
    ("to", "kind", "told"),
    [
        ("+12025550188", Retry, "ESME_RTHROTTLED: too many texts at a time"),
        ("+12025550187", Retry, "ESME_RMSGQFUL: the gateway's queue is full"),
        ("+12025550186", Rejected, "ESME_RINVDSTADR: the recipient's number is not valid"),
        ("+12025550185", Unknown, "no answer within the time allowed"),
        ("+12025550184", Unknown, "the connection ended"),
        ("+12025550183", Suppressed, "status 0x0000040a: the recipient has opted out"),
    ],
)
async def test_outcome_follows_from_what_the_peer_answers(
    smsc: Smsc, start: Start, to: str, kind: type[Any], told: str
) -> None:
    rig = await start(smsc.port)
    outcome = await rig.send(to)
    assert isinstance(outcome, kind)
    assert not isinstance(outcome, Delivered)
    assert outcome.reason == f"gateway smsc: {told}"
    # The session goes on, or another one begins.
    assert isinstance(await rig.send(), Delivered)


async def test_opting_out_is_handed_in_when_the_gateway_knew_it_first(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    assert isinstance(await rig.send("+12025550183", key="key-1"), Suppressed)
    (inbound,) = rig.kept.messages
    assert (inbound.channel, inbound.key, inbound.peer) == ("replies", b"key-1", "gateway smsc")
    said = orjson.loads(inbound.body)
    assert (said["kind"], said["from"]) == ("opted_out", "+12025550183")


async def test_reply_is_answered_once_it_is_committed(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    await asyncio.to_thread(smsc.wait, "bind")
    reply = {"from": "12025550123", "to": "12025550100", "text": "Stop"}
    smsc.bring(**reply)
    assert (await asyncio.to_thread(smsc.wait, "taken"))["status"] == 0
    said = orjson.loads(rig.kept.messages[0].body)
    del said["at"]
    assert said == {"kind": "reply", "gateway": "smsc", "from": "+12025550123", "to": "+12025550100", "text": "Stop"}
    # What could not be committed is to come again.
    rig.kept.refusal = NotAccepted("the store is full")
    smsc.bring(**reply)
    assert (await asyncio.to_thread(smsc.wait, "taken", 2))["status"] == 0x64
    rig.kept.refusal = StoreUnavailable("away")
    smsc.bring(**reply, esm_class=4)
    assert (await asyncio.to_thread(smsc.wait, "taken", 3))["status"] == 0x64
    assert len(rig.kept.messages) == 1
    assert not rig.kept.reports


async def test_reply_is_refused_when_no_channel_takes_it(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port, replies="")
    await asyncio.to_thread(smsc.wait, "bind")
    smsc.bring(**{"from": "1", "to": "2", "text": "Hi"})
    assert (await asyncio.to_thread(smsc.wait, "taken"))["status"] == 0x66
    assert rig.notices[1:] == [ReplyRefused(gateway="smsc", kind="reply")]


async def test_reply_comes_again_when_its_channel_does_not_run(smsc: Smsc, start: Start) -> None:
    await start(smsc.port, replies="gone")
    await asyncio.to_thread(smsc.wait, "bind")
    smsc.bring(**{"from": "1", "to": "2", "text": "Hi"})
    assert (await asyncio.to_thread(smsc.wait, "taken"))["status"] == 0x64


async def test_bind_comes_back_when_the_connection_is_lost(smsc: Smsc, start: Start) -> None:
    rig = await start(smsc.port)
    assert isinstance(await rig.send(), Delivered)
    smsc.bring(hang_up=True)
    await asyncio.to_thread(smsc.wait, "bind", 2)  # without a text that asks for it: receipts must be able to come
    assert isinstance(await rig.send(), Delivered)


async def test_channels_share_a_bind_and_the_last_one_unbinds(smsc: Smsc, start: Start) -> None:
    one, other = await start(smsc.port), await start(smsc.port)
    assert isinstance(await one.send(), Delivered)
    assert isinstance(await other.send(), Delivered)
    await one.destination.close()
    assert isinstance(await other.send(), Delivered)
    await other.destination.close()
    await asyncio.to_thread(smsc.wait, "unbind")
    assert len(smsc.heard("bind")) == 1
    assert len(smsc.heard("unbind")) == 1


async def test_silence_is_broken_by_asking_whether_somebody_is_there(smsc: Smsc, start: Start) -> None:
    await start(smsc.port, enquire="50ms")
    await asyncio.to_thread(smsc.wait, "enquire", 3)
    assert len(smsc.heard("bind")) == 1


async def test_outcome_is_retry_when_the_bind_is_refused(
    smsc: Smsc, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMPP_TEST_PASSWORD", "wrong")
    monkeypatch.setattr("dispatch.texts.smpp._PAUSE", 60.0)  # a slow machine must not take that long
    rig = await start(smsc.port)
    outcome = await rig.send()
    assert outcome == Retry("gateway smsc: the bind was refused (ESME_RINVPASWD)", is_away=True)
    assert await rig.send() == outcome  # and it is not asked again at once
    assert len(smsc.heard("bind")) == 1
    reason = "the bind was refused (ESME_RINVPASWD)"
    assert rig.notices == [GatewayUnbound(gateway="smsc", reason=reason)]
