"""This module holds the MLLP destination to its contract: which outcome follows from what a partner does."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.errors import NotReady
from broker.parts import Destination, Tools
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, frame
from dispatch.mllp import MllpOutSpec
from dispatch.mllp_partner import Awaited, Partner
from tests.contract.scripted_partner import (
    Behaviour,
    ScriptedPartner,
    answer,
    both,
    hang,
    hang_up,
    raw,
    reset,
    slow,
    truncate,
)
from tests.contract.scripted_server import closed_port, full_port

MESSAGE = b"MSH|^~\\&|HANDOFF|MERCY|EHR|MERCY|20261128||ADT^A08|C1|P|2.5.1\rPID|1||0012||Okafor\r"
SECRETS = ("Okafor", "0012", "wrong patient")


def tools() -> Tools:
    nothing = cast("Any", None)
    return Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=SimpleNamespace(root=None))


def delivery(control_id: str = "C1", attempt: int = 1) -> Delivery:
    return Delivery(id=1, route=1, key="k" * 32, request=MESSAGE.replace(b"C1", control_id.encode()), attempt=attempt)


async def send(destination: Destination, control_id: str = "C1") -> Outcome:
    async with asyncio.timeout(5):
        (outcome,) = await destination.send([delivery(control_id)])
    return outcome


def build(port: int, **options: Any) -> Destination:
    given = {"endpoint": f"127.0.0.1:{port}", "timeout": "5s", "connect": "5s", **options}
    return MllpOutSpec.model_validate(given).build(tools())


@pytest.fixture
async def partner() -> AsyncIterator[ScriptedPartner]:
    partner = ScriptedPartner([answer("AA")])
    await partner.start()
    yield partner
    await partner.stop()


async def meets(partner: ScriptedPartner, *script: Behaviour, **options: Any) -> Outcome:
    partner.script = list(script)
    destination = build(partner.port, **options)
    await destination.open()
    outcome = await send(destination)
    await destination.close()
    return outcome


@pytest.mark.parametrize("code", ["AA", "CA"])
async def test_positive_answer_delivers_and_is_kept_as_evidence(partner: ScriptedPartner, code: str) -> None:
    outcome = await meets(partner, answer(code))
    assert isinstance(outcome, Delivered)
    assert outcome.reference == code
    assert f"MSA|{code}|C1".encode() in outcome.response
    assert outcome.via == Via(f"127.0.0.1:{partner.port}")
    assert partner.requests == [MESSAGE]


UNKNOWN: dict[str, Behaviour] = {
    "hangs": hang,
    "hangs up": hang_up,
    "resets": reset,
    "stops inside the answer": truncate,
    "answers too late": slow(0.4, answer("AA")),
    "talks without a frame": raw(b"MSA|AA|C1\r" + frame(b"x")),
    "answers with something else": raw(frame(b"hello")),
    "answers with another message": raw(frame(MESSAGE)),
    "answers under another control id": answer("AA", control_id="C0"),
    "answers under no control id": answer("AA", control_id=""),
    "answers with a code that nobody knows": answer("XX"),
    "answers with megabytes": raw(b"\x0b" + b"MSH|" * 600_000),
    "begins again and again": raw(b"\x0bMSH" * 200),
}


@pytest.mark.parametrize("misbehaviour", list(UNKNOWN))
async def test_outcome_is_unknown_when_the_message_may_have_taken_effect(
    partner: ScriptedPartner, misbehaviour: str
) -> None:
    outcome = await meets(partner, UNKNOWN[misbehaviour], timeout="200ms")
    assert isinstance(outcome, Unknown), outcome
    assert len(partner.requests) == 1


@pytest.mark.parametrize("code", ["AE", "CE"])
async def test_error_is_tried_again_and_rejection_is_not(partner: ScriptedPartner, code: str) -> None:
    assert isinstance(await meets(partner, answer(code)), Retry)
    assert isinstance(await meets(partner, answer(code.replace("E", "R"))), Rejected)


async def test_condition_decides_over_the_code(partner: ScriptedPartner) -> None:
    locked = await meets(partner, answer("AR", "ERR|||206^locked^HL70357|E"))
    assert isinstance(locked, Retry)
    outcome = await meets(partner, answer("AE", "ERR||PID^1^3^2^4|101^wrong patient Okafor^HL70357|E"))
    assert isinstance(outcome, Rejected)
    assert outcome.location == "PID-3[2].4"
    assert outcome.reason.endswith(
        "answered AE (Application Error), condition 101 (Required field missing) at PID-3[2].4"
    )


async def test_conditions_of_old_versions_are_read(partner: ScriptedPartner) -> None:
    outcome = await meets(partner, answer("AE", "ERR|PID^1^5^103&Table value not found&HL70357"))
    assert isinstance(outcome, Rejected)
    assert outcome.location == "PID-5"
    assert "condition 103" in outcome.reason


async def test_table_of_the_partner_decides_over_what_is_usual(partner: ScriptedPartner) -> None:
    options: dict[str, Any] = {"actions": {"AE": "refused", "AR": "retry"}, "conditions": {"205": "delivered"}}
    assert isinstance(await meets(partner, answer("AE"), **options), Rejected)
    assert isinstance(await meets(partner, answer("AR", "ERR|||101|E"), **options), Retry)
    assert isinstance(await meets(partner, answer("AR", "ERR|||205|E"), **options), Delivered)
    assert isinstance(await meets(partner, answer("CE"), actions={"CE": "unknown"}), Unknown)


async def test_outcome_is_retry_when_nothing_can_have_been_sent(partner: ScriptedPartner) -> None:
    for options, words in (
        ({"endpoint": f"127.0.0.1:{closed_port()}"}, "refused"),
        ({"endpoint": "partner.invalid:2575"}, "could not be resolved"),
        ({"tls": {}}, "time allowed"),  # the partner does not speak TLS, and waits for a frame
    ):
        outcome = await meets(partner, answer("AA"), connect="300ms", **options)
        assert isinstance(outcome, Retry), outcome
        assert words in outcome.reason
    assert not partner.requests


async def test_outcome_is_retry_when_nobody_takes_the_connection() -> None:
    with full_port() as port:
        outcome = await send(build(port, connect="200ms"))
    assert isinstance(outcome, Retry), outcome
    assert "time allowed" in outcome.reason


async def test_connection_serves_many_messages_one_at_a_time(partner: ScriptedPartner) -> None:
    destination = build(partner.port)
    await destination.open()
    outcomes = await asyncio.gather(*(send(destination, f"N{number}") for number in range(20)))
    await destination.close()
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert (partner.connections, partner.at_once) == (1, 1)


async def test_connections_are_as_many_as_allowed(partner: ScriptedPartner) -> None:
    partner.script = [slow(0.02, answer("AA"))]
    destination = build(partner.port, connections=3)
    await destination.open()
    await asyncio.gather(*(send(destination, f"N{number}") for number in range(12)))
    await destination.close()
    assert (partner.connections, partner.at_once) == (3, 3)


async def test_late_answer_is_never_taken_for_the_next(partner: ScriptedPartner) -> None:
    """The partner answers the first message after its time, under the control id that the second one has, too."""
    partner.script = [slow(1.2, answer("AA")), answer("AR")]
    destination = build(partner.port, timeout="1s")
    await destination.open()
    assert isinstance(await send(destination), Unknown)
    assert isinstance(await send(destination), Rejected)
    await destination.close()
    assert partner.connections == 2
    assert len(set(partner.requests)) == 1


async def test_answer_that_comes_twice_costs_nothing(partner: ScriptedPartner) -> None:
    partner.script = [both(answer("AA"), answer("AA"))]
    destination = build(partner.port)
    await destination.open()
    assert isinstance(await send(destination, "N1"), Delivered)
    assert isinstance(await send(destination, "N2"), Delivered)
    await destination.close()
    assert partner.connections == 1


async def test_half_an_answer_too_many_costs_the_connection(partner: ScriptedPartner) -> None:
    """What would come next is the rest of it, in front of the answer to the next message."""
    partner.script = [both(answer("AA"), raw(b"\x0bMSH|"))]
    destination = build(partner.port)
    await destination.open()
    for number in range(3):
        assert isinstance(await send(destination, f"N{number}"), Delivered)
        await asyncio.sleep(0.02)
    await destination.close()
    assert partner.connections == 3


async def test_partner_that_floods_us_is_left(partner: ScriptedPartner) -> None:
    flood = raw(frame(MESSAGE.replace(b"|C1|", b"|C9|")) * 200)
    partner.script = [both(answer("AA"), flood)]
    destination = build(partner.port)
    await destination.open()
    assert isinstance(await send(destination, "N1"), Delivered)
    await asyncio.sleep(0.05)
    assert isinstance(await send(destination, "N2"), Delivered | Unknown)
    await destination.close()
    assert partner.connections == 2


@pytest.mark.parametrize("ends", [True, False])
async def test_partner_that_does_not_read_has_not_got_the_message(ends: bool) -> None:
    large = MESSAGE + b"NTE|1||" + b"x" * 16_000_000 + b"\r"
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # the kernel takes the connection, and nobody reads
        destination = build(deaf.getsockname()[1], wait_for="nothing", timeout="5s" if ends else "300ms")
        await destination.open()
        sending = asyncio.create_task(destination.send([Delivery(id=1, route=1, key="k", request=large)]))
        if ends:
            await asyncio.sleep(0.05)
            deaf.accept()[0].close()
        (outcome,) = await sending
        await destination.close()
    assert isinstance(outcome, Unknown), outcome


async def test_connection_that_the_partner_closed_meanwhile_costs_nothing(partner: ScriptedPartner) -> None:
    partner.script = [both(answer("AA"), hang_up)]
    destination = build(partner.port)
    await destination.open()
    for number in range(5):
        assert isinstance(await send(destination, f"N{number}"), Delivered)
        await asyncio.sleep(0.01)
    await destination.close()
    assert partner.connections == 5


async def test_application_is_waited_for_after_the_commit(partner: ScriptedPartner) -> None:
    waits = {"wait_for": "application"}
    good = await meets(partner, both(answer("CA"), answer("AA"), pause=0.05), **waits)
    assert isinstance(good, Delivered)
    assert good.reference == "AA"
    assert isinstance(await meets(partner, both(answer("CA"), answer("AR")), **waits), Rejected)
    assert isinstance(await meets(partner, answer("CR"), **waits), Rejected)
    kept = await meets(partner, answer("CA"), timeout="200ms", **waits)
    assert isinstance(kept, Unknown)
    assert "kept it (CA)" in kept.reason
    assert b"MSA|CA|C1" in kept.response


async def test_application_that_answers_after_a_commit_sufficed_is_not_taken_for_the_next(
    partner: ScriptedPartner,
) -> None:
    partner.script = [both(answer("CA"), slow(0.05, answer("AR")))]
    destination = build(partner.port)
    await destination.open()
    assert isinstance(await send(destination, "N1"), Delivered)
    partner.script = [slow(0.1, answer("CA"))]
    assert isinstance(await send(destination, "N2"), Delivered)
    await destination.close()
    assert partner.connections == 1


async def test_commit_blocks_of_release_2_are_understood(partner: ScriptedPartner) -> None:
    assert isinstance(await meets(partner, both(raw(frame(COMMITTED)), answer("AA"))), Delivered)
    assert isinstance(await meets(partner, raw(frame(NOT_COMMITTED))), Retry)


async def test_partner_that_never_answers_gets_what_was_written(partner: ScriptedPartner) -> None:
    async def silent(_writer: asyncio.StreamWriter, _request: bytes) -> None:
        pass

    outcome = await meets(partner, silent, wait_for="nothing")
    assert outcome == Delivered(reference="written")
    await asyncio.sleep(0.05)
    assert partner.requests == [MESSAGE]


async def test_control_id_need_not_match_where_the_partner_leaves_it_out(partner: ScriptedPartner) -> None:
    assert isinstance(await meets(partner, answer("AA", control_id=""), check_control_id=False), Delivered)


async def test_partner_may_dial_in(partner: ScriptedPartner) -> None:
    destination = MllpOutSpec.model_validate(
        {"listen": "127.0.0.1:0", "timeout": "5s", "connect": "300ms", "connections": 2}
    ).build(tools())
    assert isinstance(destination, Partner)
    assert isinstance(destination.lines, Awaited)
    await destination.open()
    outcome = await send(destination)
    assert isinstance(outcome, Retry)
    assert "no connection within the time allowed" in outcome.reason
    port = int(destination.lines.endpoint.rpartition(":")[2])
    waiting = asyncio.create_task(send(destination))
    await asyncio.sleep(0)
    dialled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    tasks = [asyncio.create_task(partner.serve(*pair)) for pair in dialled]
    assert isinstance(await waiting, Delivered)
    assert isinstance(await send(destination, "C2"), Delivered)
    with pytest.raises(NotReady, match=r"cannot listen on .* for a partner"):
        await replace(destination.lines, port=port, _server=None).open()
    await destination.close()
    await asyncio.gather(*tasks)
    assert [request.count(b"|C1|") for request in partner.requests] == [1, 0]


async def test_reasons_hold_nothing_of_the_message_or_the_answer(partner: ScriptedPartner) -> None:
    told = "ERR||Okafor^0012^wrong|wrong patient^Okafor|E|0012|||wrong patient Okafor 0012"
    for code in ("AE", "AR", "CE", "XX", "Okafor"):
        outcome = await meets(partner, answer(code, told))
        assert isinstance(outcome, Retry | Unknown | Rejected)
        place = outcome.location if isinstance(outcome, Rejected) else ""
        assert not [secret for secret in SECRETS if secret in outcome.reason + place + repr(outcome)]
