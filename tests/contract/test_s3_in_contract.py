"""This module holds objects of a bucket, on moto's server, to the rules of files in a folder."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from broker.formats.delimited import CsvSpec
from broker.notices import FileFailed, FileRead
from broker.parts import Tools
from listeners import s3_inbox
from listeners.s3 import S3InSpec
from tests.contract.scripted_server import (
    closed_port,
)
from tests.contract.test_files_contract import TABLE, Kept, Watched
from tests.contract.test_s3_contract import Store, server, settings, store

__all__ = ["server", "store"]

ODD: Final = "José a+b %20&=.csv"


class World(Watched):
    """A listener over a bucket, and what it was lent."""

    def __init__(self, known: Any, data: Path) -> None:
        self.settings = SimpleNamespace(root=Path(), data=data, places=known.places)
        self.kept = Kept()

    @contextlib.asynccontextmanager
    async def reads(self, **options: Any) -> AsyncIterator[None]:
        tools = Tools("roster", self.kept, self.kept.notices.append, self.settings, CsvSpec().build(None))
        given = {"place": "archive", "prefix": "in/", "pattern": "*.csv", "poll": "50ms", "connections": 2}
        spec = S3InSpec.model_validate({**given, "timeout": "5s", "connect": "2s", **options})
        self.listener = listener = spec.build(tools)
        await listener.start()
        try:
            yield
        finally:
            self.kept.open.set()
            await listener.stop()


class Moto(World):
    """A world with moto's server."""

    def __init__(self, store: Store, data: Path) -> None:
        super().__init__(store.known, data)
        self.store = store

    def drop(self, name: str, text: str = TABLE, **options: Any) -> None:
        self.store.check_signatures(of_all=False)
        self.store.client.put_object(Bucket="inbox", Key=name, Body=text.encode(), **options)
        self.store.check_signatures(of_all=True)

    def names(self) -> list[str]:
        self.store.check_signatures(of_all=False)
        found = self.store.client.list_objects_v2(Bucket="inbox").get("Contents", [])
        self.store.check_signatures(of_all=True)
        return sorted(each["Key"] for each in found)


@pytest.fixture
def world(store: Store, tmp_path: Path) -> Moto:
    return Moto(store, tmp_path)


async def test_objects_are_read_once_and_moved_away(world: Moto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_inbox, "MOST_KEYS", 2)  # so there are pages
    long = "id,name\n" + "".join(f"{number},Family{number}\n" for number in range(9000))  # more than one piece
    for name, text in (("in/a.csv", TABLE), (f"in/sub/{ODD}", long), ("in/bad.csv", ""), ("other/c.csv", TABLE)):
        world.drop(name, text)
    for name in ("in/", "in/.hidden.csv", "in/.secret/d.csv", "in/e.csv.part", "in/f.txt"):
        world.drop(name)
    world.drop("in/old.csv", StorageClass="GLACIER")
    async with world.reads(recursive=True):
        await world.until(lambda: len(world.told(FileRead)) == 2 and len(world.told(FileFailed)) == 2)
        assert len(world.kept.messages) == 9002
        # One of the same name, time (in seconds) and bytes is the same as long as nobody saw that it was gone.
        await world.until(lambda: not world.listener._notes._read)
        world.drop("in/a.csv")  # again: its rows are known, and the earlier object stays
        await world.until(lambda: len(world.told(FileRead)) == 3)
    assert sorted(notice.duplicates for notice in world.told(FileRead)) == [0, 0, 2]
    assert {notice.file: notice.reason.split(",")[0].split(";")[0] for notice in world.told(FileFailed)} == {
        "bad.csv": "the file is empty",
        "old.csv": "it lies in an archive of the store (GLACIER)",
    }
    names = world.names()
    assert {"in/done/a.csv", f"in/done/sub/{ODD}", "in/failed/bad.csv", "other/c.csv", "in/old.csv"} <= set(names)
    assert len([name for name in names if name.startswith("in/done/a.")]) == 2
    assert not {"in/a.csv", f"in/sub/{ODD}", "in/bad.csv"} & set(names)
    world.store.check_signatures(of_all=False)
    moved = world.store.client.get_object(Bucket="inbox", Key=f"in/done/sub/{ODD}")
    assert moved["Body"].read() == long.encode()


