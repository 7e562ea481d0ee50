"""Whatever comes over the wire is answered, or the connection is closed and the bytes are kept for an operator."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from broker.wire.mllp import frame
from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.feed import CANARIES, Sent
from tests.faults.harness.invariants import drain, stored
from tests.faults.harness.sender import exchange, read_answer

_CAP: Final = 65_536  # bytes
_DEADLINE: Final = 1.5  # seconds

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


class Look(Bench):
    """A running engine with tight limits, and short ways to look at it."""

    seen: frozenset[str] = frozenset()  # what was in quarantine when a test began

    def message(self) -> Sent:
        """Return a good message."""
        return self.feed.next()

    async def quarantined(self) -> dict[str, Any]:
        """Wait until something is quarantined that was not there when a test began; return that."""
        async with asyncio.timeout(10):
            while not (fresh := self._fresh()):  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.02)
        (row,) = fresh
        return row

    def _fresh(self) -> list[dict[str, Any]]:
        return [row for row in self.engine.cli("quarantine", "--json")["quarantine"] if row["id"] not in self.seen]

    async def goes_on(self) -> None:
        """See that the engine takes and delivers a good message, has no trouble, and shows nobody's data."""
        one = self.message()
        await self.send(one)
        await drain(self.engine)
        (found,) = stored(self.engine)[one.control_id]
        assert found.state == "processed"
        assert not self.engine.notices("bug")
        assert not self.engine.secrets_shown()
        fresh = self._fresh()  # by now, what a mistake of ours kept again would be there as well
        assert len(fresh) <= 1
        self.seen |= {row["id"] for row in fresh}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["sqlite", "postgresql"])
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Look]:
    folder = tmp_path_factory.mktemp("bad")
    with contextlib.ExitStack() as held:
        store = ""
        if request.param == "postgresql":
            store = held.enter_context(
                request.getfixturevalue("postgres").database(request.getfixturevalue("laid_database"))
            )
        write = channel(destinations="patients", listen=f"max_message: 64KiB, frame_deadline: {_DEADLINE}s")
        async with set_up(folder, write, store=store, seed=6) as found:
            await found.engine.start()
            yield Look(found.engine, found.sink, found.ledger, found.feed)


def errors(payload: bytes) -> list[bytes]:
    """Return the ERR segments of an answer."""
    return [segment for segment in payload.split(b"\r") if segment.startswith(b"ERR")]


def replaced(one: Sent, field: int, value: bytes) -> bytes:
    """Return a message's bytes with another value in a field of MSH."""
    first, _, rest = one.body.partition(b"\r")
    parts = first.split(b"|")
    parts += [b""] * (field - len(parts))
    parts[field - 1] = value
    return b"|".join(parts) + b"\r" + rest


# What is wrong, the field of MSH, its value, the code, the condition and the place that ERR must tell.
_REFUSED: Final = [
    ("no message type", 9, b"", b"101", b"MSH^1^9"),
    ("unknown version", 12, b"9.9", b"203", b"MSH^1^12"),
    ("no version", 12, b"", b"101", b"MSH^1^12"),
    ("unknown character set", 18, b"KLINGON", b"103", b"MSH^1^18"),
]


@pytest.mark.parametrize(("what", "field", "value", "condition", "place"), _REFUSED, ids=[row[0] for row in _REFUSED])
async def test_bad_header_is_rejected_with_its_place(
    bench: Look, what: str, field: int, value: bytes, condition: bytes, place: bytes
) -> None:
    one = bench.message()
    (answer,) = await exchange(bench.engine.port, frame(replaced(one, field, value)), 1)
    assert read_answer(answer) == ("AE" if field == 18 else "AR", one.control_id)
    (error,) = errors(answer)
    assert place in error
    assert condition in error
    assert (await bench.quarantined())["reason"]
    assert one.control_id not in stored(bench.engine)
    await bench.goes_on()


async def test_bytes_outside_the_stated_character_set_are_an_error_of_the_message(bench: Look) -> None:
    one = bench.message()
    body = replaced(one, 18, b"UNICODE UTF-8").replace(CANARIES[0].encode(), b"\xff\xfe\xfa")
    (answer,) = await exchange(bench.engine.port, frame(body), 1)
    assert read_answer(answer) == ("AE", one.control_id)
    assert b"offset" in errors(answer)[0]
    await bench.goes_on()


@pytest.mark.parametrize(
    "body",
    [
        b"PID|1||4711^^^MERCY^MR\r",
        b"MSH\r",
        b"MSH|",
        b"MSH|^~\\&",
        b"MSH||||||||\r",
        b"hello",
        b"\xff\xfe\xfd\xfc" * 50,
        b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08||P|2.5.1\rPID|1\r",
        b"MSH|^~\\&|" + b"A" * 10_000,
    ],
    ids=[
        "no MSH",
        "MSH alone",
        "MSH and bar",
        "cut MSH",
        "no separators",
        "text",
        "binary",
        "no control id",
        "endless MSH",
    ],
)
async def test_frame_that_is_no_message_is_answered_or_closed_and_kept(bench: Look, body: bytes) -> None:
    answers = await exchange(bench.engine.port, frame(body), seconds=5, end=True)
    assert len(answers) <= 1
    for answer in answers:
        assert read_answer(answer)[0] in {"AR", "AE"}
        assert errors(answer)
    kept = await bench.quarantined()
    assert kept["size"] == len(body)
    assert kept["reason"]
    await bench.goes_on()


