"""This module checks what becomes of a batch on an MLLP connection, and of everything that other people send."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotAccepted
from broker.notices import BatchFaulty, Bug, MessageRefused
from broker.wire.mllp import Decoder, Frame, Oversize, frame
from tests.mllp_bench import Bench, answers, codes, frames, kept, message, turn
from tests.wire_cases import connections_of, wire_cases

DATA = Path(__file__).parents[2] / "../shared/data/hl7"
BHS = b"BHS|^~\\&|EPIC|MERCY|HANDOFF|PRM|20260101||||B1\r"
REFUSAL = NotAccepted("MSH-12: unknown", code="AR", condition=203, location="MSH-12")


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
