"""The engine dies at every named place, starts again, and has kept its promises; a place never reached is a failure.

Places of one stage share an engine: it dies at the first, starts again, dies at the next while it makes good for that,
and so on. ``FAULT_HITS`` says, as a list, the how-manieth time it dies at a place, for longer runs.
"""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Final

import pytest

from broker.crash import POINTS
from tests.faults.harness.bench import set_up
from tests.faults.harness.engine import Engine
from tests.faults.harness.sender import Sender

SEED: Final = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
HITS: Final = tuple(int(text) for text in os.environ.get("FAULT_HITS", "3").split(","))

STAGES: Final = (
    ("accept.received", "accept.inserted", "accept.committed"),
    ("process.begun", "process.returned", "finish.inserted", "finish.committed"),
    ("claim.updated", "claim.committed", "send.begun", "send.returned"),
    ("record.updated", "record.committed", "prm.before_commit", "prm.after_commit"),
)
# Where the two databases differ in what a crash leaves: in the middle of a transaction, and just after it.
ON_POSTGRESQL: Final = (
    ("accept.inserted", "accept.committed", "finish.inserted", "finish.committed"),
    ("claim.updated", "record.updated", "prm.before_commit", "prm.after_commit"),
)

pytestmark = pytest.mark.timeout(120)


# Places that a plain feed does not come to: the tests named after them have what leads there.
ELSEWHERE: Final = (
    "fallback.born",
    "act.applied",
    *[point for point in POINTS if point.startswith(("batch.", "file.", "pass.", "poll."))],
)


def test_every_place_belongs_to_a_stage() -> None:
    assert sorted([point for stage in STAGES for point in stage] + [*ELSEWHERE]) == sorted(POINTS)


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("stage", STAGES, ids="+".join)
async def test_nothing_is_lost_when_the_engine_dies_at(stage: tuple[str, ...], hit: int, tmp_path: Path) -> None:
    await _die_at(stage, hit, tmp_path)


@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("stage", ON_POSTGRESQL, ids="+".join)
async def test_nothing_is_lost_on_postgresql_when_the_engine_dies_at(
    stage: tuple[str, ...], hit: int, tmp_path: Path, laid_postgres_url: str
) -> None:
    await _die_at(stage, hit, tmp_path, laid_postgres_url)


async def _die_at(points: tuple[str, ...], hit: int, folder: Path, store: str = "") -> None:
    print(f"seed {SEED}, hit {hit} of {', '.join(points)}")  # noqa: T201 - shown when it fails, to run it again
    async with set_up(folder, store=store, seed=SEED, patients=12) as bench:
        sender = Sender(bench.engine.port, bench.feed, bench.ledger, connections=4, rate=100, seed=SEED)
        sender.start()
        try:
            for number, point in enumerate(points):
                # The first meets an idle engine; the others one that has something to make good for.
                await _die(bench.engine, point, hit + number)
            await bench.engine.start()
            await asyncio.sleep(0.1)
            await sender.stop()
        finally:
            await sender.abort()
        await bench.assert_kept(sender)


async def _die(engine: Engine, point: str, hit: int) -> None:
    # It may die before it accepts connections, so nobody waits for that.
    engine.spawn(crash=f"{point}:{hit}")
    try:
        code = await engine.wait(20)
    except AssertionError:
        code = 0
    assert code == -signal.SIGKILL, f"{point} was not reached {hit} times (exit code {code}):\n{engine.said[-1000:]}"
