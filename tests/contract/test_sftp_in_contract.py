"""This module holds files on SFTP servers, OpenSSH's and asyncssh's, to the rules of files in a folder."""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import asyncssh
import pytest

from broker.formats.delimited import CsvSpec
from broker.notices import FileFailed, FileRead
from broker.parts import Tools
from broker.ssh import find_login
from listeners.sftp import SftpSpec
from listeners.sftp_inbox import SftpInbox
from tests.contract.test_files_contract import TABLE, Kept, Watched
from tests.contract.test_filing_contract import Known, openssh, places
from tests.contract.test_sftp_contract import KEY, served

if TYPE_CHECKING:
    from tests.sshd import Sshd

__all__ = ["openssh"]


class World(Watched):
    """A listener over a folder of a server, and what it was lent; ``folder`` is how this machine sees that folder."""

    def __init__(self, folder: Path, data: Path, settings: Any) -> None:
        self.folder = folder
        self.settings = SimpleNamespace(root=Path(), data=data, places=settings.places)
        self.kept = Kept()

    @contextlib.asynccontextmanager
    async def reads(self, **options: Any) -> AsyncIterator[None]:
        tools = Tools("roster", self.kept, self.kept.notices.append, self.settings, CsvSpec().build(None))
        given = {"place": "partner", "folder": str(self.folder), "pattern": "*.csv", "settled": 0, "poll": "50ms"}
        more = {"timeout": "5s", "connect": "2s", "connections": 2}
        listener = SftpSpec.model_validate(given | more | options).build(tools)
        await listener.start()
        try:
            yield
        finally:
            self.kept.open.set()
            await listener.stop()

    def drop(self, name: str, text: str = TABLE) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o777)
        part = path.with_name("x.part")
        part.write_text(text)
        part.chmod(0o666)
        part.rename(path)

    def names(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture(params=["openssh", "asyncssh"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "openssh":
        server: Sshd = request.getfixturevalue("openssh")
        folder = server.folder / "files" / f"in-{tmp_path.name}"
        folder.mkdir()
        folder.chmod(0o777)
        private = server.key.export_private_key().decode()
        yield World(folder, tmp_path, places(server.host_key, server.port, server.user, private_key=private))
    else:
        async with served() as accepting:
            (tmp_path / "in").mkdir()
            settings = places(KEY, accepting.get_port(), "mercy", password="s3cret")
            yield World(tmp_path / "in", tmp_path, settings)


async def test_files_are_read_once_and_moved_away(world: World) -> None:
    long = "".join(f"{number},Family{number}\n" for number in range(9000))  # more than one request
    world.drop("a.csv")
    world.drop("sub/b.csv", f"id,name\n{long}")
    world.drop("bad.csv", "")
    (world.folder / "link.csv").symlink_to("/etc/passwd")
    async with world.reads(recursive=True):
        await world.until(lambda: len(world.told(FileRead)) == 2 and len(world.told(FileFailed)) == 2)
        assert len(world.kept.messages) == 9002
        world.drop("a.csv")  # again: its rows are known, and the earlier file stays
        await world.until(lambda: len(world.told(FileRead)) == 3)
    assert [notice.duplicates for notice in world.told(FileRead)] == [0, 0, 2]
    assert {notice.file: notice.reason.split(",")[0] for notice in world.told(FileFailed)} == {
        "bad.csv": "the file is empty",
        "link.csv": "it is a link",
    }
    names = world.names()
    assert {"done/a.csv", "done/sub/b.csv", "failed/bad.csv"} <= set(names)
    assert len([name for name in names if name.startswith("done/a.")]) == 2
    assert not [name for name in names if ".handoff-roster" in name]


async def test_file_is_not_moved_before_all_of_it_is_kept(world: World) -> None:
    world.kept.open.clear()
    world.drop("a.csv")
    async with world.reads(after="delete"):
        await world.until(lambda: ".handoff-roster/a.csv" in world.names())
        await asyncio.sleep(0.2)
        assert world.names() == [".handoff-roster/a.csv"]
        world.kept.open.set()
        await world.until(lambda: not world.names())
    assert len(world.kept.messages) == 2


async def test_file_that_was_begun_is_read_after_a_restart(world: World) -> None:
    world.drop("a.csv")
    (world.folder / ".handoff-roster").mkdir()
    (world.folder / ".handoff-roster").chmod(0o777)
    (world.folder / "a.csv").rename(world.folder / ".handoff-roster" / "a.csv")
    async with world.reads():
        await world.until(lambda: world.names() == ["done/a.csv"])
    assert len(world.kept.messages) == 2


async def test_kept_file_is_read_once_over_restarts_and_again_when_it_changes(world: World) -> None:
    world.drop("a.csv")
    for _ in range(2):
        async with world.reads(after="keep"):
            await world.until(lambda: world.told(FileRead))
            await asyncio.sleep(0.2)
    assert len(world.told(FileRead)) == 1
    async with world.reads(after="keep"):
        world.drop("a.csv", f"{TABLE}3,New\n")
        await world.until(lambda: len(world.told(FileRead)) == 2)
    assert world.names() == ["a.csv"]


async def test_file_that_may_not_be_moved_is_told_once_with_what_to_do(openssh: "Sshd", tmp_path: Path) -> None:
    folder = openssh.folder / "files" / tmp_path.name
    folder.mkdir()
    private = openssh.key.export_private_key().decode()
    world = World(folder, tmp_path, places(openssh.host_key, openssh.port, openssh.user, private_key=private))
    world.drop("a.csv")
    folder.chmod(0o555)  # the server runs as nobody where we are root
    async with world.reads():
        await world.until(lambda: world.told(FileFailed))
        await asyncio.sleep(0.3)
    told = ["it cannot be moved on the server (no permission); have that allowed, or declare `after: keep`"]
    assert [notice.reason for notice in world.told(FileFailed)] == told
    assert world.names() == ["a.csv"]


async def test_file_that_may_not_be_read_goes_to_failed_and_the_next_is_read(openssh: "Sshd", tmp_path: Path) -> None:
    folder = openssh.folder / "files" / tmp_path.name
    folder.mkdir()
    folder.chmod(0o777)
    private = openssh.key.export_private_key().decode()
    world = World(folder, tmp_path, places(openssh.host_key, openssh.port, openssh.user, private_key=private))
    world.drop("a.csv")
    (folder / "a.csv").chmod(0)  # the server runs as nobody where we are root
    world.drop("b.csv")
    async with world.reads():
        await world.until(lambda: world.told(FileFailed) and world.told(FileRead))
    told = ["it cannot be read on the server (no permission)"]
    assert [notice.reason for notice in world.told(FileFailed)] == told
    assert world.names() == ["done/b.csv", "failed/a.csv"]


class Touched(asyncssh.SFTPServer):
    """Has somebody write to a file, once, just when all of it has been copied."""

    times = 0

    def fstat(self, file_obj: Any) -> Any:
        """Tell what a file is."""
        if Touched.times:
            Touched.times -= 1
            os.utime(file_obj.fileno(), (1, 1))
        return super().fstat(file_obj)


async def test_file_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Touched, "times", 1)
    (tmp_path / "in").mkdir()
    async with served(sftp_factory=Touched) as accepting:
        world = World(tmp_path / "in", tmp_path, places(KEY, accepting.get_port(), "mercy", password="s3cret"))
        world.drop("a.csv")
        async with world.reads():
            await world.until(lambda: world.told(FileRead))
    assert not Touched.times
    assert len(world.kept.messages) == 2
    assert [notice.duplicates for notice in world.told(FileRead)] == [0]
    assert world.names() == ["done/a.csv"]


class Dropping(asyncssh.SFTPServer):
    """Drops the connection once, in the middle of a file."""

    drops = 0

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        """Read, or drop."""
        if offset and Dropping.drops:
            Dropping.drops -= 1
            self.channel.get_connection().abort()
            raise asyncssh.SFTPConnectionLost("dropped")
        return super().read(file_obj, offset, size)


async def test_server_that_goes_away_in_the_middle_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dropping, "drops", 1)
    (tmp_path / "in").mkdir()
    async with served(sftp_factory=Dropping) as accepting:
        world = World(tmp_path / "in", tmp_path, places(KEY, accepting.get_port(), "mercy", password="s3cret"))
        world.drop("a.csv", "id,name\n" + "".join(f"{number},Family{number}\n" for number in range(9000)))
        async with world.reads():
            await world.until(lambda: world.told(FileRead))
    assert len(world.kept.messages) == 9000
    assert [notice.duplicates for notice in world.told(FileRead)] == [0]
    assert not Dropping.drops
    told = {notice.reason for notice in world.told(FileFailed)}  # a connection that was kept is replaced without a word
    assert told <= {f"partner:{tmp_path}/in: the connection ended; what was begun is read again"}


async def test_server_that_is_another_or_too_old_is_told_and_sees_no_login(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    for options, key, words in (
        ({}, other, "place partner: its host key is not the one that is known"),
        ({"kex_algs": ["diffie-hellman-group1-sha1"]}, KEY, "place partner: the server offers only algorithms"),
    ):
        async with served(**options) as accepting:
            world = World(tmp_path, tmp_path, places(key, accepting.get_port(), "mercy", password="s3cret"))
            async with world.reads():
                await world.until(functools.partial(world.told, FileFailed))
        assert world.told(FileFailed)[0].reason.startswith(words)
    assert not Known.served


async def test_folder_that_is_not_there_is_told_and_read_once_it_is(tmp_path: Path) -> None:
    async with served() as accepting:
        world = World(tmp_path / "in", tmp_path, places(KEY, accepting.get_port(), "mercy", password="s3cret"))
        async with world.reads():
            await world.until(lambda: world.told(FileFailed))
            assert "there is no such folder" in world.told(FileFailed)[0].reason
            world.folder.mkdir()
            world.drop("a.csv")
            await world.until(lambda: world.told(FileRead))


async def test_file_is_claimed_only_as_it_was_seen_and_copied_only_while_it_stays_so(world: World) -> None:
    world.drop("a.csv")
    world.drop("b.csv")
    spec = SftpSpec.model_validate({"place": "partner", "folder": str(world.folder), "pattern": "*.csv"})
    inbox = SftpInbox(find_login(world.settings, "partner", "here", 2, 5), spec, world.settings.data, ".ours", 1)

    def work() -> None:
        a, b = inbox.waiting()
        assert not inbox.claim(replace(a, size=a.size - 1))  # it has grown since
        assert inbox.claim(a)
        assert inbox.claim(a)  # again, because the connection ended before the answer
        world.drop("a.csv", f"{TABLE}3,New\n")
        assert not inbox.claim(next(seen for seen in inbox.waiting() if seen.name == "a.csv"))
        assert inbox.claim(b)
        assert inbox.fetch(replace(b, size=b.size - 1)) is None
        assert inbox.fetch(replace(b, size=b.size + 1)) is None
        assert inbox.fetch(replace(b, modified=b.modified - 10**9)) is None
        assert inbox.fetch(replace(b, name="c.csv")) is None
        for seen in (a, b):
            with cast("BinaryIO", inbox.fetch(seen)) as copied:
                assert copied.read() == TABLE.encode()
        inbox.close()

    await asyncio.to_thread(work)
