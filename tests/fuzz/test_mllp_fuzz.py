"""This module throws generated streams at an MLLP connection: however they are cut, each frame is answered once."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.errors import NotAccepted
from broker.message import Inbound, Receipt
from broker.wire.batch import is_batch, split_batch
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, Decoder, Frame, frame
from tests.mllp_bench import Bench, turn

WISHES = st.sampled_from(["", "AL", "NE", "ER", "SU", "??"])
LINE_END = st.sampled_from([b"\r", b"\n", b"\r\n"])
# A machine that does other things at the same time is no fault of the tests.
BUSY = [HealthCheck.too_slow]
CUTS = st.lists(st.integers(0, 5000), max_size=12)


@dataclass(frozen=True)
class Sent:
    """A message, what it asks for, and whether the intake will refuse it."""

    number: int
    accept: str
    application: str
    refused: bool
    end: bytes

    @property
    def body(self) -> bytes:
        kind = "REFUSED" if self.refused else "ADT^A01"
        head = f"MSH|^~\\&|A|B|C|D|20260101||{kind}|M{self.number}|P|2.5.1|||{self.accept}|{self.application}"
        return head.encode() + self.end + b"PID|1||%d" % self.number + self.end

    def answers(self, *, original: bool) -> list[tuple[str, str]]:
        """Say by the table what comes back: HL7 table 0155, read once more and on its own."""
        bad, name = self.refused, f"M{self.number}"
        if original or not (self.accept or self.application):
            return [("AR" if bad else "AA", name)]
        due = {"": False, "AL": True, "NE": False, "ER": bad, "SU": not bad, "??": True}
        commit = [("CR" if bad else "CA", name)] if due[self.accept] else []
        application = [("AR" if bad else "AA", name)] if due[self.application] else []
        return commit or application if bad else commit + application


MESSAGE = st.builds(Sent, st.integers(0, 999), WISHES, WISHES, st.booleans(), LINE_END)
UNIT = st.lists(MESSAGE, min_size=1, max_size=4)  # the messages of one frame
NOISE = st.sampled_from([b"", b"\r", b"\n\0 ", b"noise"])


def answered(data: bytes) -> list[list[tuple[str, str]]]:
    """Return MSA-1 and MSA-2 of each acknowledgment in each frame; a commit block has none."""
    items = Decoder(1 << 20).feed(data)
    assert all(isinstance(item, Frame) for item in items)
    payloads = [item.payload for item in items if isinstance(item, Frame)]
    return [
        [(found[1].decode(), found[2].decode()) for found in re.finditer(rb"\rMSA\|(\w+)\|([^|\r]*)", payload)]
        for payload in payloads
    ]


async def talked(data: bytes, cuts: list[int], **options: Any) -> tuple[Bench, bytes]:
    """Send a stream cut at these places to a connection whose intake keeps its promises at odd times."""
    bench = Bench(**options)

    def accept(inbound: Inbound) -> "asyncio.Future[Receipt]":
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[Receipt] = loop.create_future()
        bench.inbound.append(inbound)

        def keep() -> None:
            if b"|REFUSED|" in inbound.body:
                promise.set_exception(NotAccepted("no", code="AR", condition=200))
            else:
                promise.set_result(Receipt(message_id=1))

        loop.call_soon(keep) if len(bench.inbound) % 3 else keep()
        return promise

    bench.listener.tools.intake.accept = accept  # type: ignore[method-assign]
    connection, wire = bench.connect()
    begin = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        connection.dataReceived(data[begin:cut])
        begin = cut
        await asyncio.sleep(0)
    for _ in range(30):
        await turn()
    return bench, wire.value()


def payload_of(unit: list[Sent], *, envelope: bool) -> bytes:
    bodies = b"".join(sent.body for sent in unit)
    if not envelope:
        return bodies
    return b"BHS|^~\\&|A|B|C|D|20260101||||B1\r" + bodies + b"BTS|%d\r" % len(unit)


def expected(unit: list[Sent], *, envelope: bool, original: bool) -> list[list[tuple[str, str]]]:
    each = [sent.answers(original=original) for sent in unit]
    if envelope or len(unit) > 1:
        together = [answer for answers in each for answer in answers]
        return [together] if together else []
    return [[answer] for answers in each for answer in answers]


@given(st.lists(st.tuples(UNIT, st.booleans(), NOISE), max_size=5), CUTS, st.booleans(), st.sampled_from([1, 2]))
@settings(max_examples=80, deadline=None, suppress_health_check=BUSY)
def test_every_message_gets_what_it_asked_for_when_the_stream_is_cut_anywhere(
    units: list[tuple[list[Sent], bool, bytes]], cuts: list[int], original: bool, release: int
) -> None:
    data = b"".join(noise + frame(payload_of(unit, envelope=envelope)) for unit, envelope, noise in units)
    mode = "original" if original else "MSH-15"
    bench, written = asyncio.run(talked(data, cuts, mode=mode, release=release))
    assert [inbound.body for inbound in bench.inbound] == [sent.body for unit, _, _ in units for sent in unit]
    wanted: list[list[tuple[str, str]]] = []
    for unit, envelope, _ in units:
        wanted += [[]] if release == 2 else []  # the commit block
        wanted += expected(unit, envelope=envelope, original=original)
    assert answered(written) == wanted
    if release == 2:
        assert written.count(frame(COMMITTED)) == len(units)


PIECE = st.sampled_from(
    [
        b"\x0b", b"\x1c\r", b"\x1c", b"\r", b"\n", b"x", b"MSH", b"MSH|^~\\&|A|B|||||ADT|1|P|2.5\r",
        b"MSH|^~\\&|A|B|||||ACK|1|P|2.5\r", b"MSA|AA|1\r", b"BHS|^~\\&|A\r", b"FHS|^~\\&|A\r", b"BTS|1\r", b"FTS|1\r",
        b"PID|1\r", b"\x06", b"\x15", b"\xff\xfe", b"\xef\xbb\xbf", b"MSH|\r",
    ]
)  # fmt: skip
STREAM = st.lists(PIECE, max_size=16).map(b"".join)


@given(STREAM, CUTS, st.sampled_from([1, 2]))
@settings(max_examples=100, deadline=None, suppress_health_check=BUSY)
def test_result_is_the_same_when_nonsense_is_cut_elsewhere(data: bytes, cuts: list[int], release: int) -> None:
    options: dict[str, Any] = {"mode": "original", "release": release, "max_message": "1KiB"}
    at_once, written = asyncio.run(talked(data, [], **options))
    cut, written_cut = asyncio.run(talked(data, cuts, **options))
    assert [inbound.body for inbound in cut.inbound] == [inbound.body for inbound in at_once.inbound]
    assert answered(written_cut) == answered(written)
    # Whatever was taken in is answered: singly, or in a batch with what else is to be said of it.
    assert sum(len(answers) for answers in answered(written)) >= len(at_once.inbound)
    for inbound in at_once.inbound:
        assert b"\x0b" not in inbound.body
        assert not is_batch(inbound.body)


@given(STREAM)
@settings(max_examples=100, deadline=None, suppress_health_check=BUSY)
def test_no_byte_is_lost_when_a_batch_is_split(data: bytes) -> None:
    payload = b"BHS|^~\\&|A\r" + data
    batch = split_batch(payload, 1000)
    held = [body for group in batch.groups for body in group.messages]
    assert all(body.startswith(b"MSH") for body in held)
    rest = payload
    for part in sorted([*held, *batch.strays], key=len, reverse=True):
        assert part in rest
        rest = rest.replace(part, b"", 1)
    # What is left is the envelope: nothing of a message, and nothing that anybody would miss.
    assert not re.sub(rb"(?:[FB]HS\|\^~\\&\|A|[FB]TS\|1|[FB]TS)?[\r\n\0\t \x1a]*", b"", rest).strip(b"|")


def test_blocks_are_no_messages_when_they_come_back() -> None:
    assert not is_batch(COMMITTED)
    assert not is_batch(NOT_COMMITTED)
