"""The processes that write to the databases may be killed alone: the engine says so or goes on, and nothing is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.sender import Sender

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
_ROUNDS = 3


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An engine on SQLite, not started."""
    async with set_up(tmp_path) as found:
        yield found


async def _worked(bench: Bench, more: int = 50) -> None:
    least = len(bench.ledger.answers) + more
    async with asyncio.timeout(60):
        while len(bench.ledger.answers) < least:  # noqa: ASYNC110 - the sender fills it, and tells nobody
            await asyncio.sleep(0.02)


async def _kill(bench: Bench, module: str) -> None:
    """Kill a process of the engine's once it is there: one that was killed comes back when there is work for it."""
    async with asyncio.timeout(30):
        while not (children := bench.engine.children(module)):  # noqa: ASYNC110 - no process tells us
            await asyncio.sleep(0.02)
    os.kill(children[0], signal.SIGKILL)


async def test_the_engine_ends_and_says_why_when_its_writer_is_killed(bench: Bench) -> None:
    sender = Sender(bench.engine.port, bench.feed, bench.ledger, seed=1)
    await bench.engine.start()
    sender.start()
    try:
        for _ in range(_ROUNDS):
            await _worked(bench)
            await _kill(bench, "broker.writer:serve")
            assert await bench.engine.wait() == 3
            await bench.engine.start()
        await sender.stop()
    finally:
        await sender.abort()
    failed = bench.engine.notices("engine_failed")
    assert [notice["reason"] for notice in failed] == [
        "store: its writer's process ended; nothing acknowledged is lost; start again"
    ] * _ROUNDS
    # Between the writer's end and the engine's a message is refused, so that its sender keeps it.
    sender.faults[:] = [fault for fault in sender.faults if fault != "a good message was answered AE"]
    await bench.assert_kept(sender, 60)


async def test_the_engine_goes_on_when_the_writer_of_the_patient_store_is_killed(bench: Bench) -> None:
    sender = Sender(bench.engine.port, bench.feed, bench.ledger, seed=2)
    await bench.engine.start()
    started = bench.engine.pid
    sender.start()
    try:
        for _ in range(_ROUNDS):
            await _worked(bench)
            await _kill(bench, "dispatch.patients.applier:serve")
        await _worked(bench)
        await sender.stop()
    finally:
        await sender.abort()
    assert bench.engine.pid == started
    await bench.assert_kept(sender, 60)
