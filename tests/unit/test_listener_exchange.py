"""This module checks what becomes of messages and batches on an MLLP connection, in every mode of acknowledgment."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotAccepted
from broker.notices import BatchFaulty, Bug, MessageRefused
from broker.wire.header import read_header
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, Decoder, Frame, Oversize, frame
from tests.mllp_bench import Bench, Wire, answers, message, turn
from tests.wire_cases import connections_of, wire_cases

DATA = Path(__file__).parents[2] / "../shared/data/hl7"
BHS = b"BHS|^~\\&|EPIC|MERCY|HANDOFF|PRM|20260101||||B1\r"
REFUSAL = NotAccepted("MSH-12: unknown", code="AR", condition=203, location="MSH-12")


def frames(wire: Wire) -> list[bytes]:
    return [item.payload for item in Decoder(1 << 24).feed(wire.value()) if isinstance(item, Frame)]


def codes(payload: bytes) -> list[tuple[str, str]]:
    """Return MSA-1 and MSA-2 of every acknowledgment in a payload."""
    return [(found[1].decode(), found[2].decode()) for found in re.finditer(rb"\rMSA\|(\w+)\|([^|\r]*)", payload)]


async def kept(bench: Bench) -> None:
    """Keep every promise, also those that are only made when others are kept."""
    while numbers := [number for number, promise in enumerate(bench.promises) if not promise.done()]:
        await bench.keep(*numbers)
        for _ in range(3):
            await turn()


# Modes.


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ("|", ["AA"]),
        ("AL|NE", ["CA"]),
        ("AL|AL", ["CA", "AA"]),
        ("AL|ER", ["CA"]),
        ("AL|SU", ["CA", "AA"]),
        ("NE|AL", ["AA"]),
        ("|AL", ["AA"]),
        ("AL|", ["CA"]),
        ("ER|ER", []),
        ("SU|SU", ["CA", "AA"]),
        ("NE|NE", []),
    ],
)
async def test_acknowledgments_are_those_asked_for_when_stored(wishes: str, expected: list[str]) -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)) + frame(message(2)))
    await bench.keep(0, 1)
    assert answers(wire) == [*((code, "M1") for code in expected), ("AA", "M2")]


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ("|", ["AR"]),
        ("AL|AL", ["CR"]),
        ("ER|AL", ["CR"]),
        ("SU|AL", ["AR"]),
        ("NE|ER", ["AR"]),
        ("SU|SU", []),
        ("NE|NE", []),
    ],
)
async def test_refusal_is_answered_once_when_asked_for(wishes: str, expected: list[str]) -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)))
    await bench.refuse(0, REFUSAL)
    assert answers(wire) == [(code, "M1") for code in expected]
    assert [body for _, body in bench.kept] == [message(1, wishes=wishes)]


async def test_two_acknowledgments_have_control_ids_of_their_own_when_both_are_asked_for() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes="AL|AL")))
    await bench.keep(0)
    first, second = (read_header(payload) for payload in frames(wire))
    assert first.control_id != second.control_id
    assert (first.accept_ack, second.accept_ack, second.application_ack) == (b"", b"NE", b"NE")


@pytest.mark.parametrize("wishes", ["|", "AL|AL", "NE|NE", "SU|"])
async def test_answer_is_one_when_the_listener_knows_only_original_mode(wishes: str) -> None:
    bench = Bench(mode="original")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)) + frame(message(2, wishes=wishes)))
    await bench.keep(0)
    await bench.refuse(1, REFUSAL)
    assert answers(wire) == [("AA", "M1"), ("AR", "M2")]


# Batches.


async def test_batch_is_answered_in_one_frame_after_its_last_commit() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(0)) + frame(BHS + message(1) + message(2) + b"BTS|2\r") + frame(message(3)))
    await turn()
    assert [inbound.body for inbound in bench.inbound] == [message(0), message(1), message(2)]
    await bench.keep(0, 2)
    assert answers(wire) == [("AA", "M0")]
    await bench.keep(1)
    await turn()
    await bench.keep(3)
    _, batch, last = frames(wire)
    assert batch.startswith(b"BHS|^~\\&|HANDOFF|PRM|EPIC|MERCY|")
    assert codes(batch) == [("AA", "M1"), ("AA", "M2")]
    assert batch.endswith(b"BTS|2\r")
    assert codes(last) == [("AA", "M3")]
    assert bench.notices[1:] == []


async def test_messages_are_kept_apart_when_one_frame_holds_several() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1) + message(2)))
    await turn()
    await kept(bench)
    assert [inbound.body for inbound in bench.inbound] == [message(1), message(2)]
    assert [inbound.header and inbound.header.control_id for inbound in bench.inbound] == [b"M1", b"M2"]
    (answer,) = frames(wire)
    assert codes(answer) == [("AA", "M1"), ("AA", "M2")]


async def test_broken_message_is_refused_alone_when_in_a_good_batch() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    broken = b"MSH\rPID|1\r"
    connection.dataReceived(frame(BHS + message(1) + broken + message(2) + b"BTS|3\r"))
    await turn()
    await kept(bench)
    (answer,) = frames(wire)
    assert codes(answer) == [("AA", "M1"), ("AR", ""), ("AA", "M2")]
    assert answer.count(b"\rERR|") == 1
    assert [body for _, body in bench.kept] == [broken]
    assert [notice.code for notice in bench.of(MessageRefused)] == ["AR"]
    assert not wire.is_closing()


async def test_message_is_refused_alone_when_the_intake_refuses_it() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1) + message(2) + b"BTS|2\r"))
    await turn()
    await bench.refuse(0, REFUSAL)
    await bench.keep(1)
    await turn()
    (answer,) = frames(wire)
    assert codes(answer) == [("AR", "M1"), ("AA", "M2")]
    assert [body for _, body in bench.kept] == [message(1)]


async def test_message_is_refused_when_the_envelope_tears_it() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1) + message(2) + BHS + b"PV1|1\rBTS|1\r"))
    await turn()
    await kept(bench)
    (answer,) = frames(wire)
    assert codes(answer) == [("AA", "M1"), ("AR", "M2"), ("AE", "B1"), ("AE", "B1")]
    assert [inbound.body for inbound in bench.inbound] == [message(1)]
    assert sorted(body for _, body in bench.kept) == [b"\rPV1|1\r", message(2)]


@pytest.mark.parametrize(
    ("mode", "wishes", "expected"),
    [
        ("MSH-15", "NE|NE", [("AE", "B1")]),
        ("MSH-15", "AL|NE", [("CA", "M1"), ("CE", "B1")]),
        ("original", "AL|NE", [("AA", "M1"), ("AE", "B1")]),
    ],
)
async def test_wrong_count_is_told_and_everything_taken_when_a_batch_lies(
    mode: str, wishes: str, expected: list[tuple[str, str]]
) -> None:
    bench = Bench(mode=mode)
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1, wishes=wishes) + b"BTS|2\r"))
    await turn()
    await kept(bench)
    (answer,) = frames(wire)
    assert codes(answer) == expected
    assert len(bench.inbound) == 1
    (notice,) = bench.of(BatchFaulty)
    assert (notice.messages, notice.faults, notice.reason[:6]) == (1, 1, "BTS-1:")


async def test_nothing_is_written_when_no_message_of_a_batch_wants_an_answer() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    silent = message(1, wishes="NE|NE") + message(2, wishes="ER|ER")
    connection.dataReceived(frame(BHS + silent + b"BTS|2\r") + frame(message(3)))
    await turn()
    await kept(bench)
    assert answers(wire) == [("AA", "M3")]


async def test_only_errors_are_answered_when_a_batch_asks_for_that() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    wishes = "ER|NE"
    connection.dataReceived(frame(BHS + message(1, wishes=wishes) + message(2, wishes=wishes) + b"BTS|2\r"))
    await turn()
    await bench.keep(0)
    await bench.refuse(1, REFUSAL)
    await turn()
    (answer,) = frames(wire)
    assert codes(answer) == [("CR", "M2")]
    assert answer.endswith(b"BTS|1\r")


async def test_both_acknowledgments_are_in_the_batch_when_its_messages_ask_for_both() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1, wishes="AL|AL") + b"BTS|1\r"))
    await turn()
    await kept(bench)
    (answer,) = frames(wire)
    assert codes(answer) == [("CA", "M1"), ("AA", "M1")]
    assert answer.endswith(b"BTS|2\r")


@pytest.mark.parametrize("count", [1, 9])
async def test_batch_of_acknowledgments_is_kept_and_not_answered_when_it_arrives(count: int) -> None:
    bench = Bench()
    connection, wire = bench.connect()
    acknowledgment = b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|1\r"
    connection.dataReceived(frame(BHS + acknowledgment + b"BTS|%d\r" % count))
    await turn()
    assert (wire.value(), bench.inbound, [body for _, body in bench.kept]) == (b"", [], [acknowledgment])
    assert not wire.is_closing()


async def test_answers_to_batches_are_not_answered_when_two_engines_talk() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    other, other_wire = bench.connect()
    for payload in (BHS + b"BTS|0\r", b"BTS|7\r", BHS + b"PID|1\r", BHS + message(1) + b"BTS|9\r"):
        connection.dataReceived(frame(payload))
        await turn()
        await kept(bench)
    assert len(frames(wire)) == 4
    other.dataReceived(wire.value())
    await turn()
    assert other_wire.value() == b""


async def test_few_messages_are_open_when_a_batch_is_large() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    body = b"".join(message(number) for number in range(150))
    connection.dataReceived(frame(BHS + body + b"BTS|150\r") + frame(message(999)))
    await turn()
    assert len(bench.inbound) == 64
    assert wire.is_paused()
    await bench.keep(*range(63))
    assert len(bench.inbound) == 64
    await kept(bench)
    assert len(bench.inbound) == 151
    assert not wire.is_paused()
    batch, last = frames(wire)
    assert codes(batch) == [("AA", f"M{number}") for number in range(150)]
    assert codes(last) == [("AA", "M999")]


async def test_batch_is_rejected_whole_when_it_has_too_many_messages() -> None:
    bench = Bench(max_batch=2)
    connection, wire = bench.connect()
    payload = BHS + message(1) + message(2) + message(3) + b"BTS|3\r"
    connection.dataReceived(frame(payload) + frame(message(4)))
    await turn()
    await kept(bench)
    first, second = frames(wire)
    assert (codes(first), codes(second)) == ([("AR", "B1")], [("AA", "M4")])
    assert [body for _, body in bench.kept] == [payload]


async def test_batch_goes_on_when_its_peer_has_gone() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    body = b"".join(message(number) for number in range(100))
    connection.dataReceived(frame(BHS + body) + frame(message(100)))
    await turn()
    connection.connectionLost()
    await kept(bench)
    assert len(bench.inbound) == 101
    assert wire.value() == b""


async def test_batch_and_what_is_behind_it_are_answered_when_the_listener_stops() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1)) + frame(message(2)))
    stopping = asyncio.ensure_future(bench.listener.stop())
    await turn()
    await kept(bench)
    batch, last = frames(wire)
    assert (codes(batch), codes(last)) == ([("AA", "M1")], [("AA", "M2")])
    assert wire.is_closing()
    connection.connectionLost()
    await stopping


async def test_connection_closes_unanswered_when_the_engine_stops_inside_a_batch() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1) + message(2)) + frame(message(3)))
    await turn()
    bench.promises[0].cancel()
    await bench.keep(1)
    await turn()
    assert wire.value() == b""
    assert wire.is_closing()
    assert len(bench.inbound) == 2


async def test_batch_is_answered_with_an_error_when_the_intake_breaks() -> None:
    bench = Bench()
    connection, wire = bench.connect()

    def broken(_: Any) -> Any:
        raise KeyError("0012 secret")

    bench.listener.tools.intake.accept = broken  # type: ignore[assignment]
    connection.dataReceived(frame(BHS + message(1)))
    for _ in range(3):
        await turn()
    (answer,) = frames(wire)
    assert codes(answer) == [("AE", "B1")]
    assert b"secret" not in answer
    assert bench.of(Bug)[0].error == "KeyError"


async def test_connection_closes_when_a_batch_is_wide() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    payload = (message(1) + message(2)).decode().encode("utf-16")
    connection.dataReceived(frame(payload))
    await turn()
    assert (wire.value(), [body for _, body in bench.kept]) == (b"", [payload])
    assert wire.is_half_closed()


async def test_nothing_behind_it_is_taken_when_a_held_frame_is_not_hl7() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1)) + frame(b"INVALID") + frame(message(2)))
    await turn()
    await kept(bench)
    assert [codes(payload) for payload in frames(wire)] == [[("AA", "M1")]]
    assert len(bench.inbound) == 1
    assert wire.is_half_closed()


async def test_answers_keep_their_order_when_a_large_frame_is_behind_a_batch() -> None:
    bench = Bench(max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1)) + b"\r\n" + frame(b"") + b"\x0b" + message(2) + b"x" * 2000)
    await turn()
    await kept(bench)
    assert [codes(payload) for payload in frames(wire)] == [[("AA", "M1")], [("AR", "M2")]]
    assert wire.is_half_closed()


# What other people send.


def _payload(file: Path) -> bytes:
    return file.read_bytes().replace(b"\x0b", b"").replace(b"\x1c", b"")


@pytest.mark.parametrize("file", sorted(DATA.glob("*.hl7")) or [None], ids=lambda file: file.stem if file else "absent")
async def test_frame_of_other_people_is_answered_once_or_closed_with_a_reason(file: Path | None) -> None:
    if file is None:
        pytest.skip("needs ../shared/data/hl7, which is not here")
    bench = Bench(mode="original")
    connection, wire = bench.connect()
    connection.dataReceived(frame(_payload(file)))
    await turn()
    await kept(bench)
    if wire.is_half_closed():
        assert (wire.value(), len(bench.kept)) == (b"", 1)
    elif not frames(wire):
        reasons = [reason for reason, _ in bench.kept] + [notice.reason for notice in bench.of(MessageRefused)]
        assert any(reason.startswith(("an acknowledgment came", "an empty frame came")) for reason in reasons)
    else:
        assert len(frames(wire)) == 1
        assert bench.inbound or bench.kept or bench.of(BatchFaulty)


def _case(path: Path) -> list[list[bytes]]:
    return connections_of(json.loads(path.read_text()))


@pytest.mark.parametrize("path", wire_cases() or [None], ids=lambda path: path.stem if path else "absent")
async def test_every_frame_of_a_wire_case_is_answered_once_or_closed_with_a_reason(path: Path | None) -> None:
    if path is None:
        pytest.skip("needs ../shared/data/mllp, which is not here")
    for chunks in _case(path):
        bench = Bench(mode="original")
        connection, wire = bench.connect()
        decoder = Decoder(bench.listener.limits.message)
        whole = sum(isinstance(item, Frame | Oversize) for chunk in chunks for item in decoder.feed(chunk))
        for chunk in chunks:
            connection.dataReceived(chunk)
        await turn()
        await kept(bench)
        answered = [code for payload in frames(wire) for code in codes(payload)]
        assert len(answered) == whole or (wire.is_half_closed() and bench.of(MessageRefused))
        assert len(answered) <= whole
        assert len(bench.inbound) <= len(answered)


# Release 2 of MLLP: a commit block for every frame, whatever HL7 asks for.


async def test_block_says_kept_before_the_acknowledgment_when_release_2() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(message(2, wishes="NE|NE")) + frame(message(3, wishes="AL|AL")))
    await turn()
    assert wire.value() == b""
    await kept(bench)
    block, first, second, third, commit, application = frames(wire)
    assert [block, second, third] == [COMMITTED] * 3
    assert codes(first) + codes(commit) + codes(application) == [("AA", "M1"), ("CA", "M3"), ("AA", "M3")]


async def test_block_says_not_kept_and_nothing_follows_when_release_2_and_the_store_fails() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    await bench.refuse(0, NotAccepted("no room", code="AE"))
    assert frames(wire) == [NOT_COMMITTED]


async def test_rejection_follows_its_block_when_release_2() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    await bench.refuse(0, REFUSAL)
    block, answer = frames(wire)
    assert (block, codes(answer)) == (COMMITTED, [("AR", "M1")])


@pytest.mark.parametrize(("refused", "expected"), [((), COMMITTED), ((1,), NOT_COMMITTED)])
async def test_block_is_for_the_whole_batch_when_release_2(refused: tuple[int, ...], expected: bytes) -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(BHS + message(1) + message(2)))
    await turn()
    for number in (0, 1):
        if number in refused:
            await bench.refuse(number, NotAccepted("no room", code="AE"))
        else:
            await bench.keep(number)
    await turn()
    block, *rest = frames(wire)
    assert (block, len(rest)) == (expected, int(not refused))


async def test_blocks_of_the_peer_are_taken_and_not_answered_when_release_2() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(COMMITTED) + frame(NOT_COMMITTED))
    await turn()
    assert (wire.value(), bench.kept, wire.is_closing(), wire.is_half_closed()) == (b"", [], False, False)
    assert "did not keep our acknowledgment" in bench.of(MessageRefused)[0].reason


@pytest.mark.parametrize("payload", [b"INVALID", b"x" * 2000])
async def test_block_says_not_kept_and_the_connection_closes_when_release_2_and_unreadable(payload: bytes) -> None:
    bench = Bench(release=2, max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(frame(payload))
    await turn()
    assert frames(wire) == [NOT_COMMITTED]
    assert wire.is_half_closed()


async def test_block_says_not_kept_when_release_2_and_the_frame_is_empty() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(b"") + frame(message(2)))
    await turn()
    await bench.keep(0, 1)
    assert [len(payload) == 1 for payload in frames(wire)] == [True, False, True, True, False]
    assert frames(wire)[2] == NOT_COMMITTED


async def test_acknowledgment_gets_its_block_alone_when_release_2() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(b"MSH|^~\\&|||||||ACK|9|P|2.5\rMSA|AA|1\r"))
    await turn()
    assert frames(wire) == [COMMITTED]


async def test_connection_closes_and_says_why_when_a_block_comes_to_release_1() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(COMMITTED))
    await turn()
    assert wire.is_half_closed()
    assert "listen.mllp.release" in bench.of(MessageRefused)[0].reason
