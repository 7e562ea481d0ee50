"""This module says what a gateway for texts is, and exchanges requests and answers with those that speak HTTP."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from broker.delivery import Outcome, Rejected
from broker.tls import Tls
from dispatch.http import Answer, Exchange

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Text:
    """One text: ``to`` in E.164; ``key`` is the delivery's idempotency key, opaque."""

    to: str = field(repr=False)
    body: str = field(repr=False)
    key: str


class Gateway(Protocol):
    """Carries texts. What it tells of one is a `Suppressed` where the recipient has opted out."""

    async def open(self) -> None:
        """Get ready to send. Must not fail because the gateway is down."""

    async def send(self, text: Text) -> Outcome:
        """Attempt one text."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, whole: secrets are in it, so it is made for an attempt and kept nowhere."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    method: str = "POST"


class Api(Protocol):
    """What one HTTP gateway says and understands; pure, but for the secrets that it looks up."""

    def request(self, text: Text) -> Request:
        """Return the request that asks for a text to be sent."""

    def outcome(self, answer: Answer, now: float) -> Outcome:
        """Class an answer; ``now`` in POSIX seconds."""


class HttpGateway:
    """Carries texts over HTTP, each over a connection of its own.

    A gateway that closes an idle connection just as the next text is on its way would leave nobody knowing.
    """

    def __init__(self, name: str, api: Api, *, timeout: float, limit: int, tls: Tls | None = None) -> None:
        self.api = api
        self._http = Exchange(f"gateway {name}", timeout=timeout, limit=limit, reuse=False, tls=tls)

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, text: Text) -> Outcome:
        """Attempt one text."""
        request = self.api.request(text)
        answer = await self._http.exchange(request.method, request.url, request.headers, request.body)
        return self.api.outcome(answer, time.time()) if isinstance(answer, Answer) else answer


def usable_reference(value: object, longest: int = 64) -> str:
    """Return a gateway's name for a text where it looks like one, else nothing."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if 0 < len(text) <= longest and text.isascii() and text.isprintable() and " " not in text else ""


def refused_credentials(reason: str, gateway: str, response: bytes) -> Rejected:
    """Return the outcome of a text whose gateway did not take our credentials."""
    advice = f"the gateway refused the credentials; mend gateways.{gateway} in handoff.yaml, then replay"
    return Rejected(f"{reason}: {advice}", response=response)
