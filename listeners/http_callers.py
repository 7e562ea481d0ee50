"""This module tells who calls over HTTP: by a token, a key, a password, a certificate, or a signature.

Every comparison with a secret takes the same time, whatever was sent. What was wrong is never said to the caller.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

import jwt

from listeners.http_keys import Keys, KeysAway
from listeners.http_request import RETRY_AFTER, Refusal, Request

UNKNOWN: Final = "nobody knows this caller; check its credentials against `callers` in handoff.yaml"
_CLAIMS: Final = ["exp", "iss", "aud"]
_ASKS: Final = {"bearer": "Bearer", "jwt": "Bearer", "basic": 'Basic realm="handoff", charset="UTF-8"'}

# Checks the signature of a whole request: request, body, secrets (the newest first), now (POSIX seconds).
Signed = Callable[[Request, bytes, Sequence[str], float], bool]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and what it may do at a FHIR endpoint (None: anything)."""

    name: str
    scopes: frozenset[str] | None = None


ANYBODY: Final = Caller("")


class Callers:
    """Those who may call one listener. ``specs`` are of `config.callers.CallerSpec`, by name.

    ``in_body`` says that the listener finds users and passwords in bodies, too.
    """

    def __init__(
        self, specs: Mapping[str, Any], root: Path, signed: Signed | None = None, *, in_body: bool = False
    ) -> None:
        self._specs = specs
        self._signed = signed
        self._in_body = in_body
        self._keys = {name: Keys(spec.jwt.jwks, root) for name, spec in specs.items() if spec.jwt is not None}
        self._signers = {name: spec for name, spec in specs.items() if spec.signature is not None}

    async def identify(self, request: Request) -> Caller | None:
        """Return who calls, by the head alone; None where the body must tell. Raises `Refusal` (401, 503)."""
        if not self._specs:
            return ANYBODY
        for name, spec in self._specs.items():
            if _shows(request, spec):
                return Caller(name, None if spec.scopes is None else frozenset(spec.scopes))
        found = await self._by_token(request)
        if found is None and not self._signers and not self._in_body:
            raise self.stranger()
        return found

    def verify(self, request: Request, body: bytes) -> Caller:
        """Return whose signature this is. Raises `Refusal` (401)."""
        now = time.time()
        for name, spec in self._signers.items():
            secrets = live(spec.signature.secret, spec.signature.old_secret)
            if self._signed is not None and self._signed(request, body, secrets, now):
                return Caller(name, None if spec.scopes is None else frozenset(spec.scopes))
        raise self.stranger()

    def by_password(self, user: str, shows: Callable[[str], bool]) -> Caller | None:
        """Return the caller with this user whose password ``shows`` finds right; each is looked at."""
        found = None
        for name, spec in self._specs.items():
            if spec.basic is None:
                continue
            known = [shows(password) for password in live(spec.basic.password, spec.basic.old_password)]
            if is_one_of(user, [spec.basic.user]) and any(known):
                found = Caller(name, None if spec.scopes is None else frozenset(spec.scopes))
        return found

    def stranger(self) -> Refusal:
        """Return the refusal of somebody whom nobody knows; what was wrong is not said."""
        asks = {_ASKS[kind] for spec in self._specs.values() for kind in spec.kinds() if kind in _ASKS}
        return Refusal(401, UNKNOWN, headers={"www-authenticate": ", ".join(sorted(asks)) or "Signature"})

    async def _by_token(self, request: Request) -> Caller | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not self._keys:
            return None
        away = ""
        for name, keys in self._keys.items():
            spec = self._specs[name]
            try:
                claims = await _claims(token.strip(), spec.jwt, keys)
            except KeysAway as error:
                away = str(error)
                continue
            if claims is not None:
                return Caller(name, _scopes(claims, spec.scopes))
        if away:
            raise Refusal(503, away, headers={"retry-after": RETRY_AFTER})
        return None


def live(secret: Any, old: Any) -> list[str]:
    """Return the values of a secret and of the one before, where it is still taken."""
    return [each.reveal() for each in (secret, old) if each is not None]


def is_one_of(given: str, wanted: Iterable[str]) -> bool:
    """Tell whether a text is one of some secrets, in a time that says nothing of them."""
    digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
    found = [hmac.compare_digest(digest, hashlib.sha256(each.encode()).digest()) for each in wanted]
    return any(found)


def _shows(request: Request, spec: Any) -> bool:
    """Tell whether the head of a request holds what a caller of this kind shows."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if spec.bearer is not None:
        return scheme.lower() == "bearer" and is_one_of(value.strip(), live(spec.bearer.token, spec.bearer.old_token))
    if spec.basic is not None:
        wanted = [
            base64.b64encode(f"{spec.basic.user}:{password}".encode()).decode()
            for password in live(spec.basic.password, spec.basic.old_password)
        ]
        return scheme.lower() == "basic" and is_one_of(value.strip(), wanted)
    if spec.api_key is not None:
        return is_one_of(_key(request, spec.api_key), live(spec.api_key.secret, spec.api_key.old_secret))
    if spec.certificate is not None:
        shown = {name.lower() for name in request.certificate}
        return any(name.lower().replace(":", "") in shown or name.lower() in shown for name in spec.certificate)
    return False


def _key(request: Request, spec: Any) -> str:
    if spec.query is None:
        return request.headers.get(spec.header.lower(), "")
    found = parse_qs(request.query).get(spec.query, [])
    return found[0] if len(found) == 1 else ""


async def _claims(token: str, spec: Any, keys: Keys) -> Mapping[str, Any] | None:
    """Return what a token says, where it is signed, meant for us, and valid now; else None."""
    try:
        head = jwt.get_unverified_header(token)
        if head.get("alg") not in spec.algorithms:
            return None
        key = await keys.find(str(head.get("kid") or ""))
        if key is None:
            return None
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key,
            algorithms=spec.algorithms,
            audience=spec.audience,
            issuer=spec.issuer,
            leeway=spec.skew,
            options={"require": _CLAIMS},
        )
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    who = {claims.get(name) for name in ("client_id", "azp", "sub")}
    return claims if not spec.clients or who & set(spec.clients) else None


def _scopes(claims: Mapping[str, Any], allowed: list[str] | None) -> frozenset[str]:
    """Return the scopes of a token (text or list); where the caller has scopes of its own, what both have."""
    given = claims.get("scope", claims.get("scp", ""))
    held = frozenset(given.split() if isinstance(given, str) else map(str, given or ()))
    return held if allowed is None else held & frozenset(allowed)
