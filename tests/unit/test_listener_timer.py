"""This module shows that a timer makes one message for each due time, whatever clock, store and stops do."""

import asyncio
import itertools
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

import listeners.timer
from broker.errors import NotAccepted
from broker.formats.tree import Json
from broker.message import Inbound, Receipt
from broker.notices import Bug, MessageRefused, Notice
from broker.parts import Tools
from listeners.timer import TimerListener, TimerSpec
from tests.intake import NoIntake

NOON = 1_795_953_600.0  # 2026-11-29T12:00:00Z


class Kept(NoIntake):
    """An intake that knows messages by key and bytes, as the engine's does, and fails when told to."""

    def __init__(self) -> None:
        self.messages: dict[tuple[bytes, bytes], Inbound] = {}
        self.notices: list[Notice] = []
        self.failures: list[Exception] = []
        self.tries = 0

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        self.tries += 1
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        if self.failures:
            promise.set_exception(self.failures.pop(0))
        else:
            known = (inbound.key, inbound.body)
            duplicate = known in self.messages
            self.messages.setdefault(known, inbound)
            promise.set_result(Receipt(message_id=1, duplicate=duplicate))
        return promise

    def due(self) -> list[str]:
        return [orjson.loads(message.body)["due"][11:19] for message in self.messages.values()]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def time(self) -> float:
        return self.now


async def run(kept: Kept, times: list[float], **options: Any) -> TimerListener:
    """Run a timer that finds these times on the clock, one after each pause, and stop it a few pauses later."""
    spec = TimerSpec.model_validate({"schedule": {"every": "1m"}, "values": {"report": "census"}, **options})
    tools = Tools("nightly", kept, kept.notices.append, None, Json())
    listener = TimerListener(spec, tools)
    clock = Clock()
    left = iter(times[1:])
    clock.now = times[0]

    async def pause(_: float) -> None:
        await asyncio.sleep(0)
        clock.now = next(left, 0.0) or clock.now
        if clock.now == times[-1] and next(rounds) > len(times) + 5:
            listener._stopping.set()

    rounds = itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listeners.timer, "time", clock)
        patch.setattr(listener, "_pause", pause)
        await listener.start()
        assert listener.endpoints
        assert listener.connections == 0
        task = listener._task
        assert task is not None
        await task
    await listener.stop()
    await listener.stop()
    assert not listener.endpoints
    return listener


async def test_message_says_when_it_was_due_and_what_was_written() -> None:
    kept = Kept()
    await run(kept, [NOON + 1, NOON + 61], schedule={"cron": "* * * * *", "zone": "Europe/Berlin"}, catch_up=0)
    bodies = [orjson.loads(message.body) for message in kept.messages.values()]
    assert bodies == [{"due": "2026-11-29T13:01:00+01:00", "report": "census"}]


async def test_each_due_time_brings_one_message() -> None:
    kept = Kept()
    await run(kept, [NOON + 30, NOON + 59, NOON + 60, NOON + 119, NOON + 121], catch_up=0)
    assert kept.due() == ["12:01:00", "12:02:00"]


async def test_last_of_the_due_times_that_were_missed_is_made_up_for() -> None:
    kept = Kept()
    await run(kept, [NOON + 150], catch_up="5m")
    assert kept.due() == ["12:02:00"]


async def test_due_time_that_passed_too_long_ago_is_not_made_up_for() -> None:
    kept = Kept()
    await run(kept, [NOON + 150], schedule={"cron": "0 12 * * *"}, catch_up="2m")
    assert kept.due() == []


async def test_due_time_is_taken_once_across_a_restart() -> None:
    kept = Kept()
    await run(kept, [NOON + 10])
    await run(kept, [NOON + 20])
    assert (kept.tries, kept.due()) == (2, ["12:00:00"])


async def test_clock_that_was_set_forward_brings_the_last_due_time_only() -> None:
    kept = Kept()
    await run(kept, [NOON + 10, NOON + 1000 * 86_400 + 10], catch_up=0)
    assert kept.due() == ["12:00:00"]
    assert len(kept.messages) == 1


async def test_clock_that_was_set_back_brings_nothing_twice() -> None:
    kept = Kept()
    await run(kept, [NOON + 50, NOON + 61, NOON + 55, NOON + 62, NOON + 121], catch_up=0)
    assert kept.due() == ["12:01:00", "12:02:00"]
    assert kept.tries == 3


async def test_message_is_made_again_when_the_store_is_away() -> None:
    kept = Kept()
    kept.failures = [NotAccepted("away", code="AE"), NotAccepted("away", code="AE")]
    await run(kept, [NOON + 10] * 4)
    assert (kept.tries, kept.due()) == (3, ["12:00:00"])


async def test_stop_ends_the_waiting_for_a_store_that_is_away() -> None:
    kept = Kept()
    kept.failures = [NotAccepted("away", code="AE")] * 100
    await run(kept, [NOON + 10])
    assert 0 < kept.tries < 100
    assert not kept.messages


async def test_message_that_is_refused_is_told_and_not_made_again() -> None:
    kept = Kept()
    kept.failures = [NotAccepted("no", code="AR")]
    await run(kept, [NOON + 10, NOON + 11])
    assert kept.tries == 1
    assert [notice for notice in kept.notices if isinstance(notice, MessageRefused)]


async def test_mistake_of_ours_does_not_end_the_timer() -> None:
    kept = Kept()
    kept.failures = [RuntimeError("ours")]
    await run(kept, [NOON + 10, NOON + 11])
    assert kept.due() == ["12:00:00"]
    assert [notice.error for notice in kept.notices if isinstance(notice, Bug)] == ["RuntimeError"]


async def test_stop_does_not_wait_for_the_next_due_time() -> None:
    kept = Kept()
    tools = Tools("nightly", kept, kept.notices.append, None, Json())
    listener = TimerSpec.model_validate({"schedule": {"every": "1d"}, "catch_up": 0}).build(tools)
    await listener.start()
    await asyncio.wait_for(listener.stop(), 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"schedule": {"every": "1m"}, "values": {"due": "x"}}, {"schedule": {"every": "1m"}, "catch_up": "2d"}],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TimerSpec.model_validate(options)
