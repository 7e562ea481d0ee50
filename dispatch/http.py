"""This module exchanges one HTTP request for one answer and says, when there is none, whether anything was sent.

The difference matters more than the error: *nothing was sent* may be tried again at once (`Retry`), while a request
that may have reached the other side may have taken effect (`Unknown`). Reasons name the peer and what happened; they
never hold a URL's query, a body or an identifier.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import urlsplit

import orjson

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown, Via
from broker.errors import ConfigError
from broker.handshake import NO_SUCH_HOST, is_not_let_in, not_connected, told_by
from broker.hosts import HOST
from broker.tls import Tls
from dispatch.deadline import Deadline
from dispatch.way import Way, make_connector, note_via

if TYPE_CHECKING:
    import aiohttp

BODY_CAP: Final = 1024 * 1024  # bytes of an answer that we are willing to read
_PLACE: Final = re.compile(rf"{HOST}(?::\d+)?")
LONGEST_WAIT: Final = 86_400.0  # seconds; nobody may keep a destination waiting for longer with Retry-After
CONNECT_SECONDS: Final = 5.0
_CHUNK: Final = 1024 * 1024  # bytes that go into a file at once, at most

# Codes with which the other side says that it did not take the request on.
_TRY_LATER: Final = frozenset({408, 425, 429, 503})
_NEVER_5XX: Final = frozenset({501, 505})  # the method or the protocol is not there: no effect, and none to come


@dataclass(slots=True)  # not frozen: those take five times as long to make
class Answer:
    """What the other side said: header names in lower case, and the whole body, empty where that went into a file."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    via: Via | None = None

    def json_object(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty one for anything else."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


Failure = Retry | Unknown


class NotKept(Exception):
    """What came cannot be written to its file; the text says why."""


@dataclass(frozen=True, slots=True)
class Into:
    """Where the body of a success goes instead of into memory, as long as it has no more than ``most`` bytes."""

    file: BinaryIO
    most: int


def web_address(value: object, where: str) -> str:
    """Return the base URL without its last slash; raise `ConfigError` unless it is a plain http or https address."""
    parts = urlsplit(str(value or ""))
    is_plain = _PLACE.fullmatch(parts.netloc) and not (parts.query or parts.fragment)
    if parts.scheme not in {"http", "https"} or not is_plain:
        message = f"{where}: needs an address such as https://host.example/path, without user name, query or fragment"
        raise ConfigError(message)
    return str(value).rstrip("/")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds from ``now`` (POSIX), 0 to `LONGEST_WAIT`, or None."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_WAIT)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - rarely needed

    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(max(moment - now, 0.0), LONGEST_WAIT)


def by_status(answer: Answer, peer: str, now: float, detail: str = "") -> Outcome:
    """Class an answer by its status alone; ``detail`` is added to the reason and must hold codes only."""
    status = answer.status
    reason = f"HTTP {status} from {peer}" + (f" ({detail})" if detail else "")
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
        return Delivered(response=answer.body, via=answer.via)
    if status in _TRY_LATER:
        return Retry(reason, after=retry_after(answer.headers, now), response=answer.body, via=answer.via)
    if status >= 500 and status not in _NEVER_5XX:  # noqa: PLR2004 - server errors, RFC 9110 15.6
        return Unknown(reason, response=answer.body, via=answer.via)
    return Rejected(reason, response=answer.body, via=answer.via)


def failure(error: BaseException, peer: str, *, started: bool, via: Via | None = None) -> Failure:
    """Class what went wrong without an answer; ``started`` says that bytes of the request may have left us."""
    if started and is_not_let_in(_below(error)):
        return Retry(f"{peer}: {told_by(_below(error))}", via=via, is_away=True)
    if started:
        return Unknown(f"{peer}: {_what_broke(error)}", via=via)
    return Retry(f"{peer}: {_what_kept_out(error)}", is_away=True)


def while_looking(failure: Failure, what: str) -> Retry:
    """Return what went wrong while something was only looked for: whatever it was, nothing was done."""
    after, is_away = (failure.after, failure.is_away) if isinstance(failure, Retry) else (None, False)
    return Retry(f"{failure.reason} ({what})", after=after, response=failure.response, is_away=is_away)


def _below(error: BaseException) -> BaseException:
    """Return the system's or TLS's own error, which aiohttp wraps in various ways."""
    for inner in (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error.__cause__):
        if isinstance(inner, OSError):
            return inner
    return error


def _what_kept_out(error: BaseException) -> str:
    return NO_SUCH_HOST if type(error).__name__ == "ClientConnectorDNSError" else not_connected(_below(error))


def _what_broke(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no complete answer within the time allowed"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was reset"
    if type(error).__name__ in {"ServerDisconnectedError", "ClientPayloadError"}:
        return "the connection ended before the answer was complete"
    return f"the answer could not be read ({type(error).__name__})"


class Exchange:
    """The connections of one destination.

    ``timeout`` is for a whole exchange, ``connect`` for reaching the peer, both in seconds. With ``reuse`` a
    connection serves many requests; a peer that closes an idle one just then makes the outcome unknown, so it is only
    for destinations that can tell whether an earlier request took effect. ``tls`` is for addresses with https, ``cap``
    the most bytes of an answer that are read into memory.
    """

    def __init__(
        self,
        peer: str,
        *,
        timeout: float,
        connect: float = CONNECT_SECONDS,
        limit: int = 8,
        reuse: bool = False,
        tls: Tls | None = None,
        cap: int = BODY_CAP,
    ) -> None:
        self.peer = peer
        self._cap = cap
        self._timeout = timeout
        self._connect = min(connect, timeout)
        self._limit = limit
        self._reuse = reuse
        self._tls = tls
        self._deadline = Deadline(timeout)
        self._turns = asyncio.Semaphore(limit)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the session; nothing is connected yet."""
        import aiohttp  # noqa: PLC0415 - costs 200 ms, which reading a channel file must not
        import yarl  # noqa: PLC0415

        if self._session is not None:
            return
        self._url = yarl.URL
        self._session = aiohttp.ClientSession(
            connector=make_connector(limit=self._limit, force_close=not self._reuse),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "handoff", "Accept-Encoding": "identity"},
        )
        # Exact, where aiohttp would round up to whole seconds. The time for all of it is up to us: aiohttp sets a timer
        # for each request, and looks up the task that it would end at every step.
        allowed = partial(aiohttp.ClientTimeout, total=None, connect=self._connect, ceil_threshold=inf)
        self._allowed = allowed()
        self._allowed_into = allowed(sock_read=self._timeout)
        self._broken = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
        # When a kept connection breaks, aiohttp sends what is idempotent by its method once more, and nobody is told.
        # Every request is an attempt of ours, though, and written down: the dispatcher says what is sent again, and
        # when. There is no public option; a contract test watches the socket.
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        self._deadline.close()
        if session is not None:
            await session.close()

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        into: Into | None = None,
    ) -> Answer | Failure:
        """Send one request as it is and return the whole answer, or why there is none; redirects are not followed.

        A body that goes ``into`` a file may take as long as it needs, if something of it comes within the time allowed;
        raises `NotKept`.
        """
        session = self._session
        if session is None:
            message = f"{self.peer}: used before open() or after close()"
            raise RuntimeError(message)
        async with self._turns:
            with Way() as way:
                answer = await self._once(session, way, method, url, headers or {}, body, into)
        note_via(way.via)
        return answer

    async def _once(
        self,
        session: "aiohttp.ClientSession",
        way: Way,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        into: Into | None,
    ) -> Answer | Failure:
        limit = self._deadline.begin() if into is None else asyncio.timeout(None)
        try:
            async with limit:
                response = await session.request(
                    method,
                    self._url(url, encoded=True),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    ssl=self._tls.context() if self._tls is not None else True,
                    server_hostname=self._tls.server_name if self._tls is not None else None,
                    timeout=self._allowed if into is None else self._allowed_into,
                )
                status = response.status
                to_file = into if status < 400 else None  # noqa: PLR2004 - refused, RFC 9110 15.5
                try:
                    content = await _read(response, self._cap) if to_file is None else await _keep(response, to_file)
                except BaseException:
                    response.close()  # what is left of the answer would be taken for the next one
                    raise
        except self._broken as error:
            return failure(error, self.peer, started=way.is_connected, via=way.via)
        finally:
            self._deadline.end(limit)
        if content is None:
            most = to_file.most if to_file is not None else self._cap
            return Unknown(
                f"{self.peer}: HTTP {status} with more than {most} bytes; the rest was not read", via=way.via
            )
        return Answer(status, {name.lower(): value for name, value in response.headers.items()}, content, way.via)


async def _read(response: "aiohttp.ClientResponse", cap: int) -> bytes | None:
    """Read the body up to the cap; None when there is more."""
    content = response.content
    if content.is_eof():  # it came together with the headers, as most do
        whole = content.read_nowait()
        return whole if len(whole) <= cap else None
    parts: list[bytes] = []
    size = 0
    async for part in content.iter_any():
        size += len(part)
        if size > cap:
            response.close()
            return None
        parts.append(part)
    return b"".join(parts)


async def _keep(response: "aiohttp.ClientResponse", into: Into) -> bytes | None:
    """Write the body to its file, and return nothing of it; None when there is more than allowed."""
    size = 0
    async for part in response.content.iter_chunked(_CHUNK):
        size += len(part)
        if size > into.most:
            response.close()
            return None
        try:
            await asyncio.to_thread(into.file.write, part)
        except OSError as error:
            raise NotKept((error.strerror or "it failed").lower()) from None
    return b""
