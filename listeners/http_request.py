"""This module is one request over HTTP as a listener sees it, and what it answers: no sockets, no framework."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from broker.errors import NotAccepted

RETRY_AFTER: Final = "5"  # seconds until a sender may try again what we could not do
_OURS: Final = 500  # statuses from here on are our fault
_LATER: Final = 503
_THEIRS: Final = 422
_UNREADABLE: Final = 400


class Refusal(Exception):
    """A request that is not served: the status (RFC 9110), and why, in words that hold nothing of the request."""

    def __init__(self, status: int, text: str, *, location: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.location = location
        self.headers = dict(headers or {})

    @property
    def is_ours(self) -> bool:
        """Say whether the request is at no fault: it may come again as it is (RFC 9110, 15.6)."""
        return self.status >= _OURS


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Request:
    """The head of a request; names of headers are in lower case, ``certificate`` holds the names of the peer's."""

    method: str
    path: str  # as in the route: percent-encoding undone
    rest: str  # what follows the path that the listener has
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    peer: str = ""
    certificate: tuple[str, ...] = ()
    url: str = field(default="", repr=False)  # what the peer called, as it would sign it; the Host header is not asked
    read: Callable[[int, float], Awaitable[bytes]] = field(repr=False)

    @property
    def host(self) -> str:
        """The peer's address without its port."""
        return self.peer.rpartition(":")[0]

    def called(self, base: str) -> str:
        """Return an address with the query of this request behind it."""
        return f"{base}?{self.query}" if self.query else base

    @property
    def content_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def body(self, largest: int, seconds: float) -> bytes:
        """Return the whole body; raise `Refusal` where it is larger (413) or does not come in time (408)."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > largest:
            raise Refusal(413, f"the body has {length} bytes, and {largest} are allowed; send it in parts")
        return await self.read(largest, seconds)


def refused(error: NotAccepted) -> Refusal:
    """Return the refusal of a message that the intake did not take: our fault (503) or the message's (422)."""
    if error.is_ours:
        return Refusal(_LATER, str(error), headers={"retry-after": RETRY_AFTER})
    is_syntax = not error.location or ", column " in error.location  # else it was read, and something in it is wrong
    status = _UNREADABLE if error.code == "AR" and is_syntax else _THEIRS
    return Refusal(status, str(error), location=error.location)


def problem(refusal: Refusal) -> Answer:
    """Return a refusal as problem details (RFC 9457), with the place in the message where that is known."""
    told: dict[str, Any] = {"status": refusal.status, "detail": str(refusal)}
    if refusal.location:
        told["location"] = refusal.location
    return Answer(refusal.status, orjson.dumps(told), "application/problem+json", refusal.headers)
