"""This module authorises requests: with what the configuration holds, or with a token that it fetches and keeps.

Tokens are kept in memory only, and none of them reaches a reason or a log. Where no token can be had, nothing was sent
to the system itself, so the delivery waits (`Retry`), also when the token endpoint refused for good: what is wrong then
is the configuration, for all deliveries alike, and they go on by themselves once it is mended.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from broker.delivery import Retry, Unknown
from broker.errors import ConfigError
from broker.places import reveal
from dispatch.http import Answer, Exchange, Failure, Into

_VISIBLE: Final = re.compile(r"[\x20-\x7e]+")


class Credentials(Protocol):
    """What authorises the requests to one system."""

    @property
    def query(self) -> Mapping[str, str]:
        """What has to be added to the query of every address; mostly nothing."""

    @property
    def base(self) -> str:
        """The system's address as the last token's answer named it, without a slash at its end; mostly empty."""

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the headers that authorise a request, or why no token can be had: then nothing was sent."""

    def refuse(self, headers: Mapping[str, str] | None = None) -> None:
        """Forget a token that the other side did not take (401), so that the next call gets a new one.

        With the ``headers`` of the request that was refused, a token that was fetched meanwhile is kept.
        """

    @property
    def renewable(self) -> bool:
        """Whether trying once more after `refuse` can help."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Credentials that are the same for every request."""

    fixed: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    base: str = ""
    renewable: bool = False

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the headers."""
        return self.fixed

    def refuse(self, headers: Mapping[str, str] | None = None) -> None:
        """Change nothing: there is no other token."""


def build_credentials(spec: Any, peer: str, http: Exchange, *, base: str = "", data: Path | None = None) -> Credentials:
    """Build what a `config.auth.AuthSpec` asks for; None asks for nothing.

    ``peer`` is what reasons call the system, ``http`` its connections, ``base`` its address (for discovery), ``data``
    the data folder (for the engine's own keys and for refresh tokens that change). Raises `ConfigError`.
    """
    for kind, build in _FIXED.items():
        found = getattr(spec, kind, None)
        if found is not None:
            return build(found, f"{peer}, auth.{kind}")
    from dispatch.grants import GRANTS  # noqa: PLC0415 - brings cryptography's keys along, which few need
    from dispatch.token import TokenCredentials  # noqa: PLC0415

    for kind, make in GRANTS.items():
        found = getattr(spec, kind, None)
        if found is not None:
            grant = make(found, peer, base, data)
            return TokenCredentials(
                grant,
                peer,
                http,
                scheme=getattr(found, "scheme", "Bearer"),
                base_from=getattr(found, "base_from", None),
            )
    return Fixed()


async def authorised_exchange(
    http: Exchange,
    credentials: Credentials,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    into: Into | None = None,
) -> Answer | Failure:
    """Send a request with its credentials; where they were refused (401) and can be renewed, once more with new ones.

    A request that was refused had no effect, so the second is not a repetition. Where there is no token, the request is
    not sent and the answer is a `Retry`.
    """
    authorised = await credentials.headers()
    if isinstance(authorised, Retry | Unknown):
        return authorised
    url = with_query(url, credentials.query)
    answer = await http.exchange(method, url, {**headers, **authorised}, body, into)
    if not isinstance(answer, Answer) or answer.status != 401 or not credentials.renewable:  # noqa: PLR2004 - RFC 9110
        return answer
    credentials.refuse(authorised)
    authorised = await credentials.headers()
    if isinstance(authorised, Retry | Unknown):
        return authorised
    return await http.exchange(method, url, {**headers, **authorised}, body, into)


def basic(name: str, password: str) -> str:
    """Return the value of an Authorization header of HTTP's Basic scheme (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode("ascii")


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Return an address with more in its query."""
    if not query:
        return url
    more = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return f"{url}{'&' if '?' in url else '?'}{more}"


def _bearer(spec: Any, where: str) -> Fixed:
    return Fixed({"Authorization": f"Bearer {_sendable(reveal(spec.token), where)}"})


def _basic(spec: Any, _where: str) -> Fixed:
    return Fixed({"Authorization": basic(spec.username, reveal(spec.password))})


def _api_key(spec: Any, where: str) -> Fixed:
    value = _sendable(f"{spec.prefix}{reveal(spec.secret)}", where)
    return Fixed(query={spec.query: value}) if spec.query else Fixed({spec.header: value})


def _sendable(value: str, where: str) -> str:
    """Return a value that fits into one header; raise `ConfigError`, without it, when it does not."""
    if not _VISIBLE.fullmatch(value):
        message = f"{where}: the secret has characters that no header can hold (a line end, a letter beyond ASCII)"
        raise ConfigError(message)
    return value


_FIXED: Final = {"bearer": _bearer, "basic": _basic, "api_key": _api_key}
