"""A store that is slow, or nearly out of space, costs time and not memory, is told to operators, and loses nothing."""

import asyncio
import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from broker.wire.mllp import Decoder, Frame, frame
from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.invariants import stored
from tests.faults.harness.sender import exchange, read_answer
from tests.faults.test_refusals import small_disk

_SENDERS: Final = 32
_SIZE: Final = 200_000  # bytes of a message
_EACH: Final = 12
_LIMIT: Final = 4  # MiB that may wait
_MORE: Final = 40  # MiB that the engine may grow by while senders have 75 MiB to send

pytestmark = pytest.mark.timeout(120)

_SLOW: Final = f"intake: {{waiting: {_LIMIT}MiB}}\n"
_WRITE: Final = channel(destinations="patients")


def body(control_id: str) -> bytes:
    """Return a large message that the channel filters."""
    head = f"MSH|^~\\&|SLOW|MERCY|H|P|20260101||ORU^R01|{control_id}|P|2.5\rPID|1||7\rOBX|1|TX|||"
    return (head + "x" * _SIZE + "\r").encode()


async def pour(port: int, number: int) -> list[str]:
    """Send without waiting for answers; return what was answered, and fail where that is no positive answer."""
    names = [f"S{number}-{place}" for place in range(_EACH)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    decoder, answered = Decoder(1 << 20), list[str]()
    try:
        writer.writelines([frame(body(name)) for name in names])
        while len(answered) < len(names):
            data = await reader.read(65536)
            assert data, f"{number}: closed after {len(answered)} answers"
            for item in decoder.feed(data):
                assert isinstance(item, Frame)
                code, control_id = read_answer(item.payload)
                assert code == "AA", item.payload
                answered.append(control_id)
    finally:
        writer.close()
    return answered


def console(bench: Bench, path: str) -> tuple[int, bytes]:
    """Ask the console; return status and body."""
    address = (bench.engine.data / "console.endpoint").read_text().strip()
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def ready(bench: Bench) -> tuple[int, Any]:
    """Return what /health/ready says."""
    code, told = await asyncio.to_thread(console, bench, "/health/ready")
    return code, json.loads(told)


async def until(bench: Bench, state: str) -> Any:
    """Wait until the intake is in a state; return what /health/ready said."""
    async with asyncio.timeout(20):
        while (said := (await ready(bench))[1])["intake"] != state:  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.1)
    return said


def resident(pid: int) -> float:
    """Return the MiB of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Let processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def writers(bench: Bench) -> list[int]:
    """Return the processes that write to the store: of ours, or the server's for our connections."""
    if bench.engine.store.startswith("sqlite"):
        return bench.engine.children("broker.writer:serve")
    with psycopg.connect(bench.engine.store, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    return [row[0] for row in rows]


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str:
    """An empty store of each kind."""
    return str(request.getfixturevalue("laid_postgres_url")) if request.param == "postgresql" else ""


@contextlib.asynccontextmanager
async def pouring(
    port: int, when: contextlib.AbstractContextManager[None]
) -> "AsyncIterator[asyncio.Future[list[list[str]]]]":
    """Send over all connections inside ``when``, and then wait until everything is answered."""
    tasks = asyncio.gather(*(pour(port, number) for number in range(_SENDERS)))
    try:
        with when:
            yield tasks
        await asyncio.wait_for(asyncio.shield(tasks), 60)
    finally:
        tasks.cancel()
        await asyncio.gather(tasks, return_exceptions=True)


async def test_nothing_is_read_while_the_store_stands_still(tmp_path: Path, store: str) -> None:
    async with set_up(tmp_path, _WRITE, store=store, settings=_SLOW) as bench:
        await bench.engine.start()
        assert await exchange(bench.engine.port, frame(body("warm")), 1)
        before = resident(bench.engine.pid)
        async with pouring(bench.engine.port, when=stopped(writers(bench))) as sent:
            await until(bench, "busy")
            await asyncio.sleep(1.5)
            assert not sent.done()
            assert resident(bench.engine.pid) - before < _MORE
            code, said = await ready(bench)
            assert (code, said["ready"]) == (503, False)
            _, page = await asyncio.to_thread(console, bench, "/")
            assert b"too much waits for the store" in page
            _, metrics = await asyncio.to_thread(console, bench, "/metrics")
            assert b'handoff_intake_stopped{reason="busy"} 1.0' in metrics
            assert bench.engine.cli("status", "--json", expect=3)["intake"]["state"] == "busy"
        answered = [name for names in sent.result() for name in names]
        assert len(answered) == _SENDERS * _EACH
        kept = stored(bench.engine)
        assert {name: len(kept[name]) for name in answered} == dict.fromkeys(answered, 1)
        assert (await until(bench, "open"))["ready"]
        assert [notice["reason"] for notice in bench.engine.notices("intake_stopped", "intake_resumed")]


async def test_everything_is_refused_before_the_disk_is_full_and_taken_when_there_is_room(tmp_path: Path) -> None:
    data = tmp_path / "var"
    data.mkdir()
    with small_disk(data, 64 << 20):
        async with set_up(tmp_path, _WRITE, settings="intake: {free_space: 16MiB}\n") as bench:
            await bench.engine.start()
            assert [read_answer(one) for one in await ask(bench, "first")] == [("AA", "first")]
            ballast = data / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 55 << 20)
            said = await until(bench, "short")
            assert not said["ready"]
            (refusal,) = await ask(bench, "second")
            assert read_answer(refusal) == ("AE", "second")
            assert b"the disk is nearly full; send it again later" in refusal
            assert b"quarantine" not in refusal
            ballast.unlink()
            await until(bench, "open")
            assert [read_answer(one) for one in await ask(bench, "second")] == [("AA", "second")]
            assert {name: len(copies) for name, copies in stored(bench.engine).items()} == {"first": 1, "second": 1}
            told = bench.engine.notices("space_low", "intake_stopped", "intake_resumed")
            assert [notice["notice"] for notice in told][:2] == ["space_low", "intake_stopped"]
            assert told[-1]["notice"] == "intake_resumed"


async def ask(bench: Bench, control_id: str) -> list[bytes]:
    """Send one message; return its answer."""
    return await exchange(bench.engine.port, frame(body(control_id)), 1)
