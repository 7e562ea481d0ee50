"""The engine dies while one channel passes a message on: the message there and the end of the delivery here are one."""

import contextlib
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness.bench import set_up
from tests.faults.harness.engine import Engine
from tests.faults.harness.invariants import drain, reading

pytestmark = pytest.mark.timeout(90)

FRONT: Final = """\
channel: faults
listen:
  mllp: {{endpoint: 127.0.0.1:{port}, acknowledge: stored}}
order: PID-3[5=MR].1
deliver:
  on:
    channel: {{to: behind}}
    retry: {{attempts: 0, first: 100ms, max: 1s}}
"""
BEHIND: Final = """\
channel: behind
listen:
  channel: {}
order: PID-3[5=MR].1
steps:
  - canonical: {}
deliver:
  patients:
    prm: {}
"""


def left(engine: Engine) -> tuple[list[tuple[str, int]], int]:
    """Return how the deliveries of the front stand, and how many messages there are behind it."""
    with reading(engine.store) as connection:
        deliveries = connection.rows(
            "SELECT d.state, d.attempts FROM delivery d JOIN route r ON r.id = d.route_id WHERE r.destination = 'on'"
        )
        behind = "SELECT count(*) FROM message m JOIN channel c ON c.id = m.channel_id WHERE c.name = 'behind'"
        return [(row[0], row[1]) for row in deliveries], connection.rows(behind)[0][0]


# The second message that is accepted is the one passed on: a crash there is in the middle of what must be one.
@pytest.mark.parametrize("point", ["accept.inserted:2", "record.updated:1", "pass.committed:1"])
async def test_message_there_and_delivery_here_are_both_or_neither(point: str, tmp_path: Path) -> None:
    await die_and_go_on(point, tmp_path)


@pytest.mark.parametrize("point", ["pass.accepted:1", "pass.committed:1"])
async def test_on_postgresql_too_they_are_both_or_neither(point: str, tmp_path: Path, postgres_url: str) -> None:
    await die_and_go_on(point, tmp_path, postgres_url)


async def die_and_go_on(point: str, folder: Path, store: str = "") -> None:
    done = point == "pass.committed:1"
    async with set_up(folder, lambda port: FRONT.format(port=port), store=store) as bench:
        (folder / "channels" / "behind.yaml").write_text(BEHIND)
        await bench.engine.start(crash=point)
        passed = bench.feed.next(bench.feed.patients[:1])
        with contextlib.suppress(OSError, EOFError, AssertionError):  # it may die before its answer is read
            await bench.send(passed)
        assert await bench.engine.wait(20) == -signal.SIGKILL
        assert left(bench.engine) == (([("delivered", 1)], 1) if done else ([("sending", 1)], 0))
        await bench.engine.start()
        await bench.send(passed)  # the same bytes again: a duplicate
        await drain(bench.engine, 20)
        assert left(bench.engine) == ([("delivered", 1 if done else 2)], 1)
        with reading(bench.engine.patients) as connection:
            assert connection.rows("SELECT count(*) FROM applied") == [(1,)]
        assert not bench.engine.notices("bug")
