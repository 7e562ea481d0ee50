"""A poison message costs itself, and nothing that stands beside it."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.notices import Notice, WorkerDied
from broker.processes import Item, Processed, WorkerProcess

DEADLINE = 1.0


@pytest.fixture
async def worker() -> AsyncIterator[tuple[WorkerProcess, list[Notice]]]:
    """A real worker process with a dangerous program and a deadline of one second."""
    notices: list[Notice] = []
    environment = {**os.environ, "HANDOFF_WORKER_MEMORY": str(1 << 30), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(Path(__file__).with_name("poison_worker.py"))]
    process = WorkerProcess(command, environment, DEADLINE, notices.append)
    process.start()
    process.load("program", "{}")
    try:
        async with asyncio.timeout(20):
            await process.ready
        yield process, notices
    finally:
        await process.stop()


def items(*orders: str) -> list[Item]:
    """Return one message for each order."""
    return [
        Item(number, 0.0, f"MSH|^~\\&|A|B|C|D|2026||ADT^A08|{order}|P|2.5\r".encode())
        for number, order in enumerate(orders)
    ]


async def run(worker: WorkerProcess, *orders: str) -> list[Processed]:
    """Run one batch."""
    async with asyncio.timeout(30):
        return await worker.run("program", items(*orders))


async def test_results_come_in_order(worker: tuple[WorkerProcess, list[Notice]]) -> None:
    """Several batches ahead, each answered as it was asked."""
    process, _ = worker
    batches = [process.run("program", items(*[f"{batch}-{number}" for number in range(100)])) for batch in range(6)]
    for number, batch in enumerate(await asyncio.gather(*batches)):
        assert [one.deliveries[0].request for one in batch] == [f"{number}-{index}".encode() for index in range(100)]


@pytest.mark.parametrize("poison", ["loop", "sleep", "exit", "crash"])
async def test_what_kills_the_process_fails_alone(worker: tuple[WorkerProcess, list[Notice]], poison: str) -> None:
    """Run again alone, killed again, failed; everybody else of this batch and the next is processed, in order."""
    process, notices = worker
    began = time.monotonic()
    first = process.run("program", items("a", "b", poison, "c", poison, "d"))
    second = process.run("program", items("e", "f"))
    async with asyncio.timeout(30):
        results, after = await first, await second
    states = [one.state for one in results]
    assert states == ["processed", "processed", "failed", "processed", "failed", "processed"]
    assert [one.deliveries[0].request for one in results if one.deliveries] == [b"a", b"b", b"c", b"d"]
    assert [one.deliveries[0].request for one in after] == [b"e", b"f"]
    assert results[2].step == "worker"
    assert "twice, at this message" in (results[2].reason or "")
    assert sum(isinstance(notice, WorkerDied) for notice in notices) == 4
    assert time.monotonic() - began < 4 * (DEADLINE + 4)


@pytest.mark.parametrize(
    ("poison", "reason"),
    [("raise", "raised ZeroDivisionError"), ("memory", "raised MemoryError"), ("deep", "raised RecursionError")],
)
async def test_what_raises_fails_without_a_restart(
    worker: tuple[WorkerProcess, list[Notice]], poison: str, reason: str
) -> None:
    """An exception says its type, never its text, which may hold patient data."""
    process, notices = worker
    results = await run(process, "a", poison, "b")
    assert [one.state for one in results] == ["processed", "failed", "processed"]
    assert (results[1].step, results[1].reason) == ("1 script", reason)
    assert not notices


async def test_a_refusal_says_step_and_location(worker: tuple[WorkerProcess, list[Notice]]) -> None:
    """What an operator needs to mend it."""
    process, _ = worker
    (result,) = await run(process, "refuse")
    assert (result.state, result.step, result.location) == ("failed", "1 script", "PV1-3")


async def test_printing_does_not_spoil_the_answers(worker: tuple[WorkerProcess, list[Notice]]) -> None:
    """User code that prints writes to our standard error."""
    process, notices = worker
    assert [one.state for one in await run(process, "print", "a")] == ["processed", "processed"]
    assert not notices


async def test_a_process_killed_while_idle_comes_back(worker: tuple[WorkerProcess, list[Notice]]) -> None:
    """With its programs loaded again."""
    process, _ = worker
    await run(process, "a")
    assert process._process is not None
    process._process.kill()
    assert [one.state for one in await run(process, "b")] == ["processed"]
