"""This module fetches access tokens (OAuth 2.0, RFC 6749) and keeps each until shortly before it expires.

One task fetches while the others wait for what it gets. A token endpoint that failed is left alone for a while, so that
a queue of deliveries does not lock the account that it cannot log in to.
"""

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from urllib.parse import urlencode

from broker.delivery import Retry
from broker.errors import ConfigError
from dispatch.http import Answer, Exchange, Failure, retry_after, web_address

REFUSED_PAUSE: Final = 60.0  # seconds for which an endpoint that refused us is not asked again
FAILED_PAUSE: Final = 5.0  # … and one that could not be reached or broke down

_MARGIN: Final = 60.0  # seconds before its end from which a token is not used any more …
_SHARE: Final = 0.2  # … or this share of its life, where that is less
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
_CODE: Final = re.compile(r"[A-Za-z_.-]{1,60}")
_NOT_NOW: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})  # RFC 6749, 4.1.2.1


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is sent to a token endpoint."""

    url: str
    form: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Grant(Protocol):
    """One way of asking for a token."""

    @property
    def lock(self) -> asyncio.Lock:
        """What is held from making the request to keeping its answer."""

    async def request(self, http: Exchange, now: float) -> TokenRequest | Failure:
        """Return what to send, or why that cannot be said; raise `ConfigError` when a key is missing."""

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Keep what a granted answer changes for the next request."""

    def forget(self) -> None:
        """Forget what was discovered, after a request that was not granted."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token; ``until`` is the end of its use in POSIX seconds, infinite where the endpoint did not say."""

    headers: Mapping[str, str] = field(repr=False)
    until: float
    base: str = ""


class TokenCredentials:
    """Credentials whose token is fetched when it is needed; `dispatch.auth.Credentials` says what its members mean."""

    query: Mapping[str, str] = {}
    renewable = True

    def __init__(
        self,
        grant: Grant,
        peer: str,
        http: Exchange,
        *,
        scheme: str = "Bearer",
        base_from: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._grant = grant
        self._peer = peer
        self._http = http
        self._scheme = scheme
        self._base_from = base_from
        self._clock = clock
        self._token: Token | None = None
        self._failed: Retry | None = None
        self._paused_until = 0.0

    @property
    def base(self) -> str:
        """Return the address that the last token came with."""
        return self._token.base if self._token else ""

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the header with the token, fetched if there is none that lasts."""
        found = self._at_hand()
        if found is not None:
            return found
        async with self._grant.lock:
            found = self._at_hand()  # another task may have fetched it meanwhile
            return await self._fetch() if found is None else found

    def refuse(self, headers: Mapping[str, str] | None = None) -> None:
        """Forget the token, unless it is another than the one in ``headers``."""
        if self._token is not None and (headers is None or headers == self._token.headers):
            self._token = None

    def _at_hand(self) -> Mapping[str, str] | Failure | None:
        now = self._clock()
        if self._token is not None and now < self._token.until:
            return self._token.headers
        if self._failed is not None and now < self._paused_until:
            return replace(self._failed, after=self._paused_until - now)
        return None

    async def _fetch(self) -> Mapping[str, str] | Failure:
        try:
            request = await self._grant.request(self._http, self._clock())
        except ConfigError as error:
            return self._pause(str(error), REFUSED_PAUSE)
        if not isinstance(request, TokenRequest):
            return self._pause(request.reason, getattr(request, "after", None) or FAILED_PAUSE, request)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **request.headers}
        answer = await self._http.exchange("POST", request.url, headers, urlencode(request.form).encode("ascii"))
        if not isinstance(answer, Answer):
            return self._pause(answer.reason, FAILED_PAUSE, answer)
        found = self._read(answer)
        if isinstance(found, Retry):
            self._grant.forget()
            return self._pause(found.reason, found.after or REFUSED_PAUSE)
        self._token, self._failed = found, None
        return found.headers

    def _pause(self, why: str, seconds: float, failure: Failure | None = None) -> Retry:
        text = why.removeprefix(f"{self._peer}: ")
        is_away = isinstance(failure, Retry) and failure.is_away
        self._failed = Retry(f"{self._peer}: no token ({text})", after=seconds, is_away=is_away)
        self._paused_until = self._clock() + seconds
        return self._failed

    def _read(self, answer: Answer) -> Token | Retry:
        """Read what the endpoint said: a token, or why it gives none (RFC 6749, 5.1 and 5.2)."""
        said = answer.json_object()
        error = _error(said)
        if answer.status != 200 or error:  # noqa: PLR2004 - Zoho answers 200 with an error inside
            return self._not_granted(answer, error)
        text = said.get("access_token")
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            return Retry("the token endpoint answered 200 without a token", after=REFUSED_PAUSE)
        base = self._named_base(said)
        if base is None:
            return Retry(f"the token endpoint's answer has no address in {self._base_from}", after=REFUSED_PAUSE)
        try:
            self._grant.keep(said)
        except (ConfigError, OSError) as error:
            return Retry(f"what the token endpoint answered cannot be kept: {error}", after=REFUSED_PAUSE)
        return Token({"Authorization": f"{self._scheme} {text}"}, self._clock() + _use(said.get("expires_in")), base)

    def _not_granted(self, answer: Answer, error: str) -> Retry:
        now = self._clock()
        what = f"HTTP {answer.status}" + (f", {error}" if error else "")
        if answer.status == 429 or answer.status >= 500 or error in _NOT_NOW:  # noqa: PLR2004 - RFC 9110 15.6, 6585 4
            after = retry_after(answer.headers, now) or FAILED_PAUSE
            return Retry(f"the token endpoint cannot answer now: {what}", after=after)
        return Retry(f"the token endpoint refused: {what}; mend `auth:` in handoff.yaml", after=REFUSED_PAUSE)

    def _named_base(self, said: Mapping[str, Any]) -> str | None:
        if not self._base_from:
            return ""
        try:
            return web_address(said.get(self._base_from), "the token's answer")
        except ConfigError:
            return None


def _use(lifetime: Any) -> float:
    """Return for how many seconds a token is used; Zoho and Salesforce may not say, others write digits as text."""
    try:
        seconds = float(lifetime)
    except (TypeError, ValueError):
        return math.inf
    return seconds - min(_MARGIN, seconds * _SHARE) if seconds > 0 else math.inf


def _error(said: Mapping[str, Any]) -> str:
    """Return the error code of an answer, which is all of it that may be repeated; descriptions may hold names."""
    error = said.get("error")
    if error is None or error == "":
        return ""
    return error if isinstance(error, str) and _CODE.fullmatch(error) else "an error that is no code"
