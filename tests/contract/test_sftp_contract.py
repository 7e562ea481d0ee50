"""This module holds the SFTP destination to what a server may do: be another, be too old, refuse, or go away."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncssh
import pytest

from broker.delivery import Delivered, Outcome, Retry, Unknown
from broker.errors import ConfigError
from broker.parts import Destination, Tools
from dispatch.sftp import SftpOutSpec
from tests.contract.scripted_server import closed_port
from tests.contract.test_filing_contract import Known, delivery, places

KEY = asyncssh.generate_private_key("ssh-ed25519")


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[asyncssh.SSHAcceptor]:
    """Serve SFTP, and return when everybody who came has gone."""
    given = {"server_factory": Known, "server_host_keys": [KEY], "sftp_factory": True, **options}
    server = await asyncssh.listen("127.0.0.1", 0, **given)
    try:
        yield server
    finally:
        server.close()
        await server.wait_closed()
        async with asyncio.timeout(10):
            while Known.served:  # noqa: ASYNC110 - the server tells nobody else
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


def build(settings: Any, folder: Path, **options: Any) -> Destination:
    nothing = cast("Any", None)
    tools = Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=settings)
    given = {"place": "partner", "folder": str(folder), "timeout": "5s", "connect": "2s", **options}
    return SftpOutSpec.model_validate(given).build(tools)


async def send(settings: Any, folder: Path, **options: Any) -> Outcome:
    destination = build(settings, folder, **options)
    await destination.open()
    (outcome,) = await destination.send([delivery()])
    await destination.close()
    return outcome


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def refusal(settings: Any, folder: Path, **options: Any) -> str:
    outcome = await send(settings, folder, **options)
    assert isinstance(outcome, Retry), outcome
    assert not names(folder)
    return outcome.reason.removeprefix("place partner: ")


async def test_server_that_is_another_gets_nothing(tmp_path: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with served() as server:
        told = await refusal(places(other, server.get_port(), "mercy", password="s3cret"), tmp_path)
        assert told == "its host key is not the one that is known; make sure who it is, then correct"
        kind = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        told = await refusal(places(kind, server.get_port(), "mercy", password="s3cret"), tmp_path)
        assert "host key" in told


async def test_user_or_password_that_is_wrong_is_told(tmp_path: Path) -> None:
    async with served() as server:
        for user, password in (("mercy", "wrong"), ("other", "s3cret")):
            told = await refusal(places(KEY, server.get_port(), user, password=password), tmp_path)
            assert told == "it refused our user, password or key"


async def test_server_that_is_too_old_is_told_in_a_clear_sentence(tmp_path: Path) -> None:
    old: dict[str, dict[str, Any]] = {
        "kex algorithm": {"kex_algs": ["diffie-hellman-group1-sha1"]},
        "ciphers": {"encryption_algs": ["arcfour256"]},
    }
    for kind, options in old.items():
        async with served(**options) as server:
            told = await refusal(places(KEY, server.get_port(), "mercy", password="s3cret"), tmp_path)
            expected = "the server offers only algorithms that are not safe any more"
            assert told == f"{expected} ({kind}); its operator must allow newer ones"


async def test_server_that_cannot_be_reached_is_tried_again(tmp_path: Path) -> None:
    assert await refusal(places(KEY, closed_port(), "mercy", password="x"), tmp_path) == "the connection was refused"
    settings = places(KEY, 22, "mercy", password="x")
    settings.places["partner"].sftp.host = "server.invalid"
    assert await refusal(settings, tmp_path) == "its host name could not be resolved"

    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel takes the connection, and nobody answers
        port = mute.getsockname()[1]
        told = await refusal(places(KEY, port, "mercy", password="x"), tmp_path, connect="200ms")
    assert told.startswith("no connection")


async def test_connection_that_ended_meanwhile_is_made_again(tmp_path: Path) -> None:
    async with served() as server:
        destination = build(places(KEY, server.get_port(), "mercy", password="s3cret"), tmp_path, connections=1)
        await destination.open()
        assert await destination.send([delivery("1.hl7")]) == [Delivered(reference="1.hl7")]
        assert len(Known.served) == 1
        for each in list(Known.served):
            each.connection.abort()
        assert await destination.send([delivery("2.hl7")]) == [Delivered(reference="2.hl7")]
        await destination.close()


class Dropping(asyncssh.SFTPServer):
    """Drops the connection at one of its operations; ``renames`` first where it should."""

    at = ""
    renames = False

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, perhaps, and drop."""
        if self.renames:
            super().rename(oldpath, newpath)
        self._drop("rename")
        if not self.at:
            super().rename(oldpath, newpath)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Drop, or write."""
        self._drop("write")
        return super().write(file_obj, offset, data)  # type: ignore[return-value] # it may answer later, and does not

    def _drop(self, at: str) -> None:
        if at == self.at:
            self.channel.get_connection().abort()
            raise asyncssh.SFTPConnectionLost("dropped")


@pytest.mark.parametrize("renames", [True, False])
async def test_connection_lost_while_renaming_is_unknown_and_the_next_attempt_finds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
) -> None:
    monkeypatch.setattr(Dropping, "at", "rename")
    monkeypatch.setattr(Dropping, "renames", renames)
    async with served(sftp_factory=Dropping) as server:
        settings = places(KEY, server.get_port(), "mercy", password="s3cret")
        outcome = await send(settings, tmp_path)
        assert isinstance(outcome, Unknown), outcome
        assert (tmp_path / "a.hl7").exists() == renames
        monkeypatch.setattr(Dropping, "at", "")
        monkeypatch.setattr(Dropping, "renames", False)
        assert await send(settings, tmp_path) == Delivered(reference="a.hl7")
    assert names(tmp_path) == ["a.hl7"]


class Plain(asyncssh.SFTPServer):
    """Knows no extension for renaming, keeps half of what it gets, or renames nothing."""

    fault = ""

    def posix_rename(self, *_: bytes) -> None:
        """Know nothing of it."""
        raise asyncssh.SFTPOpUnsupported("what is that?")

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename, or not."""
        if self.fault == "rename":
            raise asyncssh.SFTPFailure("no")
        super().rename(oldpath, newpath)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write, or half of it."""
        super().write(file_obj, offset, data[: len(data) // 2] if self.fault == "write" else data)
        return len(data)


async def test_server_without_extensions_is_served_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(sftp_factory=Plain) as server:
        settings = places(KEY, server.get_port(), "mercy", password="s3cret")
        for _ in range(2):
            (tmp_path / "a.hl7").write_bytes(b"other")
            assert await send(settings, tmp_path, exists="replace") == Delivered(reference="a.hl7")
        assert (tmp_path / "a.hl7").read_bytes() == b"MSH|1\r"
        (tmp_path / "a.hl7").unlink()
        for fault, words in (("write", "kept only a part"), ("rename", "would not rename")):
            monkeypatch.setattr(Plain, "fault", fault)
            outcome = await send(settings, tmp_path)
            assert isinstance(outcome, Retry)
            assert words in outcome.reason
            assert not (tmp_path / "a.hl7").exists()


async def test_connection_lost_before_the_rename_surely_had_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dropping, "at", "write")
    async with served(sftp_factory=Dropping) as server:
        outcome = await send(places(KEY, server.get_port(), "mercy", password="s3cret"), tmp_path)
    assert isinstance(outcome, Retry)
    assert not (tmp_path / "a.hl7").exists()


async def test_key_may_be_locked_with_a_passphrase(tmp_path: Path) -> None:
    locked = KEY.export_private_key(passphrase="open sesame").decode()
    known = tmp_path / "known"
    for given, words in (
        ({"private_key": locked}, "needs a `passphrase`"),
        ({"private_key": locked, "passphrase": "wrong"}, "does not open it"),
        ({"private_key": "no key"}, "no private key"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(places(KEY, 22, "mercy", **given), tmp_path)
    keyed = places(KEY, 22, "mercy", private_key=locked, passphrase="open sesame")
    build(keyed, tmp_path)
    sftp = keyed.places["partner"].sftp
    sftp.host_key, sftp.known_hosts = None, str(known)
    for content, words in ((None, "cannot be read"), ("other.example ssh-ed25519 AAAA\n", "has no key of 127.0.0.1")):
        if content:
            known.write_text(content)
        with pytest.raises(ConfigError, match=words):
            build(keyed, tmp_path)
    known.write_text(f"127.0.0.1 {KEY.export_public_key().decode()}")
    build(keyed, tmp_path)
    with pytest.raises(ConfigError, match="'partner' is no SFTP server"):
        build(SimpleNamespace(root=tmp_path, places={}), tmp_path)


@pytest.mark.parametrize(("offered", "agreed"), [((), "gcm"), (["aes256-ctr"], "aes256-ctr")])
async def test_encryption_that_authenticates_in_one_pass_is_agreed_on_where_it_can_be(
    tmp_path: Path, offered: Any, agreed: str
) -> None:
    async with served(encryption_algs=offered) as server:
        destination = build(places(KEY, server.get_port(), "mercy", password="s3cret"), tmp_path)
        await destination.open()
        assert [type(outcome) for outcome in await destination.send([delivery()])] == [Delivered]
        (connected,) = Known.served
        for way in ("send_cipher", "recv_cipher"):
            assert agreed in connected.connection.get_extra_info(way)
        await destination.close()
