"""Who waits for the end of a message's steps, or of a delivery, is told once it is committed, whenever that was."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from broker.endings import Conclusions, Endings
from broker.errors import Breach, StoreError
from broker.message import Conclusion, Ended
from broker.seal import Sealer
from broker.units import Finished, Recorded

ROW = ("failed", "steps.1.canonical", "PID", "PID is missing")


def saying(row: Any) -> Any:
    """Return a store that says this of every message, and of every delivery."""

    async def read(*_asked: Any) -> Any:
        await asyncio.sleep(0)
        if isinstance(row, Exception):
            raise row
        return row

    return SimpleNamespace(read=read)


def endings(row: Any = None) -> Endings:
    return Endings(saying(row))


def conclusions(row: Any = None) -> Conclusions:
    return Conclusions(saying(row), Sealer(b"k" * 32))


def recorded(delivery: int, state: str, **more: Any) -> Recorded:
    return Recorded(delivery, 1, 1, 1, 1, 1.0, 2.0, "delivered", state, open=False, **more)


def finished(message: int, state: str = "processed") -> Finished:
    return Finished(id=message, channel=1, revision=1, state=state, at=1.0)


async def test_everybody_who_waits_for_a_message_is_told_once() -> None:
    known = endings()
    known.tell([finished(1, "failed")])  # nobody waits yet
    first, second = known.of(1, may_be_over=False), known.of(1, may_be_over=False)
    other = known.of(2, may_be_over=False)
    known.tell([finished(1, "filtered"), finished(3)])
    assert first.result() == second.result() == Ended("filtered")
    assert first.result().is_good
    assert not other.done()
    known.tell([finished(1)])
    known.tell([finished(2, "failed")])
    assert not other.result().is_good


async def test_all_that_is_wrong_is_told_with_the_end() -> None:
    known, found = endings(), (Breach("PID-5", 101, "not valued"),)
    promise = known.of(1, may_be_over=False)
    known.tell([finished(1, "failed")], {1: found})
    assert promise.result().breaches == found


async def test_end_of_long_ago_is_looked_up() -> None:
    assert await endings(ROW).of(1, may_be_over=True) == Ended(*ROW)


@pytest.mark.parametrize("row", [None, ("received", None, None, None)])
async def test_end_that_is_to_come_is_waited_for(row: Any) -> None:
    known = endings(row)
    promise = known.of(1, may_be_over=True)
    await asyncio.sleep(0.001)
    assert not promise.done()
    known.tell([finished(1)])
    assert (await promise).state == "processed"


async def test_end_that_commits_while_the_store_is_asked_counts() -> None:
    known = endings(ROW)
    promise = known.of(1, may_be_over=True)
    known.tell([finished(1)])
    await asyncio.sleep(0.001)
    assert promise.result().state == "processed"


async def test_who_gave_up_is_not_told() -> None:
    known = endings()
    promise = known.of(1, may_be_over=False)
    promise.cancel()
    await asyncio.sleep(0)
    assert not known._waiting  # nothing is held for one who gave up
    other, gone = known.of(1, may_be_over=False), known.of(1, may_be_over=False)
    gone.cancel()
    known.tell([finished(1)])
    assert promise.cancelled()
    assert (await other).is_good


async def test_store_that_cannot_say_is_told() -> None:
    with pytest.raises(StoreError, match="away"):
        await endings(StoreError("store: it is away")).of(1, may_be_over=True)


async def test_end_of_a_delivery_is_told_with_what_came_back() -> None:
    known = conclusions(("waiting", None, None, b""))
    promise = known.of(65, may_be_over=True)
    await asyncio.sleep(0.001)
    known.tell(recorded(65, "waiting", reason="HTTP 503"))
    known.tell(recorded(66, "delivered"))
    assert not promise.done()
    known.tell(recorded(65, "delivered", detail=b"Patient/7\n\n{}\n\n"))
    assert await promise == Conclusion("delivered", reference="Patient/7", response=b"{}\n\n")


async def test_delivery_of_long_ago_is_looked_up() -> None:
    found = await conclusions(("dead", "HTTP 400", "Patient.name", b"")).of(65, may_be_over=True)
    assert found == Conclusion("dead", "HTTP 400", "Patient.name")
    assert await conclusions(None).of(65, may_be_over=True) == Conclusion("absent")
