"""In quiet hours nothing leaves, nothing is lost, and no attempt is counted, over a real store."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dispatching import Rig, Script, rigged, sqlite


class Night:
    """Hours that hold until a time; see `broker.schedule.Schedule`."""

    def __init__(self, until: float) -> None:
        self.until = until

    def active_for(self, moment: float) -> float:
        return max(self.until - moment, 0.0)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(sqlite(tmp_path)) as found:
        yield found


@pytest.mark.parametrize("unknown", ["retry", "hold"])
async def test_everything_waits_until_they_are_over(rig: Rig, unknown: str) -> None:
    script, night = Script(), Night(time.time() + 3600)
    made = rig.add("main", script, unknown=unknown, quiet=night)
    await made.start()
    await rig.deliver(3)
    await asyncio.sleep(0.1)
    assert (made.state, script.sent) == ("quiet", [])
    assert await rig.states() == {"waiting": 3}
    night.until = time.time() + 0.3
    made.due()
    await rig.ended({"delivered": 3})
    assert time.time() >= night.until
    assert made.state == "running"
    assert [row[0] for row in await rig.rows("SELECT max(attempts) FROM delivery")] == [1]


async def test_what_was_not_begun_when_they_begin_waits_in_the_store(rig: Rig) -> None:
    script, night = Script(hold=asyncio.Event()), Night(0.0)
    made = rig.add("main", script, quiet=night)
    await made.start()
    await rig.deliver(6)
    async with asyncio.timeout(5):
        while not script.sent:  # noqa: ASYNC110 - a script of outcomes tells nobody
            await asyncio.sleep(0.01)
    night.until = time.time() + 3600
    assert script.hold is not None
    script.hold.set()
    await rig.ended({"delivered": 1, "waiting": 5})
    await asyncio.sleep(0.1)
    assert len(script.sent) == 1
    night.until = 0.0
    made.due()
    await rig.ended({"delivered": 6})
    assert set(Counter(each.id for _, each in script.sent).values()) == {1}
