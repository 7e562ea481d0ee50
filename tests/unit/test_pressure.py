"""When nothing more may be taken in: too much waits, too much is half read, or the disk is nearly full."""

import asyncio
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker import space
from broker.errors import NotAccepted
from broker.limits import Limits
from broker.notices_pressure import IntakeResumed, IntakeStopped, SpaceLow
from broker.pressure import Pressure
from broker.wire.mllp import frame
from tests.mllp_bench import Bench, message, turn

LIMITS = Limits(waiting=100, unfinished=100, free_space=1000)


def test_reading_stops_above_the_limit_and_goes_on_at_half_of_it() -> None:
    told: list[Any] = []
    pressure = Pressure(LIMITS, told.append)
    went_on: list[str] = []
    pressure.take(100)
    assert (pressure.state, pressure.reason) == ("open", "")
    pressure.take(1)
    assert pressure.state == "busy"
    pressure.when_low(lambda: went_on.append("a"))
    gone = lambda: went_on.append("b")  # noqa: E731
    pressure.when_low(gone)
    pressure.forget(gone)
    pressure.tell()
    pressure.tell()
    pressure.give(50)
    assert not went_on
    pressure.give(1)
    assert (went_on, pressure.state, pressure.waiting) == (["a"], "open", 50)
    pressure.tell()
    reason = "too much waits for the store"
    assert told == [IntakeStopped(reason=reason), IntakeResumed(reason=reason)]


def test_what_was_read_is_refused_at_twice_the_limit_but_a_single_message_is_not() -> None:
    pressure = Pressure(LIMITS)
    pressure.take(1000)
    with pytest.raises(NotAccepted, match="send it again later") as refusal:
        pressure.take(1)
    assert refusal.value.is_ours


def test_everything_is_refused_while_the_disk_is_nearly_full() -> None:
    told: list[Any] = []
    pressure = Pressure(LIMITS, told.append)
    for free, state in (
        (5000, "open"),
        (3999, "open"),
        (1000, "open"),
        (999, "short"),
        (1099, "short"),
        (1101, "open"),
    ):
        pressure.look(free)
        pressure.tell()
        assert pressure.state == state
        if state == "short":
            with pytest.raises(NotAccepted, match="nearly full"):
                pressure.take(1)
    assert [type(notice) for notice in told] == [SpaceLow, IntakeStopped, IntakeResumed]
    assert told[0] == SpaceLow(free=3999, limit=1000)


def test_who_holds_most_of_what_is_half_read_goes_first() -> None:
    pressure = Pressure(LIMITS)
    assert pressure.hold(0, 90)
    assert pressure.hold(0, 5)
    assert pressure.hold(5, 11)  # over the limit, but it holds less than most
    assert not pressure.hold(90, 91)
    assert pressure.hold(91, 0)
    assert pressure.unfinished == 11


async def test_disk_is_looked_at_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter((10, 5000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free)))
    monkeypatch.setattr(space, "_EVERY", 0.0)
    told: list[Any] = []
    pressure = Pressure(LIMITS, told.append)
    watching = asyncio.create_task(space.watch(pressure, space.folder_of(f"sqlite:///{tmp_path}/handoff.db")))
    while len(told) < 3 and not watching.done():  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    watching.cancel()
    assert [type(notice) for notice in told] == [SpaceLow, IntakeStopped, IntakeResumed]


def test_disk_of_another_machine_is_not_looked_at() -> None:
    assert space.folder_of("postgresql://db/handoff") is None
    space.look(pressure := Pressure(LIMITS), None)
    assert pressure.free is None


async def test_connection_is_not_read_while_too_much_waits() -> None:
    bench = Bench()
    pressure = bench.listener.tools.pressure
    pressure.limits = LIMITS
    connection, wire = bench.connect()
    pressure.take(101)
    connection.dataReceived(frame(message(1)) + frame(message(2))[:20])
    assert wire.is_paused()
    assert len(bench.inbound) == 1  # what was read is dealt with
    await bench.keep(0)
    bench.clock.advance(60)  # an open frame's time does not run
    assert wire.is_paused()
    assert not wire.is_closing()
    pressure.give(101)
    assert not wire.is_paused()
    bench.clock.advance(31)
    assert wire.is_closing()


async def test_connection_that_holds_too_much_of_an_open_frame_is_closed() -> None:
    bench = Bench()
    pressure = bench.listener.tools.pressure
    pressure.limits = LIMITS
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1) + b"x" * 200)[:-2])
    await turn()
    assert wire.is_closing()
    connection.connectionLost()
    assert pressure.unfinished == 0
