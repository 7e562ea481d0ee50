"""This module checks which acknowledgments leave an MLLP connection: original and enhanced mode, and release 2."""

import pytest

from broker.errors import Breach, NotAccepted
from broker.message import Ended, Receipt
from broker.notices import MessageRefused
from broker.wire.er7 import Message
from broker.wire.header import read_header
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, frame
from tests.mllp_bench import Bench, answers, codes, frames, kept, message, turn

BHS = b"BHS|^~\\&|EPIC|MERCY|HANDOFF|PRM|20260101||||B1\r"
REFUSAL = NotAccepted("MSH-12: unknown", code="AR", condition=203, location="MSH-12")


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
async def test_nobody_is_told_to_send_it_again_when_release_2_and_unreadable(payload: bytes) -> None:
    bench = Bench(release=2, max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(frame(payload))
    await turn()
    assert frames(wire) == [COMMITTED]
    assert wire.is_half_closed()
    assert len(bench.kept) == 1


async def test_message_is_rejected_after_its_block_when_release_2_and_too_large() -> None:
    bench = Bench(release=2, max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(message(2) + b"NTE|1||" + b"x" * 1024))
    await turn()
    await bench.keep(0)
    _, _, block, answer = frames(wire)
    assert (block, codes(answer)) == (COMMITTED, [("AR", "M2")])
    assert wire.is_half_closed()


async def test_nobody_is_told_to_send_it_again_when_release_2_and_the_frame_is_empty() -> None:
    bench = Bench(release=2)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(b"") + frame(message(2)))
    await turn()
    await bench.keep(0, 1)
    assert [len(payload) == 1 for payload in frames(wire)] == [True, False, True, True, False]
    assert frames(wire)[2] == COMMITTED


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


# After the steps.


async def end(bench: Bench, number: int, ended: Ended) -> None:
    bench.promises[number].set_result(Receipt(message_id=number, ended=ended))
    await turn()


FAILED = Ended("failed", "steps.2.canonical", "PID(2)-3", "patient 2 of 2: PID-3 has no identifier")


@pytest.mark.parametrize(("option", "waits"), [("stored", False), ("processed", True)])
async def test_intake_is_told_what_the_answer_waits_for(option: str, waits: bool) -> None:
    bench = Bench(acknowledge=option)
    connection, _ = bench.connect()
    connection.dataReceived(frame(message(1)))
    assert [inbound.waits for inbound in bench.inbound] == [waits]


@pytest.mark.parametrize("state", ["processed", "filtered"])
@pytest.mark.parametrize(("wishes", "expected"), [("|", ["AA"]), ("AL|AL", ["CA", "AA"]), ("NE|ER", [])])
async def test_what_the_steps_took_is_answered_as_what_was_stored(state: str, wishes: str, expected: list[str]) -> None:
    bench = Bench(acknowledge="processed")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)))
    assert answers(wire) == []
    await end(bench, 0, Ended(state))
    assert answers(wire) == [(code, "M1") for code in expected]


@pytest.mark.parametrize("mode", ["MSH-15", "original"])
async def test_what_the_steps_could_not_do_is_an_error_with_its_place(mode: str) -> None:
    bench = Bench(acknowledge="processed", mode=mode)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(message(2)))
    await end(bench, 1, Ended("processed"))
    assert answers(wire) == []  # in the order of the frames
    await end(bench, 0, FAILED)
    assert answers(wire) == [("AE", "M1"), ("AA", "M2")]
    answer = Message.parse(frames(wire)[0])
    assert [answer.get(place) for place in ("ERR-2.1", "ERR-2.2", "ERR-2.3", "ERR-3.1", "ERR-4")] == [
        "PID", "2", "3", "207", "E",
    ]  # fmt: skip
    assert answer.get("ERR-8") == FAILED.reason
    assert answer.get("ERR-7") == "channel adt: it waits for an operator, at steps.2.canonical"
    assert not bench.of(MessageRefused)
    assert not bench.kept


async def test_every_error_of_the_steps_is_told_by_its_code() -> None:
    bench = Bench(acknowledge="processed")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(message(2, wishes="AL|AL")))
    found = (Breach("PID-5", 101, "Patient name is required"), Breach("PID-8", 103, "no such code"))
    await end(bench, 0, Ended("failed", "steps.1.validate", "PID-5", "PID-5: …; PID-8: …", found))
    await end(bench, 1, Ended("failed", "steps.2.canonical", "MSH-9", "not mapped", (Breach("MSH-9", 200, "none"),)))
    assert answers(wire) == [("AE", "M1"), ("CA", "M2"), ("AR", "M2")]
    answer = Message.parse(frames(wire)[0])
    assert [answer.get(f"ERR({number})-3.1") for number in (1, 2, 3)] == ["101", "103", None]
    assert [answer.get(f"ERR({number})-8") for number in (1, 2)] == [each.text for each in found]
    assert [bool(answer.get(f"ERR({number})-7")) for number in (1, 2)] == [True, False]  # who to ask is said once


@pytest.mark.parametrize(
    ("wishes", "expected"), [("AL|AL", ["CA", "AE"]), ("AL|SU", ["CA"]), ("NE|ER", ["AE"]), ("AL|NE", ["CA"])]
)
async def test_failure_is_told_as_asked_for_in_enhanced_mode(wishes: str, expected: list[str]) -> None:
    bench = Bench(acknowledge="processed")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)))
    await end(bench, 0, Ended("discarded"))
    assert answers(wire) == [(code, "M1") for code in expected]


async def test_commit_is_answered_before_the_steps_and_they_when_they_end() -> None:
    bench = Bench(acknowledge="processed")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes="AL|AL")) + frame(message(2, wishes="AL|AL")))
    for number, inbound in enumerate(bench.inbound):
        assert inbound.on_stored is not None
        inbound.on_stored(Receipt(message_id=number))
    await turn()
    assert answers(wire) == [("CA", "M1"), ("CA", "M2")]
    await end(bench, 1, Ended("processed"))
    assert len(answers(wire)) == 2  # in the order of the frames
    connection.finish("the listener stops")
    assert not wire.is_closing()
    await end(bench, 0, FAILED)
    assert answers(wire)[2:] == [("AE", "M1"), ("AA", "M2")]
    assert wire.is_closing()


async def test_one_refusal_is_the_answer_where_nothing_was_stored() -> None:
    bench = Bench(acknowledge="processed")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes="AL|AL")))
    await bench.refuse(0, REFUSAL)
    await turn()
    assert answers(wire) == [("CR", "M1")]
