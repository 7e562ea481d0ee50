"""This module holds every destination that writes files to one contract: folders, OpenSSH's SFTP, and asyncssh's."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncssh
import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry
from broker.errors import StoreError
from broker.ids import show
from broker.parts import Destination, Tools
from dispatch.files import FilesOutSpec
from dispatch.sftp import SftpOutSpec
from tests.conftest import Need
from tests.sshd import Sshd

NUMBER = 1 << 40


def delivery(name: str = "a.hl7", content: bytes = b"MSH|1\r", number: int = NUMBER, attempt: int = 1) -> Delivery:
    return Delivery(id=number, route=1, key="k", request=name.encode() + b"\n" + content, attempt=attempt)


@dataclass
class Rig:
    """A destination and the folder that it writes to, as this machine sees it."""

    kind: str
    folder: Path
    settings: Any
    options: dict[str, Any]
    marks: Any = None

    @property
    def address(self) -> str:
        """Return where the server is; nothing for a folder."""
        found = getattr(self.settings, "places", {}).get("partner")
        return f"127.0.0.1:{found.sftp.port}" if found else ""

    def build(self, **options: Any) -> Destination:
        nothing = cast("Any", None)
        tools = Tools("adt", nothing, lambda _: None, self.settings, marks=self.marks)
        spec = FilesOutSpec if self.kind == "folder" else SftpOutSpec
        return spec.model_validate({"timeout": "10s", **self.options, **options}).build(tools)

    async def send(self, *deliveries: Delivery, **options: Any) -> list[Outcome]:
        destination = self.build(**options)
        await destination.open()
        outcomes = [(await destination.send([each]))[0] for each in deliveries]
        await destination.close()
        return outcomes

    async def gather(self, deliveries: Sequence[Delivery], most: int) -> list[Outcome]:
        """Send deliveries at a time, in batches."""
        destination = self.build(batch={"most": most, "wait": "10s"})
        await destination.open()
        sending = [asyncio.create_task(destination.send([each])) for each in deliveries]
        await asyncio.wait(sending, timeout=0.5)
        await destination.close()
        return [(await one)[0] for one in sending]

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}


@pytest.fixture(scope="session")
def openssh(need: Need) -> Iterator[Sshd]:
    server = Sshd(need("sshd"))
    server.start()
    yield server
    server.remove()


def places(host_key: Any, port: int, user: str, **login: Any) -> Any:
    known = " ".join(host_key.export_public_key().decode().split()[:2])
    given = {"password": None, "private_key": None, "passphrase": None, "known_hosts": None, **login}
    sftp = SimpleNamespace(host="127.0.0.1", port=port, user=user, host_key=known, **given)
    return SimpleNamespace(root=Path(), places={"partner": SimpleNamespace(sftp=sftp, s3=None)})


class Known(asyncssh.SSHServer):
    """Lets one user in, by password."""

    served: set["Known"] = set()  # noqa: RUF012 - of all servers, so that a test can wait for them

    connection: asyncssh.SSHServerConnection

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count a connection."""
        self.connection = conn
        self.served.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - likewise
        """Count it no more."""
        self.served.discard(self)

    def password_auth_supported(self) -> bool:
        """Say so."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """Compare."""
        return (username, password) == ("mercy", "s3cret")


@pytest.fixture(params=["folder", "openssh", "asyncssh"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    if request.param == "folder":
        yield Rig("folder", tmp_path, SimpleNamespace(root=tmp_path), {"folder": str(tmp_path)})
    elif request.param == "openssh":
        server: Sshd = request.getfixturevalue("openssh")
        folder = server.folder / "files" / tmp_path.name
        folder.mkdir()
        folder.chmod(0o777)
        private = server.key.export_private_key().decode()
        settings = places(server.host_key, server.port, server.user, private_key=private)
        yield Rig("sftp", folder, settings, {"folder": str(folder), "place": "partner"})
    else:
        key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
        served = await asyncssh.listen("127.0.0.1", 0, server_factory=Known, server_host_keys=[key], sftp_factory=True)
        settings = places(key, served.get_port(), "mercy", password="s3cret")
        yield Rig("sftp", tmp_path, settings, {"folder": str(tmp_path), "place": "partner"})
        served.close()
        await served.wait_closed()
        async with asyncio.timeout(10):
            while Known.served:  # noqa: ASYNC110 - the server tells nobody else
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)


async def test_file_is_there_whole_under_its_name(rig: Rig) -> None:
    content = os.urandom(300_000)
    (outcome,) = await rig.send(delivery("a%2Fb.hl7", content))
    assert outcome == Delivered(reference="a%2Fb.hl7")
    assert (outcome.via.address if outcome.via else "") == rig.address
    assert rig.files() == {"a%2Fb.hl7": content}


async def test_file_without_a_name_is_called_by_its_delivery(rig: Rig) -> None:
    assert await rig.send(delivery(".hl7")) == [Delivered(reference=f"{show(NUMBER)}.hl7")]
    assert list(rig.files()) == [f"{show(NUMBER)}.hl7"]


@pytest.mark.parametrize("exists", ["refuse", "same_is_done", "replace"])
async def test_second_attempt_finds_what_the_first_one_wrote(rig: Rig, exists: str) -> None:
    first, second = await rig.send(delivery(), delivery(attempt=2), exists=exists)
    assert first == second == Delivered(reference="a.hl7")
    assert rig.files() == {"a.hl7": b"MSH|1\r"}


async def test_name_that_is_taken_means_what_the_channel_says(rig: Rig) -> None:
    (rig.folder / "a.hl7").write_bytes(b"other\r")
    for exists in ("refuse", "same_is_done"):
        (outcome,) = await rig.send(delivery(attempt=2), exists=exists)
        assert isinstance(outcome, Rejected)
        assert outcome.reason.endswith("a file of that name is there already, with other content")
        assert rig.files() == {"a.hl7": b"other\r"}
    assert await rig.send(delivery(), exists="replace") == [Delivered(reference="a.hl7")]
    assert rig.files() == {"a.hl7": b"MSH|1\r"}
    (outcome,) = await rig.send(delivery(), exists="refuse")
    assert isinstance(outcome, Rejected)
    assert "with the same content" in outcome.reason


async def test_folder_that_is_not_there_is_tried_again(rig: Rig) -> None:
    (outcome,) = await rig.send(delivery(), folder=str(rig.folder / "nowhere"))
    assert isinstance(outcome, Retry), outcome
    assert not rig.files()


async def test_file_may_be_written_in_another_folder_first(rig: Rig) -> None:
    (outcome,) = await rig.send(delivery(), temporary="being-written")
    assert isinstance(outcome, Retry)
    (rig.folder / "being-written").mkdir()
    (rig.folder / "being-written").chmod(0o777)
    assert await rig.send(delivery(), temporary="being-written") == [Delivered(reference="a.hl7")]
    assert not list((rig.folder / "being-written").iterdir())


async def test_what_an_earlier_run_left_half_written_does_not_matter(rig: Rig) -> None:
    left = rig.folder / f".{show(NUMBER)}.part"
    left.write_bytes(b"MSH|" * 100)
    left.chmod(0o666)
    assert await rig.send(delivery()) == [Delivered(reference="a.hl7")]
    assert rig.files() == {"a.hl7": b"MSH|1\r"}


async def test_many_files_at_a_time(rig: Rig) -> None:
    destination = rig.build()
    await destination.open()
    some = [delivery(f"{number}.hl7", b"%d" % number, NUMBER + 64 * number) for number in range(30)]
    outcomes = await asyncio.gather(*(destination.send([each]) for each in some))
    await destination.close()
    assert [outcome for (outcome,) in outcomes] == [Delivered(reference=f"{number}.hl7") for number in range(30)]
    assert rig.files() == {f"{number}.hl7": b"%d" % number for number in range(30)}


async def test_batch_holds_messages_of_many_deliveries_and_counts_them(rig: Rig) -> None:
    destination = rig.build(batch={"most": 3, "wait": "10s", "receiving": "REGISTRY|STATE"})
    await destination.open()
    some = [delivery(".hl7", b"MSH|%d\r" % number, NUMBER + 64 * number) for number in range(5)]
    sending = [asyncio.create_task(destination.send([each])) for each in some]
    full = await asyncio.gather(*sending[:3])
    assert {outcome for (outcome,) in full} == {Delivered(reference=f"{show(NUMBER)}.hl7")}
    assert not sending[3].done()
    await destination.close()  # what is gathered is written
    (rest,) = await sending[4]
    assert rest == Delivered(reference=f"{show(NUMBER + 3 * 64)}.hl7")
    first, second = (rig.files()[f"{show(NUMBER + 64 * number)}.hl7"].split(b"\r") for number in (0, 3))
    assert [line[:5] for line in first] == [b"FHS|^", b"BHS|^", b"MSH|0", b"MSH|1", b"MSH|2", b"BTS|3", b"FTS|1", b""]
    assert [line[:5] for line in second] == [b"FHS|^", b"BHS|^", b"MSH|3", b"MSH|4", b"BTS|2", b"FTS|1", b""]
    assert first[0].split(b"|")[2:6] == [b"HANDOFF", b"", b"REGISTRY", b"STATE"]
    assert first[0].split(b"|")[10] == show(NUMBER).encode()


class Kept:
    """Marks that outlive an engine; `may_write` goes down with each write, and below nothing the store refuses."""

    def __init__(self) -> None:
        self.marks: dict[str, bytes] = {}
        self.may_write = 1000

    async def read(self, name: str) -> bytes | None:
        return self.marks.get(name)

    async def write(self, name: str, value: bytes) -> None:
        self.may_write -= 1
        if self.may_write < 0:
            raise StoreError("store: away")
        self.marks[name] = value


@pytest.mark.parametrize("writes", [2, 1], ids=["before its end is recorded", "before its name is noted"])
async def test_no_message_is_in_two_batch_files_when_the_engine_dies_after_the_rename(rig: Rig, writes: int) -> None:
    rig.marks = Kept()
    rig.marks.may_write = writes
    some = [delivery(".hl7", b"MSH|%d\r" % number, NUMBER + 64 * number) for number in range(3)]
    await rig.gather(some, most=3)  # and nobody hears of it
    rig.marks.may_write = 1000
    again = [replace(each, attempt=2) for each in some[::-1]]
    more = [delivery(".hl7", b"MSH|%d\r" % number, NUMBER + 64 * number) for number in (3, 4)]
    outcomes = await rig.gather([again[0], more[0], *again[1:], more[1]], most=2)
    assert outcomes[0] == outcomes[2] == outcomes[3] == Delivered(reference=f"{show(NUMBER)}.hl7")
    assert outcomes[1] == outcomes[4] == Delivered(reference=f"{show(NUMBER + 3 * 64)}.hl7")
    assert [data.count(b"MSH|") for data in rig.files().values()] in ([3, 2], [2, 3])


async def test_batch_whose_file_never_got_its_name_is_gathered_anew(rig: Rig) -> None:
    rig.marks = Kept()
    some = [delivery(".hl7", b"MSH|%d\r" % number, NUMBER + 64 * number) for number in range(2)]
    await rig.gather(some, most=2)
    (rig.folder / f"{show(NUMBER)}.hl7").unlink()
    rig.marks.marks = {name: value.replace(b"true", b"false") for name, value in rig.marks.marks.items()}
    outcomes = await rig.gather([replace(each, attempt=2) for each in some], most=2)
    assert set(outcomes) == {Delivered(reference=f"{show(NUMBER)}-2.hl7")}
    assert [data.count(b"MSH|") for data in rig.files().values()] == [2]


async def test_batch_that_cannot_be_noted_is_not_written(rig: Rig) -> None:
    rig.marks = Kept()
    rig.marks.may_write = 0
    (outcome,) = await rig.gather([delivery(".hl7", b"MSH|0\r")], most=1)
    assert isinstance(outcome, Retry)
    assert rig.files() == {}
