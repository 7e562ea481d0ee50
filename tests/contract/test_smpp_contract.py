"""This module holds the SMPP gateway to its contract against an SMSC that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from broker.delivery import Delivered, Rejected, Retry, Unknown, Via
from broker.errors import ConfigError
from broker.wire import smpp
from broker.wire.smpp import Pdu, ShortMessage, address_of
from tests.contract.scripted_server import closed_port
from tests.contract.smpp_rig import (
    Act,
    Misbehaving,
    Rig,
    Session,
    Start,
    accept,
    answer,
    nack,
    nonsense,
    reset,
    rigs,
    say_goodbye,
    silence,
)


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setenv("SMPP_TEST_PASSWORD", "pw")
    async with rigs(f"sqlite:///{tmp_path / 'patients.db'}") as begin:
        yield begin


@pytest.fixture
async def strange() -> AsyncIterator[Misbehaving]:
    running = Misbehaving()
    await running.start()
    yield running
    await running.stop()


SUBMITTED: dict[str, tuple[Act, type[Any]]] = {
    "does not answer": (silence, Unknown),
    "resets": (reset, Unknown),
    "talks nonsense": (nonsense, Unknown),
    "ends the session": (say_goodbye, Unknown),
    "answers without an id's end": (answer(0, b"m1"), Unknown),
    "answers without an id": (answer(0), Delivered),
    "does not know the command": (nack, Rejected),
    "has a system error": (answer(0x08), Retry),
    "is not ready for now": (answer(0x64), Retry),
    "refuses": (answer(0x45), Rejected),
    "has an error of its own": (answer(0x0500), Rejected),
    "has an error of its own that passes": (answer(0x0501), Retry),
}


@pytest.mark.parametrize("misbehaviour", list(SUBMITTED))
async def test_outcome_follows_from_what_surely_happened(strange: Misbehaving, start: Start, misbehaviour: str) -> None:
    act, kind = SUBMITTED[misbehaviour]
    strange.acts[smpp.SUBMIT_SM] = act
    rig = await start(strange.port, retry=[0x0501])
    outcome = await rig.send()
    assert isinstance(outcome, kind), outcome
    assert len(strange.told(smpp.SUBMIT_SM)) == 1


@pytest.mark.parametrize("act", [silence, reset, nonsense, answer(0x0D), answer(0x0F)])
async def test_outcome_is_retry_when_there_is_no_bind(
    strange: Misbehaving, start: Start, monkeypatch: pytest.MonkeyPatch, act: Act
) -> None:
    strange.acts[smpp.BIND_TRANSCEIVER] = act
    monkeypatch.setattr("dispatch.texts.smpp_link.ANSWER_SECONDS", 0.3)
    rig = await start(strange.port)
    assert isinstance(await rig.send(), Retry)
    assert not strange.told(smpp.SUBMIT_SM)


async def test_outcome_is_retry_when_nobody_listens(start: Start) -> None:
    rig = await start(closed_port())
    assert await rig.send() == Retry("gateway smsc: the connection was refused", is_away=True)


async def test_outcome_is_retry_when_tls_cannot_be_set_up(strange: Misbehaving, start: Start) -> None:
    rig = await start(strange.port, plain="")
    outcome = await rig.send()
    assert isinstance(outcome, Retry)
    assert not strange.told(smpp.BIND_TRANSCEIVER)


async def test_attempt_says_whom_it_reached(strange: Misbehaving, start: Start) -> None:
    outcome = await (await start(strange.port)).send()
    assert outcome.via == Via(f"127.0.0.1:{strange.port}")


async def test_text_that_was_taken_in_part_is_unknown(strange: Misbehaving, start: Start) -> None:
    async def only_one(session: Session, pdu: Pdu) -> None:
        await (accept if len(strange.told(smpp.SUBMIT_SM)) == 1 else answer(0x58))(session, pdu)

    strange.acts[smpp.SUBMIT_SM] = only_one
    rig = await start(strange.port)
    outcome = await rig.send(text="a" * 200)
    assert outcome == Unknown(
        "gateway smsc: it took 1 parts of the text and not all (ESME_RTHROTTLED: too many texts at a time)"
    )


async def test_every_attempt_sends_the_same_octets(strange: Misbehaving, start: Start) -> None:
    rig = await start(strange.port)
    for _ in range(2):
        assert isinstance(await rig.send(text="a" * 200, key="key-7"), Delivered)
    first, second, *again = [pdu.body for pdu in strange.told(smpp.SUBMIT_SM)]
    assert again == [first, second]


async def test_window_bounds_what_waits_for_an_answer(strange: Misbehaving, start: Start) -> None:
    strange.acts[smpp.SUBMIT_SM] = silence
    rig = await start(strange.port, window=2)
    sending = [asyncio.create_task(rig.send()) for _ in range(3)]
    while len(strange.told(smpp.SUBMIT_SM)) < 2:  # noqa: ASYNC110 - the other side tells nobody
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(strange.told(smpp.SUBMIT_SM)) == 2
    outcomes = await asyncio.gather(*sending)
    # The third may have got a place in the last moment, when the first two had been given up.
    assert sorted(type(one).__name__ for one in outcomes)[1:] == ["Unknown", "Unknown"]


async def test_late_answers_are_nobodys(strange: Misbehaving, start: Start) -> None:
    async def late(session: Session, pdu: Pdu) -> None:
        await asyncio.sleep(0.4)
        session.send(pdu.answer(0, b"late\0"))

    strange.acts[smpp.SUBMIT_SM] = late
    rig = await start(strange.port)
    assert isinstance(await rig.send(), Unknown)
    strange.acts[smpp.SUBMIT_SM] = accept
    assert await rig.send() == Delivered(reference="smsc/m1")


async def test_dead_connection_is_found_and_replaced(
    strange: Misbehaving, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispatch.texts.smpp_link.ANSWER_SECONDS", 0.1)
    strange.acts[smpp.ENQUIRE_LINK] = silence
    rig = await start(strange.port, enquire="100ms")
    await rig.until(lambda: len(strange.sessions) >= 2)
    assert isinstance(await rig.send(), Delivered)


async def test_requests_of_the_smsc_are_answered(strange: Misbehaving, start: Start) -> None:
    rig = await start(strange.port)
    assert isinstance(await rig.send(), Delivered)
    (session,) = strange.sessions
    session.send(Pdu(smpp.ENQUIRE_LINK, 0, 5))
    session.send(Pdu(smpp.SUBMIT_SM, 0, 6))  # not for us
    session.send(Pdu(smpp.DELIVER_SM, 0, 7, b"\0"))  # cut short
    message = ShortMessage(source=address_of("24680"), destination=address_of("+1"), message=b"Hi")
    session.send(Pdu(smpp.DELIVER_SM, 0, 8, message.encode()))
    session.send(Pdu(0x80000004, 0, 4711))  # an answer that nobody waits for
    await rig.until(lambda: len(session.pdus) >= 6)
    assert session.pdus[2:] == [
        Pdu(smpp.ENQUIRE_LINK, 0, 5).answer(),
        Pdu(smpp.GENERIC_NACK, 3, 6),
        Pdu(smpp.DELIVER_SM, 0, 7).answer(0x65, b"\0"),
        Pdu(smpp.DELIVER_SM, 0, 8).answer(0, b"\0"),
    ]
    assert orjson.loads(rig.kept.messages[0].body)["from"] == "24680"


async def test_nothing_can_be_sent_before_open_or_after_close(strange: Misbehaving, start: Start) -> None:
    rig = await start(strange.port)
    await rig.destination.close()
    await rig.destination.close()
    with pytest.raises(RuntimeError, match="before open"):
        await rig.destination._gateway.send(cast("Any", None))


def test_password_that_does_not_fit_is_refused_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMPP_TEST_PASSWORD", "much too long")
    with pytest.raises(ConfigError, match=r"gateways.smsc: account or password: .* at most 8"):
        Rig(1, "sqlite:///unused.db")
