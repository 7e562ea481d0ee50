"""This module asks for access tokens in the ways that systems know: client secret, signed assertion, refresh token.

Sources: RFC 6749 (4.4 client credentials, 6 refresh), RFC 7523 (2.1 assertion as grant, 2.2 assertion as client
authentication), SMART Backend Services (hl7.org/fhir/smart-app-launch, backend-services and asymmetric client).
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus
from weakref import WeakValueDictionary

from broker.delivery import Retry
from broker.errors import ConfigError
from broker.places import reveal
from dispatch.auth import basic
from dispatch.http import Answer, Exchange, Failure, while_looking
from dispatch.key_folder import choose, write_privately
from dispatch.signing import SigningKey, read_key
from dispatch.token import Grant, TokenRequest

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SMART_ALGORITHMS: Final = ("RS384", "ES384")  # what every SMART server has to take; the first is preferred
_WELL_KNOWN: Final = ".well-known/smart-configuration"
_TOKENS: Final = "tokens"  # folder of refresh tokens below the data folder

# Two destinations may use one refresh token; whoever uses it second must see what the first one got.
_LOCKS: Final[WeakValueDictionary[Path, asyncio.Lock]] = WeakValueDictionary()


@dataclass(slots=True)
class _Stateless:
    """A grant that needs to remember nothing."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def forget(self) -> None:
        """Forget nothing."""


@dataclass(slots=True)
class ClientCredentials(_Stateless):
    """A client id and a secret (RFC 6749, 4.4), in the Authorization header or in the body."""

    spec: Any

    async def request(self, _http: Exchange, _now: float) -> TokenRequest | Failure:
        """Return the form."""
        spec = self.spec
        form = {"grant_type": "client_credentials", **_given(spec, "scope", "audience", "resource"), **spec.fields}
        return _authenticated(spec, form)


@dataclass(slots=True)
class JwtBearer(_Stateless):
    """An assertion that we sign as the grant itself (RFC 7523, 2.1), as Salesforce and Google take it."""

    spec: Any
    where: str
    data: Path | None

    async def request(self, _http: Exchange, now: float) -> TokenRequest | Failure:
        """Return the form with a fresh assertion."""
        spec = self.spec
        claims = {
            "iss": spec.issuer,
            **({"sub": spec.subject} if spec.subject else {}),
            "aud": spec.audience or spec.token_url,
            **_times(now, spec.lifetime),
            **({"scope": spec.scope} if spec.scope else {}),
            **spec.claims,
        }
        key = _key(spec, self.where, self.data, now, (spec.algorithm,))
        return TokenRequest(spec.token_url, {"grant_type": _JWT_BEARER, "assertion": key.sign(claims), **spec.fields})