async def test_frame_over_the_cap_is_rejected_and_the_connection_closed(bench: Look) -> None:
    one = bench.message()
    body = one.body + b"NTE|1||" + b"x" * _CAP * 2 + b"\r"
    answers = await exchange(bench.engine.port, frame(body), seconds=8)
    assert [read_answer(answer) for answer in answers] == [("AR", one.control_id)]
    assert errors(answers[0])
    assert "max_message" in (await bench.quarantined())["reason"]
    await bench.goes_on()


@pytest.mark.parametrize("where", ["name", "type", "control id", "between", "everywhere"])
async def test_nul_bytes_do_no_harm(bench: Look, where: str) -> None:
    """A message with NUL bytes is kept or refused; kept, it ends somewhere an operator can see."""
    one = bench.message()
    body = {
        "name": one.body.replace(CANARIES[0].encode(), b"CANARY\0OKAFOR"),
        "type": replaced(one, 9, b"ADT^A0\08^ADT_A01"),
        "control id": replaced(one, 10, one.control_id.encode() + b"\0"),
        "between": one.body.replace(b"\rPID", b"\r\0PID"),
        "everywhere": one.body.replace(b"|", b"\0|"),
    }[where]
    answers = await exchange(bench.engine.port, frame(body), seconds=5, end=True)
    assert len(answers) <= 1
    if answers and read_answer(answers[0])[0] == "AA":
        await drain(bench.engine)
        found = [kept for copies in stored(bench.engine).values() for kept in copies if kept.body == body]
        assert len(found) == 1
        assert found[0].state in {"processed", "failed", "filtered"}
        ended = {delivery.state for delivery in found[0].deliveries.values()}
        assert ended <= {"delivered", "dead"}
    elif answers:
        assert errors(answers[0])
    await bench.goes_on()


async def test_missing_end_block_is_kept_and_the_next_frame_answered(bench: Look) -> None:
    lost, good = bench.message(), bench.message()
    (answer,) = await exchange(bench.engine.port, b"\x0b" + lost.body + frame(good.body), 1)
    assert read_answer(answer) == ("AA", good.control_id)
    newest = await bench.quarantined()
    assert newest["size"] == len(lost.body)
    assert re.search("began before the last one ended", newest["reason"])
    assert lost.control_id not in stored(bench.engine)
    await bench.goes_on()


async def test_peer_that_goes_in_the_middle_of_a_frame(bench: Look) -> None:
    one = bench.message()
    cut = b"\x0b" + one.body[:150]
    assert await exchange(bench.engine.port, cut, end=True, seconds=5) == []
    newest = await bench.quarantined()
    assert newest["size"] == 150
    assert "inside a frame" in newest["reason"]
    await bench.send(one)  # sent again, it is taken
    await bench.goes_on()


async def test_frame_that_does_not_end_in_time_is_closed_and_kept(bench: Look) -> None:
    one = bench.message()
    began = asyncio.get_running_loop().time()
    assert await exchange(bench.engine.port, b"\x0b" + one.body[:100], seconds=_DEADLINE * 4) == []
    assert asyncio.get_running_loop().time() - began < _DEADLINE * 3
    assert "in time" in (await bench.quarantined())["reason"]
    await bench.goes_on()


async def test_good_frames_around_a_bad_one_on_the_same_connection(bench: Look) -> None:
    """What was taken before a refusal keeps its answer, and what a refusal answers stands in its place."""
    first, bad, last = bench.message(), bench.message(), bench.message()
    bench.ledger.note_sent([first, last])
    data = frame(first.body) + frame(replaced(bad, 12, b"7.7")) + frame(last.body)
    answers = [read_answer(answer) for answer in await exchange(bench.engine.port, data, 3)]
    assert answers == [("AA", first.control_id), ("AR", bad.control_id), ("AA", last.control_id)]
    await bench.goes_on()


async def test_noise_between_frames_is_skipped_and_kept(bench: Look) -> None:
    one = bench.message()
    (answer,) = await exchange(bench.engine.port, b"GET / HTTP/1.1\r\n\r\n" + frame(one.body), 1)
    assert read_answer(answer) == ("AA", one.control_id)
    assert "outside a frame" in (await bench.quarantined())["reason"]
    await bench.goes_on()


async def test_acknowledgment_is_not_answered(bench: Look) -> None:
    """Two engines would answer each other for ever."""
    body = b"MSH|^~\\&|A|B|C|D|20260101||ACK|1|P|2.5.1\rMSA|AA|4711\r"
    assert await exchange(bench.engine.port, frame(body), end=True, seconds=5) == []
    assert "acknowledgment" in (await bench.quarantined())["reason"]
    await bench.goes_on()


async def test_same_message_again_is_one_message(bench: Look) -> None:
    """The same bytes are acknowledged again and have no second effect; other bytes are another message."""
    one = bench.message()
    other = Sent(one.control_id, one.patient, one.seq, one.body.replace(b"|SPRINGFIELD", b"|SHELBYVILLE") + b"NTE|1\r")
    answers = await exchange(bench.engine.port, frame(one.body) * 3 + frame(other.body) + frame(one.body), 5)
    assert [read_answer(answer) for answer in answers] == [("AA", one.control_id)] * 5
    await drain(bench.engine)
    assert len(stored(bench.engine)[one.control_id]) == 2
    assert bench.engine.notices("control_id_reused")
    await bench.goes_on()
