"""What keeps the engine from starting, or going on, is said in one clear sentence, with a code, and loses nothing."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.faults.harness.bench import set_up
from tests.faults.harness.channels import channel, others
from tests.faults.harness.engine import Engine
from tests.faults.harness.feed import Feed, Ledger
from tests.faults.harness.invariants import assert_kept, drain
from tests.faults.harness.sender import Sender
from tests.faults.harness.sink import Sink

USAGE: Final = 2
NOT_READY: Final = 3
_SPACE: Final = 4 << 20  # bytes of the disk that gets full
_LOOK_NOT: Final = "intake: {free_space: 0}\n"  # else nothing would be taken in before it is full

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

_libc = ctypes.CDLL(None, use_errno=True)


class Used:
    """An engine that was in use: what it acknowledged, and copies of its folder to do harm to."""

    def __init__(self, folder: Path, sink: Sink, ledger: Ledger) -> None:
        self.folder = folder
        self.sink = sink
        self.ledger = ledger

    def copy(self, folder: Path) -> Engine:
        """Return an engine, not started, on a copy of everything."""
        shutil.copytree(self.folder / "var", folder / "var")
        return Engine(folder, channel(), settings=others(self.sink.base))

    def assert_whole(self, engine: Engine) -> None:
        """Everything that was acknowledged is there."""
        assert_kept(engine, self.ledger, self.sink)

    async def assert_starts(self, engine: Engine) -> None:
        """Nothing is in the way any more, and everything that was acknowledged is there."""
        await engine.start()
        await drain(engine)
        self.assert_whole(engine)
        assert await engine.stop() == 0


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def used(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Used]:
    folder = tmp_path_factory.mktemp("used")
    async with set_up(folder, seed=2, patients=5) as bench:
        await bench.engine.start()
        await bench.send(*[bench.feed.next() for _ in range(20)])
        await drain(bench.engine)
        assert await bench.engine.stop() == 0
        yield Used(folder, bench.sink, bench.ledger)


async def refused(engine: Engine, code: int, *words: str) -> str:
    """Start an engine that must refuse; return what it said, which is one sentence with these words."""
    before = len(engine.said)
    engine.spawn()
    assert await engine.wait(20) == code, engine.said[before:]
    said = [line for line in engine.said[before:].splitlines() if line.strip() and not line.startswith("{")]
    text = "\n".join(said)
    assert "Traceback" not in text, text
    for word in words:
        assert word in text
    if code == NOT_READY:
        assert len(said) == 1, f"one sentence was expected:\n{text}"
    return text


async def test_port_taken(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", engine.port))
            taken.listen()
            await refused(engine, NOT_READY, f"127.0.0.1:{engine.port}", "faults")
        await used.assert_starts(engine)


async def test_console_port_taken(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            place = f"127.0.0.1:{taken.getsockname()[1]}"
            settings = tmp_path / "handoff.yaml"
            kept = settings.read_text()
            settings.write_text(kept.replace("127.0.0.1:0", place))
            await refused(engine, NOT_READY, place)
        settings.write_text(kept)
        used.assert_whole(engine)


async def test_key_missing_beside_data(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        key = engine.data / "handoff.key"
        content = key.read_bytes()
        key.unlink()
        await refused(engine, NOT_READY, "handoff.key", "missing", "put the file back")
        assert not key.exists(), "a new key was made over data that it cannot open"
        key.touch(0o600)
        key.write_bytes(content)
        await used.assert_starts(engine)


async def test_key_readable_by_others(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        key = engine.data / "handoff.key"
        key.chmod(0o644)
        await refused(engine, NOT_READY, "handoff.key", "chmod 600")
        key.chmod(0o600)
        used.assert_whole(engine)


async def test_wrong_key(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        key = engine.data / "handoff.key"
        content = key.read_bytes()
        key.write_bytes(bytes(32))
        await refused(engine, NOT_READY, "handoff.key", "not the key")
        key.write_bytes(content[:16])
        await refused(engine, NOT_READY, "handoff.key", "16 bytes")
        key.write_bytes(content)
        used.assert_whole(engine)


async def test_database_newer_than_the_program(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        kept = _set_form(engine.data / "handoff.db", "9999")
        await refused(engine, NOT_READY, "9999", "newer")
        _set_form(engine.data / "handoff.db", kept)
        await used.assert_starts(engine)


async def test_patient_store_newer_than_the_program(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        kept = _set_form(engine.data / "patients.db", "9999")
        await refused(engine, NOT_READY, "9999", "newer")
        _set_form(engine.data / "patients.db", kept)
        used.assert_whole(engine)


def _set_form(database: Path, form: str) -> str:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%version%'").fetchone()
        (kept,) = connection.execute(f"SELECT version_num FROM {table}").fetchone()
        connection.execute(f"UPDATE {table} SET version_num = ?", (form,))
        connection.commit()
    return str(kept)


async def test_database_that_is_none(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        database = engine.data / "handoff.db"
        content = database.read_bytes()
        database.write_bytes(b"this is no database at all" * 200)
        await refused(engine, NOT_READY, "handoff.db")
        database.write_bytes(content)
        used.assert_whole(engine)


async def test_second_engine_on_the_same_data(tmp_path: Path) -> None:
    second = tmp_path / "second"
    async with set_up(tmp_path / "first", seed=3) as bench:
        await bench.engine.start()
        with Engine(second, channel(), settings=others(bench.sink.base)) as other:
            settings = second / "handoff.yaml"
            settings.write_text(settings.read_text().replace("data: var", f"data: {bench.engine.data}"))
            await refused(other, NOT_READY, str(bench.engine.data), "another engine")
        await bench.send(bench.feed.next())
        await bench.assert_kept()


async def test_second_engine_on_the_same_postgresql(tmp_path: Path, laid_postgres_url: str) -> None:
    async with set_up(tmp_path / "first", store=laid_postgres_url, seed=3) as bench:
        await bench.engine.start()
        settings = others(bench.sink.base)
        with Engine(tmp_path / "second", channel(), store=laid_postgres_url, settings=settings) as other:
            other.data.mkdir()
            shutil.copy(bench.engine.data / "handoff.key", other.data / "handoff.key")
            await refused(other, NOT_READY, "another engine")
        await bench.send(bench.feed.next())
        await bench.assert_kept()


async def test_postgresql_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        store = f"postgresql://nobody@127.0.0.1:{probe.getsockname()[1]}/nothing"
    with Engine(tmp_path, channel(destinations="patients"), store=store) as engine:
        await refused(engine, NOT_READY, "PostgreSQL", "cannot be reached")


async def test_channel_file_with_errors_says_all_of_them(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        file = tmp_path / "channels" / "faults.yaml"
        kept = file.read_text()
        broken = kept.replace("order:", "ordre:").replace("on_match: keep", "on_match: never")
        file.write_text(broken)
        said = await refused(engine, USAGE, "faults.yaml", "ordre", "never", "^")
        assert f"faults.yaml:{broken[: broken.index('ordre')].count(chr(10)) + 1}:1" in said
        file.write_text(kept)
        used.assert_whole(engine)


async def test_settings_with_errors(used: Used, tmp_path: Path) -> None:
    with used.copy(tmp_path) as engine:
        file = tmp_path / "handoff.yaml"
        kept = file.read_text()
        file.write_text(kept + "wrokers: 2\n")
        await refused(engine, USAGE, "handoff.yaml", "wrokers", "workers")
        file.write_text(kept)
        used.assert_whole(engine)


@contextlib.contextmanager
def small_disk(folder: Path, size: int = _SPACE) -> Iterator[None]:
    """Mount a small tmpfs on a folder; skip the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a disk that gets full")
    if _libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size},mode=700".encode()):
        pytest.skip(f"may not mount a tmpfs here ({os.strerror(ctypes.get_errno())})")
    try:
        yield
    finally:
        _libc.umount2(str(folder).encode(), 2)  # MNT_DETACH: whoever still uses it


