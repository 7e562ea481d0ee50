"""This module holds the listener of files to the contract of listeners: nothing is through before it is kept."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker.errors import NotAccepted, NotReady
from broker.formats.delimited import CsvSpec
from broker.message import Inbound, Receipt
from broker.notices import FileFailed, FileRead, ListenerStarted, Notice
from broker.parts import Tools
from listeners.files import FilesSpec
from tests.intake import NoIntake

if TYPE_CHECKING:
    from listeners.folder import FolderListener

TABLE = "id,name\n1,Lee\n2,Roe\n"


class Kept(NoIntake):
    """An intake that keeps messages when it is let."""

    def __init__(self) -> None:
        self.messages: dict[bytes, Inbound] = {}
        self.quarantined: list[bytes] = []
        self.notices: list[Notice] = []
        self.open = asyncio.Event()
        self.open.set()
        self.refusal: NotAccepted | None = None

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        return asyncio.ensure_future(self._keep(inbound))

    async def _keep(self, inbound: Inbound) -> Receipt:
        await self.open.wait()
        if self.refusal is not None:
            raise self.refusal
        duplicate = inbound.key in self.messages
        self.messages.setdefault(inbound.key, inbound)
        return Receipt(message_id=1, duplicate=duplicate)

    def quarantine(self, _channel: str, _peer: str, _reason: str, data: bytes) -> None:
        self.quarantined.append(data)


class Watched:
    """What a listener was lent, and what it told."""

    kept: Kept

    async def until(self, holds: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not holds():  # noqa: ASYNC110 - a folder rings no bell
                await asyncio.sleep(0.01)

    def told(self, kind: type[Notice]) -> list[Any]:
        return [notice for notice in self.kept.notices if isinstance(notice, kind)]


class World(Watched):
    """A listener over a folder, and what it was lent."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.kept = Kept()
        tools = Tools("roster", self.kept, self.kept.notices.append, None, CsvSpec().build(None))
        spec = FilesSpec.model_validate(
            {"folder": str(folder), "pattern": "*.csv", "settled": 0, "poll": "50ms", **options}
        )
        self.listener: FolderListener = spec.build(tools)

    def drop(self, name: str, text: str = TABLE) -> None:
        (self.folder / "x.part").write_text(text)
        (self.folder / "x.part").rename(self.folder / name)

    def names(self, folder: str = "") -> list[str]:
        return sorted(path.name for path in (self.folder / folder).iterdir() if path.is_file())


@contextlib.asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[World]:
    world = World(folder, **options)
    await world.listener.start()
    try:
        yield world
    finally:
        world.kept.open.set()
        await world.listener.stop()


