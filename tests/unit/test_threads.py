"""Work in threads: a few at a time, and what took too long is told apart from what was not begun."""

import asyncio
import threading
from queue import Empty
from typing import Any, cast

import pytest

import broker.threads
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


async def test_thread_that_is_done_is_used_again() -> None:
    threads = Threads("test", 4)
    assert len({await threads.run(threading.get_ident) for _ in range(20)}) == 1


async def test_thread_that_hangs_is_not_waited_for_and_another_works() -> None:
    threads, gate = Threads("test that hangs", 2), threading.Event()
    with pytest.raises(TimeoutError):
        await threads.run(lambda: gate.wait(10), 0.05)
    (hanging,) = [thread for thread in threading.enumerate() if thread.name == "test that hangs"]
    assert await threads.run(threading.get_ident, 5) != hanging.ident
    assert hanging.is_alive()
    gate.set()


async def test_thread_ends_when_no_work_comes_and_work_finds_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.threads, "_IDLE", 0.001)
    threads = Threads("test that ends", 2)
    for _ in range(200):  # some of it comes just when the thread has waited long enough
        await threads.run(lambda: None, 5)
        await asyncio.sleep(0.001)
    for thread in threading.enumerate():
        if thread.name == "test that ends":
            thread.join(5)
            assert not thread.is_alive()


class Late:
    """What a thread is to do, which comes just when it has waited long enough; see `queue.SimpleQueue`."""

    def __init__(self) -> None:
        self.done = 0
        self._comes: list[Any] = [None, lambda: self._do, None]

    def _do(self) -> None:
        self.done += 1

    def get(self, timeout: float) -> Any:
        """Return a job, or raise what a queue raises after so many seconds."""
        job = self._comes.pop(0)
        if job is None:
            raise Empty(timeout)
        return job


def test_work_that_comes_as_a_thread_stops_waiting_is_done() -> None:
    late, idle = Late(), list[Any]()  # it was taken from among the idle ones already
    broker.threads._live(cast("Any", late), idle)
    assert (late.done, idle) == (1, [])
