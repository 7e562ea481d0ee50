"""Work in threads: a few at a time, and what took too long is told apart from what was not begun."""

import asyncio
import threading

import pytest

from broker.threads import NotBegun, Threads


async def test_result_or_error_comes_back() -> None:
    threads = Threads("test", 2)
    assert await threads.run(lambda: 7, 5) == 7
    with pytest.raises(ValueError, match="wrong"):
        await threads.run(lambda: int("wrong"), 5)


async def test_only_so_many_run_at_a_time() -> None:
    threads, at_once, most = Threads("test", 3), [0], [0]
    lock, gate = threading.Lock(), threading.Event()

    def work() -> None:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            if at_once[0] == 3:
                gate.set()
        gate.wait(5)
        with lock:
            at_once[0] -= 1

    await asyncio.gather(*(threads.run(work, 10) for _ in range(12)))
    assert most[0] == 3


async def test_work_that_hangs_keeps_its_thread_and_what_waits_behind_it_is_never_begun() -> None:
    threads, gate, begun = Threads("test", 1), threading.Event(), list[int]()
    with pytest.raises(TimeoutError):
        await threads.run(lambda: gate.wait(10), 0.05)
    with pytest.raises(NotBegun):
        await threads.run(lambda: begun.append(1), 0.05)
    gate.set()
    await threads.run(lambda: begun.append(2), 5)
    assert begun == [2]