async def test_disk_full(tmp_path: Path) -> None:
    """Everything acknowledged before the disk was full is there when the data lies on a larger one."""
    data = tmp_path / "tight" / "var"
    data.mkdir(parents=True)
    with small_disk(data):
        await _fill(tmp_path, "the disk is full")


async def test_file_that_may_not_grow(tmp_path: Path) -> None:
    """As a quota does it: writing fails from one byte on."""
    await _fill(tmp_path, "SQLite cannot go on", files_up_to=_SPACE // 2)


async def _fill(folder: Path, *words: str, files_up_to: int = 0) -> None:
    async with Sink() as sink:
        write: Callable[[int], str] = channel(destinations="patients")
        with (
            Engine(folder / "tight", write, settings=_LOOK_NOT + others(sink.base)) as engine,
            Engine(folder / "roomy", write, settings=others(sink.base)) as roomy,
            Ledger(folder / "ledger") as ledger,
        ):
            await engine.start(files_up_to=files_up_to)
            sender = Sender(engine.port, Feed(4), ledger, rate=0, window=16)
            sender.start()
            try:
                assert await engine.wait(60) == NOT_READY
            finally:
                await sender.abort()
            said = [line for line in engine.said.splitlines() if line and not line.startswith("{")]
            assert "Traceback" not in engine.said
            for word in words:
                assert word in said[-1]
            await asyncio.sleep(0.1)
            shutil.copytree(engine.data, roomy.data)
            assert len(ledger.acknowledged) > 100
            await roomy.start()
            await drain(roomy, 60)
            assert_kept(roomy, ledger, sink)
