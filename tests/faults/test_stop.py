"""An engine that is asked to stop while messages pour in leaves nothing on the wire, nothing to make good for."""

import asyncio
import random
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness.bench import set_up
from tests.faults.harness.invariants import stored
from tests.faults.harness.sender import Sender

_STOPS: Final = 3

pytestmark = pytest.mark.timeout(90)


async def test_stop_under_load_holds_no_text_and_repeats_no_attempt(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails, to run it again
    async with set_up(tmp_path, seed=seed) as bench:
        sender = Sender(bench.engine.port, bench.feed, bench.ledger, seed=seed)
        sender.start()
        try:
            for _ in range(_STOPS):
                await bench.engine.start()
                await asyncio.sleep(0.5)
                assert await bench.engine.stop() == 0
            await bench.engine.start()
            await sender.stop()
        finally:
            await sender.abort()
        await bench.assert_kept(sender)
        recovered = bench.engine.notices("recovered")
        assert [notice["sending"] for notice in recovered] == [0] * len(recovered)
        ended = {
            (delivery.state, delivery.attempts)
            for copies in stored(bench.engine).values()
            for one in copies
            for delivery in one.deliveries.values()
        }
        assert ended == {("delivered", 1)}
