"""Nothing that was acknowledged is lost when the engine is killed again and again while messages pour in.

``FAULT_KILLS`` sets how many kills a run on SQLite has (PostgreSQL: a third), ``FAULT_SEED`` what is rolled.
"""

import asyncio
import os
import random
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness.bench import set_up
from tests.faults.harness.feed import Ledger
from tests.faults.harness.sender import Sender

KILLS: Final = int(os.environ.get("FAULT_KILLS", "30"))
SEED: Final = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1 << 32)
_SHORTEST, _LONGEST, _MEAN = 0.15, 1.5, 0.45  # seconds from ready to kill
_LEAST = 20  # messages for each kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90 + 8 * KILLS)]


async def test_sqlite_keeps_what_was_acknowledged_when_the_engine_is_killed(tmp_path: Path) -> None:
    await _kill_again_and_again(tmp_path, KILLS)


async def test_postgresql_keeps_what_was_acknowledged_when_the_engine_is_killed(
    tmp_path: Path, laid_postgres_url: str
) -> None:
    await _kill_again_and_again(tmp_path, (KILLS + 2) // 3, laid_postgres_url)


async def _kill_again_and_again(folder: Path, kills: int, store: str = "") -> None:
    dice = random.Random(SEED)
    print(f"seed {SEED}, {kills} kills")  # noqa: T201 - shown when it fails, to run it again
    async with set_up(folder, store=store, seed=SEED) as bench:
        engine, ledger = bench.engine, bench.ledger
        sender = Sender(engine.port, bench.feed, ledger, seed=SEED)
        starts = [await engine.start()]
        sender.start()
        try:
            for kill in range(kills):
                await asyncio.sleep(min(max(dice.expovariate(1 / _MEAN), _SHORTEST), _LONGEST))
                await _has_worked(ledger, _LEAST * kill)
                engine.kill()
                starts.append(await engine.start())
            await sender.stop()
        finally:
            await sender.abort()
        drained = await bench.assert_kept(sender, 60)
        _assert_fair(sender, ledger, kills)
        assert await engine.stop() == 0
    print(  # noqa: T201
        f"{len(ledger.acknowledged)} acknowledged, 0 lost in {kills} kills (95 %: fewer than {3 / kills:.3f} a kill); "
        f"slowest start {max(starts):.1f} s, drained in {drained:.1f} s"
    )


async def _has_worked(ledger: Ledger, least: int) -> None:
    """Let a slow machine get as far as a quick one before the next kill."""
    async with asyncio.timeout(20):
        while len(ledger.answers) < least:  # noqa: ASYNC110 - the sender fills it, and tells nobody
            await asyncio.sleep(0.02)


def _assert_fair(sender: Sender, ledger: Ledger, kills: int) -> None:
    """The kills hit an engine at work, and nothing but the kills ended connections."""
    assert len(ledger.acknowledged) == len(ledger.sent) >= _LEAST * (kills - 1)
    assert sum(lost.unanswered for lost in sender.lost) > 0
    assert len(sender.lost) <= kills * sender.connections * 2  # one that is made while the engine dies counts again
