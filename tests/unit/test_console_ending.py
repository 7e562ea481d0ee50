"""A stop that takes too long is cut short, whatever keeps it; a signal twice in a moment is one."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from broker.notices import Notice, StopCutShort
from console.ending import Ending


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leave the handlers of signals as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def cut(within: float, *signals: signal.Signals) -> tuple[list[Notice], int]:
    """Return what is told, and the exit code, once a stop that never ends has been cut short."""
    told: list[Notice] = []
    loop = asyncio.get_running_loop()
    code: asyncio.Future[int] = loop.create_future()
    stopping = asyncio.Event()
    ending = Ending(
        stopping, told.append, within=within, end=lambda given: loop.call_soon_threadsafe(code.set_result, given)
    )
    for number in signals:
        os.kill(os.getpid(), number)
    if not signals:
        ending.begin()
    async with asyncio.timeout(10):
        await stopping.wait()
        return told, await code


@pytest.mark.parametrize("signals", [(), (signal.SIGTERM,), (signal.SIGINT, signal.SIGTERM)])
async def test_stop_is_cut_short_when_its_time_is_over(signals: tuple[signal.Signals, ...]) -> None:
    """However it began; the same signal twice, as wrappers pass it on, does not hurry it."""
    assert await cut(0.05, *signals) == ([StopCutShort(reason="it took longer than 0.05 s")], 1)