@dataclass(slots=True)
class RefreshToken:
    """A refresh token (RFC 6749, 6); where the endpoint answers with another one, that is kept on disk."""

    spec: Any
    path: Path | None
    lock: asyncio.Lock

    async def request(self, _http: Exchange, _now: float) -> TokenRequest | Failure:
        """Return the form with the newest refresh token."""
        spec = self.spec
        form = {"grant_type": "refresh_token", "refresh_token": self._newest(), **_given(spec, "scope"), **spec.fields}
        return _authenticated(spec, form)

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Keep another refresh token, before the access token that came with it is used."""
        fresh = answer.get("refresh_token")
        if isinstance(fresh, str) and fresh and fresh != self._newest():
            if self.path is None:
                raise ConfigError("the refresh token changed and there is no data folder to keep it in")
            write_privately(self.path, fresh.encode())

    def forget(self) -> None:
        """Forget nothing: a refresh token that was refused may have been refused in passing."""

    def _newest(self) -> str:
        if self.path is not None and self.path.is_file():
            return self.path.read_text()
        return reveal(self.spec.token)


@dataclass(slots=True)
class Smart:
    """SMART Backend Services: an assertion that we sign authenticates the client (RFC 7523, 2.2).

    The token endpoint is what the server's ``.well-known/smart-configuration`` says, unless the configuration names it.
    """

    spec: Any
    where: str
    base: str
    data: Path | None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    found: tuple[str, tuple[str, ...]] | None = None  # token endpoint, and what it says that it takes

    async def request(self, http: Exchange, now: float) -> TokenRequest | Failure:
        """Return the form with a fresh assertion, after looking the token endpoint up."""
        spec = self.spec
        if self.found is None:
            found = (spec.token_url, ()) if spec.token_url else await self._discover(http)
            if not isinstance(found, tuple):
                return found
            self.found = found
        url, taken = self.found
        wanted = (
            (spec.algorithm,)
            if spec.algorithm
            else tuple(name for name in SMART_ALGORITHMS if not taken or name in taken)
        )
        key = _key(spec, self.where, self.data, now, wanted or SMART_ALGORITHMS)
        claims = {
            "iss": spec.client_id,
            "sub": spec.client_id,
            "aud": spec.audience or url,
            **_times(now, spec.lifetime),
        }
        form = {
            "grant_type": "client_credentials",
            "scope": spec.scope,
            "client_assertion_type": _ASSERTION,
            "client_assertion": key.sign(claims, {"jku": spec.jku} if spec.jku else None),
            **spec.fields,
        }
        return TokenRequest(url, form)

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def forget(self) -> None:
        """Look the token endpoint up again the next time; it may have moved."""
        self.found = None

    async def _discover(self, http: Exchange) -> tuple[str, tuple[str, ...]] | Failure:
        answer = await http.exchange("GET", f"{self.base}/{_WELL_KNOWN}", {"Accept": "application/json"})
        if not isinstance(answer, Answer):
            return while_looking(answer, f"while reading {_WELL_KNOWN}")
        said = answer.json_object() if answer.status == 200 else {}  # noqa: PLR2004 - RFC 8414, 3.2
        url = said.get("token_endpoint")
        if not isinstance(url, str) or not _is_safe(url, self.base):
            hint = "name it with `token_url`"
            return Retry(f"HTTP {answer.status}: {_WELL_KNOWN} names no token endpoint over https; {hint}")
        taken = said.get("token_endpoint_auth_signing_alg_values_supported")
        return url, tuple(name for name in taken if isinstance(name, str)) if isinstance(taken, list) else ()


def _is_safe(url: str, base: str) -> bool:
    """Say whether an endpoint that a server named may get our assertion: over TLS, unless the server itself is not."""
    return url.startswith("https://") or (base.startswith("http://") and url.startswith("http://"))


def _given(spec: Any, *names: str) -> dict[str, str]:
    return {name: str(value) for name in names if (value := getattr(spec, name, None))}


def _authenticated(spec: Any, form: dict[str, str]) -> TokenRequest:
    """Return a request with the client's id and secret where the endpoint wants them (RFC 6749, 2.3.1)."""
    secret = reveal(spec.client_secret) if spec.client_secret is not None else ""
    if spec.secret_in == "basic" and secret:  # noqa: S105 - a place, no secret
        authorization = basic(quote_plus(spec.client_id), quote_plus(secret))
        return TokenRequest(spec.token_url, form, {"Authorization": authorization})
    return TokenRequest(
        spec.token_url, {**form, "client_id": spec.client_id, **({"client_secret": secret} if secret else {})}
    )


def _times(now: float, lifetime: float) -> dict[str, Any]:
    return {"iat": int(now), "exp": int(now + lifetime), "jti": secrets.token_urlsafe(24)}


def _key(spec: Any, where: str, data: Path | None, now: float, algorithms: Sequence[str]) -> SigningKey:
    """Return the key that is configured, or the newest of the engine's own."""
    if spec.private_key is not None:
        return read_key(reveal(spec.private_key), f"{where}.private_key", algorithm=spec.algorithm, name=spec.kid or "")
    if data is None:
        message = f"{where}: needs `private_key`, because there is no data folder with keys here"
        raise ConfigError(message)
    return choose(data, now, algorithms)


def _client_credentials(spec: Any, _peer: str, _base: str, _data: Path | None) -> Grant:
    return ClientCredentials(spec)


def _jwt_bearer(spec: Any, peer: str, _base: str, data: Path | None) -> Grant:
    grant = JwtBearer(spec, f"{peer}, auth.jwt_bearer", data)
    _try_key(spec, grant.where, data)
    return grant


def _refresh_token(spec: Any, _peer: str, _base: str, data: Path | None) -> Grant:
    # Named by what was configured, so that another token in the configuration is not overruled by an older one on disk.
    name = sha256("\0".join((spec.token_url, spec.client_id, reveal(spec.token))).encode()).hexdigest()[:32]
    path = data / _TOKENS / name if data is not None else None
    lock = asyncio.Lock() if path is None else _LOCKS.setdefault(path, asyncio.Lock())
    return RefreshToken(spec, path, lock)


def _smart(spec: Any, peer: str, base: str, data: Path | None) -> Grant:
    grant = Smart(spec, f"{peer}, auth.smart", base, data)
    _try_key(spec, grant.where, data)
    return grant


def _try_key(spec: Any, where: str, data: Path | None) -> None:
    """Raise `ConfigError` now when the key that is configured cannot sign; keys of our own may still be made."""
    if spec.private_key is not None:
        _key(spec, where, data, 0.0, ())


GRANTS: Final[Mapping[str, Callable[[Any, str, str, Path | None], Grant]]] = {
    "client_credentials": _client_credentials,
    "jwt_bearer": _jwt_bearer,
    "refresh_token": _refresh_token,
    "smart": _smart,
}
