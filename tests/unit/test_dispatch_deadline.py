"""This module shows that a deadline ends what is too long under way, and nothing else."""

import asyncio

import pytest

from dispatch.deadline import Deadline

FOREVER = 3600.0


async def hang(deadline: Deadline, *, may_end: asyncio.Event | None = None) -> str:
    """Wait until the deadline or ``may_end``; say which it was."""
    limit = deadline.begin()
    try:
        async with limit:
            await (may_end or asyncio.Event()).wait()
    except TimeoutError:
        return "over"
    finally:
        deadline.end(limit)
    return "done"


async def test_all_that_takes_too_long_ends() -> None:
    deadline = Deadline(0.01)
    first, second = (asyncio.create_task(hang(deadline)) for _ in range(2))
    assert await asyncio.wait_for(first, 5) == "over"
    assert await asyncio.wait_for(second, 5) == "over"
    assert await asyncio.wait_for(hang(deadline), 5) == "over", "the timer is set anew"


async def test_what_is_done_in_time_is_left_alone() -> None:
    deadline = Deadline(0.01)
    may_end = asyncio.Event()
    may_end.set()
    assert await hang(deadline, may_end=may_end) == "done"
    await asyncio.sleep(0.03)


async def test_who_cancels_is_not_told_of_a_deadline() -> None:
    deadline = Deadline(FOREVER)
    task = asyncio.create_task(hang(deadline))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline.close()


async def test_nothing_rings_once_it_is_closed_until_something_begins_again() -> None:
    deadline = Deadline(0.01)
    limit = deadline.begin()
    deadline.close()
    deadline.close()
    async with limit:
        await asyncio.sleep(0.03)
    deadline.end(limit)
    assert await asyncio.wait_for(hang(deadline), 5) == "over"
