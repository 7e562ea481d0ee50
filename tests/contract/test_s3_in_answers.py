"""This module holds the reading of a bucket to what follows from each answer that a store may give, by a script."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from broker.notices import FileFailed, FileRead
from tests.certificates import Authority
from tests.contract.scripted_server import Behaviour, Request, ScriptedServer, endless, hang, hang_up, reply
from tests.contract.test_files_contract import TABLE
from tests.contract.test_s3_contract import settings
from tests.contract.test_s3_in_contract import World

TAG: Final = '"5d41402abc4b2a76b9719d911017c592"'


class Bucket(ScriptedServer):
    """A store that answers as it should where no script says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.names = ["in/a.csv"]

    def listing(self) -> bytes:
        """Return what is there."""
        told = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-03-01T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;{TAG.strip(chr(34))}&quot;</ETag><Size>{len(TABLE)}</Size></Contents>"
            for name in self.names
        )
        return f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{told}</ListBucketResult>'.encode()

    def choose(self, request: Request) -> Behaviour:
        """Return what the script has for a kind of request, or else what a store says."""
        path, _, query = request.target.removeprefix("/inbox/").partition("?")
        kind = "LIST" if query else "FREE" if request.method == "HEAD" and "/done/" in path else request.method
        if self.scripts[kind]:
            return self.scripts[kind].pop(0)
        if kind == "FREE" or (kind == "HEAD" and path not in self.names):
            return reply(404)
        if kind == "DELETE":
            self.names.remove(path)
            return reply(204)
        body = {"LIST": self.listing(), "GET": TABLE.encode(), "PUT": b"<CopyObjectResult/>"}.get(kind, b"")
        return reply(200, body, ETag=TAG)


@pytest.fixture
async def bucket() -> AsyncIterator[Bucket]:
    server = Bucket()
    await server.start()
    yield server
    await server.stop()


def error(status: int, code: str = "", **headers: str) -> Behaviour:
    return reply(status, f"<Error><Code>{code}</Code><Message>s3cret MSH</Message></Error>".encode(), **headers)


