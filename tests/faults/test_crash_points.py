"""The engine dies at every named place, starts again, and has kept its promises; a place never reached is a failure."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Final

import pytest

from broker.crash import POINTS
from tests.faults.harness.channels import channel, others
from tests.faults.harness.engine import Engine
from tests.faults.harness.feed import Feed, Ledger
from tests.faults.harness.invariants import assert_kept, drain
from tests.faults.harness.sender import Sender
from tests.faults.harness.sink import Sink

SEED: Final = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
_HITS: Final = tuple(int(text) for text in os.environ.get("FAULT_HITS", "7").split(","))

# Where the two databases differ in what a crash leaves: in the middle of a transaction, and just after it.
ON_POSTGRESQL: Final = (
    "accept.inserted",
    "accept.committed",
    "finish.committed",
    "record.updated",
    "prm.before_commit",
    "prm.after_commit",
)

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize("hit", _HITS)
@pytest.mark.parametrize("point", POINTS)
async def test_nothing_is_lost_when_the_engine_dies_at(point: str, hit: int, tmp_path: Path) -> None:
    await _die_at(point, hit, tmp_path)


@pytest.mark.parametrize("hit", _HITS)
@pytest.mark.parametrize("point", ON_POSTGRESQL)
async def test_nothing_is_lost_on_postgresql_when_the_engine_dies_at(
    point: str, hit: int, tmp_path: Path, postgres_url: str
) -> None:
    await _die_at(point, hit, tmp_path, postgres_url)


async def _die_at(point: str, hit: int, folder: Path, store: str = "") -> None:
    print(f"seed {SEED}, {point}:{hit}")  # noqa: T201 - shown when it fails, to run it again
    async with Sink() as sink:
        with Engine(folder, channel(), store=store, settings=others(sink.base)) as engine:
            with Ledger(folder / "ledger") as ledger:
                sender = Sender(engine.port, Feed(SEED, 12), ledger, connections=4, rate=300, seed=SEED)
                await engine.start(crash=f"{point}:{hit}")
                sender.start()
                try:
                    assert await _dies(engine), f"{point} was not reached {hit} times: no crash point, or a dead one"
                    await engine.start()
                    await asyncio.sleep(0.1)
                    await sender.stop()
                finally:
                    await sender.abort()
                await drain(engine)
                assert_kept(engine, ledger, sink, sender)


async def _dies(engine: Engine) -> bool:
    try:
        return await engine.wait(10) == -signal.SIGKILL
    except AssertionError:
        return False