async def test_object_is_not_deleted_before_all_of_it_is_kept(world: Moto) -> None:
    world.kept.open.clear()
    world.drop("a.csv")
    world.drop("sub/b.csv")
    async with world.reads(prefix="", after="delete"):
        await asyncio.sleep(0.5)
        assert world.names() == ["a.csv", "sub/b.csv"]
        world.kept.open.set()
        await world.until(lambda: world.names() == ["sub/b.csv"])
    assert len(world.kept.messages) == 2


@pytest.mark.parametrize("after", ["delete", "move"])
async def test_object_that_was_replaced_while_it_was_read_is_read_in_its_turn(world: Moto, after: str) -> None:
    world.kept.open.clear()
    world.drop("in/a.csv")
    async with world.reads(after=after, failed="/wrong", done="/archive"):
        await world.until(lambda: world.listener.connections)
        await asyncio.sleep(0.3)
        world.drop("in/a.csv", f"{TABLE}3,New\n")
        world.kept.open.set()
        await world.until(lambda: len(world.told(FileRead)) == 2)
    # moto copies what is there, whatever the condition; so the new one stays twice, and is deleted once it was read.
    assert {name[: len("archive/a.")] for name in world.names()} == ({"archive/a."} if after == "move" else set())
    assert len(world.kept.messages) == 5
    assert not world.told(FileFailed)


async def test_kept_object_is_read_once_over_restarts_and_again_when_it_changes(world: Moto) -> None:
    world.drop("in/a.csv")
    for _ in range(2):
        async with world.reads(after="keep"):
            await world.until(lambda: world.told(FileRead))
            await asyncio.sleep(0.2)
    assert len(world.told(FileRead)) == 1
    async with world.reads(after="keep"):
        world.drop("in/a.csv", TABLE.replace("Lee", "Loe"))  # as long as before
        await world.until(lambda: len(world.told(FileRead)) == 2)
    assert world.names() == ["in/a.csv"]
    async with world.reads(after="delete"):  # what stayed is looked through once more before it goes
        await world.until(lambda: not world.names())
    assert [notice.duplicates for notice in world.told(FileRead)] == [0, 0, 2]


async def test_what_stays_is_bounded_and_what_goes_away_comes_in_parts(
    world: Moto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_inbox, "MOST", 1)
    world.drop("in/a.csv")
    world.drop("in/b.csv")
    async with world.reads(after="keep"):
        await world.until(lambda: world.told(FileFailed))
    assert "objects match and stay there" in world.told(FileFailed)[0].reason
    async with world.reads(after="delete"):
        await world.until(lambda: not world.names())


async def test_key_or_bucket_that_is_wrong_is_told_once_and_costs_nothing(world: Moto, store: Store) -> None:
    place = store.known.places["archive"].s3
    world.drop("in/a.csv")
    right = world.settings.places
    for known, words in (
        (settings(store.base, place.access_key, "wrong"), "does not know our access key, its secret or its token"),
        (settings(store.base, "AKIANOBODY", "x"), "does not know our access key"),
        (settings(store.base, place.access_key, place.secret, bucket="nowhere"), "there is no such bucket; make it"),
        (settings(f"http://127.0.0.1:{closed_port()}", place.access_key, place.secret), "the connection was refused"),
        (settings("http://no-such-host.invalid", place.access_key, place.secret), "could not be resolved"),
    ):
        world.kept.notices.clear()
        world.settings.places = known.places
        async with world.reads():
            await world.until(lambda: world.told(FileFailed))
            await asyncio.sleep(0.3)
        assert [words in notice.reason for notice in world.told(FileFailed)] == [True], world.told(FileFailed)
        assert world.told(FileFailed)[0].reason.startswith("place archive: ")
    world.settings.places = right
    async with world.reads():
        await world.until(lambda: world.names() == ["in/done/a.csv"])
    assert len(world.kept.messages) == 2
