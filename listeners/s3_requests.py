"""This module asks a bucket of an S3-compatible store, and says in a clear sentence what it has against that.

Everything blocks, and is called from threads. Whatever is asked may be asked again: it reads, or it names by its ETag
the one object that it is about. So a kept connection that has ended is replaced without a word.
"""

import contextlib
import http.client
import queue
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from urllib.parse import urlsplit

from broker.buckets import BucketAccess, error_code
from broker.errors import Away
from broker.handshake import not_connected
from listeners.source import write_copy

MOST_KEYS: Final = 1000  # of one page of a listing
_LONGEST: Final = 8 << 20  # bytes of an answer that is no object: a page of the longest keys fits
_CHUNK: Final = 65_536
_REGION: Final = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")
_LATE: Final = "there is no answer from it within the time allowed"
_KEY_IS_WRONG: Final = "it does not know our access key, its secret or its token"
_WORDS: Final = {
    "NoSuchBucket": "there is no such bucket; make it, or correct `bucket`",
    "InvalidAccessKeyId": _KEY_IS_WRONG,
    "SignatureDoesNotMatch": _KEY_IS_WRONG,
    "ExpiredToken": "our token has expired; give another",
    "InvalidToken": _KEY_IS_WRONG,
    "RequestTimeTooSkewed": "its clock and ours differ too much; correct the clock of this machine",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the store answered: header names in lower case. Not ``is_whole`` when there was more than was wanted."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_whole: bool = True

    @property
    def code(self) -> str:
        """The store's name for an error; nothing where there is none."""
        return error_code(self.body)


class Requests:
    """At most ``most`` connections to one bucket; ``connect`` and ``timeout`` are in seconds."""

    def __init__(self, bucket: BucketAccess, connect: float, timeout: float, most: int) -> None:
        self._bucket = bucket
        self._connect = connect
        self._timeout = timeout
        self._parts = urlsplit(bucket.base)
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None
        self._free = threading.BoundedSemaphore(most)
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()

    def close(self) -> None:
        """Close every connection that nobody uses."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def ask(
        self,
        method: str,
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        into: BinaryIO | None = None,
        size: int = 0,
    ) -> Reply:
        """Send one request and return the answer; what it holds goes ``into`` a file where it is an object.

        Of an object at most ``size`` bytes are taken. Raises `Away` where there is no complete answer.
        """
        url = self._bucket.address(key, query)

        def exchange(connection: http.client.HTTPConnection) -> Reply:
            signed = self._bucket.sign(method, url, headers or {})
            path = url[url.index("/", len(self._parts.scheme) + len("://")) :]
            connection.request(method, path, headers={**signed, "User-Agent": "handoff"})
            with connection.getresponse() as response:
                reply = _read(response, into, size)
                if connection.sock is not None and response.isclosed():
                    self._idle.put(connection)
                else:
                    connection.close()
            return reply

        return self._over(exchange)

    def _over(self, exchange: Callable[[http.client.HTTPConnection], Reply]) -> Reply:
        """Exchange something over a connection, a new one where those that were kept have ended."""
        with self._free:
            while True:
                connection, is_kept = self._connection()
                try:
                    if not is_kept:
                        connection.connect()
                        connection.sock.settimeout(self._timeout)
                    return exchange(connection)
                except (http.client.HTTPException, OSError) as error:
                    connection.close()
                    if not is_kept:
                        words = not_connected(error, late=_LATE, other="the connection ended")
                        raise Away(self.told(words)) from None
                except BaseException:
                    connection.close()
                    raise

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """Return a connection, and whether it was kept from before."""
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait(), True
        host, port = self._parts.hostname or "", self._parts.port
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=self._connect, context=self._tls), False
        return http.client.HTTPConnection(host, port, timeout=self._connect), False

    def at(self, prefix: str) -> str:
        """Return a prefix as people would write it."""
        return f"{self._bucket.name}:{prefix}"

    def source(self, key: str) -> str:
        """Return how a copy names an object."""
        return self._bucket.source(key)

    def told(self, words: str) -> str:
        """Return a sentence about the place."""
        return f"place {self._bucket.name}: {words}"

    def trouble(self, reply: Reply, needs: str) -> Away:
        """Say what the store has against a request that needs a permission, such as ``s3:GetObject``."""
        code, region = reply.code, _region(reply)
        shown = f"HTTP {reply.status}" + (f", {code}" if code else "")
        if reply.status in {301, 302, 307, 308} or code in {"AuthorizationHeaderMalformed", "PermanentRedirect"}:
            there = f" ({region})" if region else ""
            words = f"the bucket is in another region{there} or at another address; correct `region` and `base`"
        elif code in _WORDS:
            words = f"{_WORDS[code]} ({code})"
        elif reply.status in {401, 403}:
            words = f"it refused our access key ({shown}); have it allowed {needs}"
        elif reply.status in {429, 503}:
            words = f"it wants to be asked less often ({shown})"
        else:
            words = f"it could not do what was asked ({shown})"
        return Away(self.told(words))


def _read(response: http.client.HTTPResponse, into: BinaryIO | None, size: int) -> Reply:
    parts: list[bytes] = []
    if into is not None and response.status == http.client.OK:
        into.seek(0)  # an earlier connection may have ended in the middle
        into.truncate()
        is_whole = _take(response, size, lambda data: write_copy(into, data))
    else:
        is_whole = _take(response, _LONGEST, parts.append)
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, b"".join(parts), is_whole)


def _take(response: http.client.HTTPResponse, most: int, take: Callable[[bytes], object]) -> bool:
    """Take what an answer holds, up to so many bytes; say whether that was all."""
    left = most
    while data := response.read(min(_CHUNK, left + 1)):
        if len(data) > left:
            return False
        take(data)
        left -= len(data)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return True


def _region(reply: Reply) -> str:
    """Return the region that the store names; nothing where it names none."""
    found = _REGION.search(reply.body)
    told = reply.headers.get("x-amz-bucket-region", found[1].decode() if found else "")
    return told if re.fullmatch(r"[a-z0-9-]{1,40}", told) else ""