@pytest.mark.parametrize(
    ("kind", "behaviour", "words"),
    [
        ("LIST", error(503, "SlowDown"), "it wants to be asked less often (HTTP 503, SlowDown)"),
        ("LIST", error(500, "InternalError"), "it could not do what was asked (HTTP 500, InternalError)"),
        ("LIST", error(403, "AccessDenied"), "(HTTP 403, AccessDenied); have it allowed s3:ListBucket"),
        ("LIST", error(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"), "another region (eu-west-1) or"),
        ("LIST", reply(400, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"),
         "another region (eu-west-1) or at another address; correct `region` and `base`"),
        ("LIST", reply(307, Location="https://elsewhere.example/?secret"), "another region or at another address"),
        ("LIST", reply(200, b"<html>Log in</html>"), "is no listing of a bucket; correct `base`"),
        ("LIST", reply(200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"), "is no listing"),
        ("LIST", hang_up, "the connection ended (RemoteDisconnected)"),
        ("LIST", endless, "is no listing"),
        ("LIST", hang, "there is no answer from it within the time allowed"),
        ("GET", error(403, "AccessDenied"), "have it allowed s3:GetObject"),
        ("GET", reply(200, TABLE.encode(), ETag='"another"'), "something else than what was asked for"),
        ("GET", reply(200, TABLE.encode() + b"x", ETag=TAG), "something else than what was asked for"),
        ("GET", error(404, "NoSuchBucket"), "there is no such bucket"),
        ("PUT", error(200, "SlowDown"), "it could not do what was asked (HTTP 200, SlowDown)"),
        ("PUT", error(403, "AccessDenied"), "s3:PutObject below in/done/"),
        ("DELETE", error(403, "AccessDenied"), "have it allowed s3:GetObject and s3:DeleteObject"),
        ("DELETE", error(409, "ConditionalRequestConflict"), "(HTTP 409, ConditionalRequestConflict)"),
        ("FREE", reply(403), "(HTTP 403); have it allowed s3:GetObject below in/done/"),
        ("HEAD", reply(403), "it refused our access key (HTTP 403)"),
    ],
)  # fmt: skip
async def test_trouble_is_told_once_and_passes(
    bucket: Bucket, tmp_path: Path, kind: str, behaviour: Behaviour, words: str
) -> None:
    bucket.scripts[kind] = [behaviour] * 2
    world = World(settings(bucket.base), tmp_path)
    async with world.reads(timeout="300ms"):
        await world.until(lambda: not bucket.names)
    assert [words in notice.reason for notice in world.told(FileFailed)] == [True], world.told(FileFailed)
    assert not [secret for secret in ("s3cret", "MSH", "?") if secret in world.told(FileFailed)[0].reason]
    assert len(world.kept.messages) == 2
    copies = [request for request in bucket.requests if request.method == "PUT"]
    assert {request.target for request in copies} == {"/inbox/in/done/a.csv"}
    assert copies[0].headers["x-amz-copy-source"] == "/inbox/in/a.csv"
    assert copies[0].headers["x-amz-copy-source-if-match"] == TAG


@pytest.mark.parametrize("code", ["InvalidObjectState", "InvalidRequest"])
@pytest.mark.parametrize("after", ["keep", "delete"])
async def test_object_that_cannot_be_had_stops_no_other(bucket: Bucket, tmp_path: Path, code: str, after: str) -> None:
    bucket.scripts["GET"] = [error(403, code)]
    bucket.names.append("in/b.csv")
    world = World(settings(bucket.base), tmp_path)
    async with world.reads(after=after, connections=1):
        await world.until(lambda: world.told(FileRead) and world.told(FileFailed))
        await asyncio.sleep(0.2)
    assert {notice.file for notice in (*world.told(FileRead), *world.told(FileFailed))} == {"a.csv", "b.csv"}
    assert len(world.told(FileRead)) == 1
    assert [notice.reason for notice in world.told(FileFailed)] == [
        f"it cannot be read, says the store (HTTP 403, {code})"
    ]


async def test_object_that_was_read_and_cannot_be_moved_is_told_once_and_not_read_again(
    bucket: Bucket, tmp_path: Path
) -> None:
    world = World(settings(bucket.base), tmp_path)
    for words in ("it was read; ", ""):  # and after a start
        bucket.scripts["PUT"] = [error(400, "InvalidRequest")] * 9
        async with world.reads():
            await world.until(lambda: world.told(FileFailed))
            await asyncio.sleep(0.2)
        told = f"{words}it cannot be moved, says the store (HTTP 400, InvalidRequest)"
        assert [notice.reason for notice in world.told(FileFailed)] == [told]
        world.kept.notices.clear()
    assert (
        len([request for request in bucket.requests if request.target == "/inbox/in/a.csv" and request.method == "GET"])
        == 1
    )
    bucket.scripts["PUT"].clear()
    async with world.reads():
        await world.until(lambda: not bucket.names)
    assert not world.told(FileFailed)


async def test_store_with_tls_must_be_one_that_is_vouched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    bucket = Bucket()
    bucket.context = authority.server()
    await bucket.start()
    world = World(settings(bucket.base), tmp_path)
    async with world.reads():
        await world.until(lambda: world.told(FileFailed))
    assert "nobody whom we trust vouches for its certificate" in world.told(FileFailed)[0].reason
    assert not bucket.requests
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with world.reads():
        await world.until(lambda: not bucket.names)
    await bucket.stop()


async def test_copy_that_cannot_be_written_costs_nothing(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        """A file on a disk that is full."""

        def write(self, _data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return lambda *_: 0

    @contextlib.contextmanager
    def full(**_options: Any) -> Iterator[Full]:
        yield Full()

    world = World(settings(bucket.base), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("listeners.s3_inbox.tempfile.TemporaryFile", full)
        async with world.reads():
            await world.until(lambda: world.told(FileFailed))
    told = "the copy of a file cannot be written on this machine (no space left on device)"
    assert [notice.reason for notice in world.told(FileFailed)] == [told]
    async with world.reads():
        await world.until(lambda: not bucket.names)
    assert len(world.kept.messages) == 2


async def test_connection_that_ends_in_the_middle_costs_nothing(bucket: Bucket, tmp_path: Path) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nETag: {TAG}\r\nContent-Length: {len(TABLE)}\r\n\r\nid,na".encode())
        await writer.drain()
        writer.close()

    bucket.scripts["GET"] = [half]
    bucket.scripts["HEAD"] = [hang_up]
    bucket.scripts["DELETE"] = [reply(501)]  # what If-Match means here it does not know
    world = World(settings(bucket.base), tmp_path)
    async with world.reads(after="delete"):
        await world.until(lambda: world.told(FileRead))
    assert not bucket.names
    assert len(world.kept.messages) == 2
    assert not world.told(FileFailed)
    assert len([request for request in bucket.requests if request.method == "GET" and "?" not in request.target]) == 2
    deleted = [request.headers.get("if-match") for request in bucket.requests if request.method == "DELETE"]
    assert deleted == [TAG, None]


@pytest.mark.parametrize(
    ("kind", "behaviour"),
    [
        ("GET", error(412, "PreconditionFailed")),
        ("GET", error(404, "NoSuchKey")),
        ("PUT", error(412, "PreconditionFailed")),
        ("HEAD", reply(404)),
        ("HEAD", reply(200, ETag='"another"')),
        ("DELETE", error(412, "PreconditionFailed")),
        ("DELETE", error(404, "NoSuchKey")),
        ("DELETE", error(501)),
    ],
)
async def test_object_that_is_gone_or_another_is_let_alone(
    bucket: Bucket, tmp_path: Path, kind: str, behaviour: Behaviour
) -> None:
    bucket.scripts[kind] = [behaviour]
    world = World(settings(bucket.base), tmp_path)
    async with world.reads(after="move" if kind == "PUT" else "delete"):
        await world.until(lambda: not bucket.scripts[kind])
        await world.until(lambda: not bucket.names)  # it was there all the same, so it is looked at again
    assert len(world.kept.messages) == 2
    assert not world.told(FileFailed)
    assert [notice.duplicates for notice in world.told(FileRead)] == [0]