async def test_files_can_arrive_when_start_returns(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        assert [notice.endpoint for notice in world.told(ListenerStarted)] == [str(tmp_path)]
        assert world.listener.endpoints == (str(tmp_path),)
        world.drop("a.csv")
        await world.until(lambda: world.told(FileRead))
        assert [inbound.peer for inbound in world.kept.messages.values()] == ["a.csv:2", "a.csv:3"]
        assert (world.names(), world.names("done")) == ([], ["a.csv"])
    assert not world.listener.endpoints


async def test_file_is_not_through_before_its_rows_are_committed(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        world.kept.open.clear()
        world.drop("a.csv")
        await world.until(lambda: world.listener.connections)
        await asyncio.sleep(0.2)
        assert world.names("done") == []
        world.kept.open.set()
        await world.until(lambda: world.names("done"))


async def test_file_is_read_after_a_start_when_a_stop_came_in_between(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        world.kept.refusal = NotAccepted("away", code="AE")
        world.drop("a.csv")
        await world.until(lambda: world.listener.connections)
    assert not world.names()
    assert not world.names("done")
    async with running(tmp_path) as world:
        await world.until(lambda: world.names("done"))
        assert len(world.kept.messages) == 2


async def test_order_holds_when_a_file_in_between_cannot_be_read_now(tmp_path: Path) -> None:
    many = "id,name\n" + "".join(f"{number},Lee\n" for number in range(3000))
    for age, (name, text) in enumerate({"a.csv": many, "b.csv": "", "c.csv": TABLE}.items(), 1):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (age, age))
    with (tmp_path / "b.csv").open("a"):  # it is still written to
        async with running(tmp_path) as world:
            world.kept.open.clear()
            await world.until(lambda: world.listener.connections)
            await asyncio.sleep(0.2)
            world.kept.open.set()
            await world.until(lambda: len(world.told(FileRead)) == 2)
        places = [inbound.peer.partition(":")[0] for inbound in world.kept.messages.values()]
        assert places == ["a.csv"] * 3000 + ["c.csv"] * 2


async def test_file_waits_until_it_has_settled(tmp_path: Path) -> None:
    async with running(tmp_path, settled="300ms") as world:
        with (tmp_path / "a.csv").open("w") as file:  # written in place, slowly
            for part in ("id,name\n", "1,Lee\n", "2,Roe\n"):
                file.write(part)
                file.flush()
                await asyncio.sleep(0.15)
            await asyncio.sleep(0.5)
            assert not world.kept.messages  # it is still open for writing
        await world.until(lambda: world.names("done"))
        assert len(world.kept.messages) == 2


@pytest.mark.parametrize(("text", "reason"), [("", "empty"), ("id,name\n", "no row"), ("prose\n", "no column")])
async def test_file_goes_to_failed_when_it_is_no_table_and_the_next_is_read(
    tmp_path: Path, text: str, reason: str
) -> None:
    async with running(tmp_path) as world:
        world.drop("bad.csv", text)
        os.utime(tmp_path / "bad.csv", (1, 1))
        world.drop("good.csv")
        await world.until(lambda: world.told(FileRead) and world.told(FileFailed))
        assert (world.names("failed"), world.names("done")) == (["bad.csv"], ["good.csv"])
        assert [reason in notice.reason for notice in world.told(FileFailed)] == [True]
        assert world.kept.quarantined == [text.encode()]


async def test_folder_is_looked_at_when_its_schedule_says_so(tmp_path: Path) -> None:
    """Every second, and then until what is there has settled; one that is due at no time of this year reads nothing."""
    never = {"schedule": {"cron": "0 0 29 2 *", "holidays": ["2028-02-29"]}}
    (tmp_path / "never").mkdir()
    async with (
        running(tmp_path, schedule={"every": "1s"}, settled="200ms") as world,
        running(tmp_path / "never", **never) as other,
    ):
        other.drop("b.csv")
        world.drop("a.csv")
        await world.until(lambda: world.told(FileRead))
        world.drop("c.csv")
        await world.until(lambda: len(world.told(FileRead)) == 2)
        assert other.names() == ["b.csv"]


async def test_file_is_removed_or_stays_where_that_is_declared(tmp_path: Path) -> None:
    async with running(tmp_path, after="delete") as world:
        world.drop("a.csv")
        await world.until(lambda: world.told(FileRead))
        assert world.names() == []
    async with running(tmp_path, after="keep") as world:
        world.drop("b.csv")
        await world.until(lambda: world.told(FileRead))
        await asyncio.sleep(0.3)
        assert world.names() == ["b.csv"]
        assert len(world.told(FileRead)) == 1
        world.drop("b.csv", TABLE + "3,New\n")
        await world.until(lambda: len(world.told(FileRead)) == 2)


async def test_listener_works_again_when_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as world:
        await world.listener.stop()
        await world.listener.start()
        world.drop("a.csv")
        await world.until(lambda: world.names("done"))


async def test_second_listener_is_refused_when_the_folder_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(NotReady, match=r"channel roster: .*another engine"):
            await World(tmp_path).listener.start()


async def test_trouble_with_the_folder_is_told_once_and_passes(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    async with running(folder) as world:
        folder.rename(tmp_path / "away")
        await world.until(lambda: world.told(FileFailed))
        await asyncio.sleep(0.3)
        assert len(world.told(FileFailed)) == 1
        (tmp_path / "away").rename(folder)
        world.drop("a.csv")
        await world.until(lambda: world.names("done"))
