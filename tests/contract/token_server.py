"""This module is a token endpoint on real HTTP that believes nothing: it checks secrets, and signatures against a JWKS.

What it checks them with is `cryptography` alone, written from RFC 7515 and RFC 7518, and no code of the product.
"""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

CLIENT = "client-1"
SECRET = "top s3cret/+"  # characters that RFC 6749, 2.3.1 has encoded
SMART = "/.well-known/smart-configuration"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def unpadded(text: str) -> bytes:
    """Decode base64url without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    """Return a number of a JSON Web Key."""
    return int.from_bytes(unpadded(text), "big")


def verify(token: str, jwks: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT; raise unless a key of the set has signed it."""
    head, claims, signature = token.split(".")
    header = json.loads(unpadded(head))
    (jwk,) = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    assert jwk["alg"] == header["alg"]
    assert "d" not in jwk
    data, raw = f"{head}.{claims}".encode(), unpadded(signature)
    digest = SHA384() if header["alg"].endswith("384") else SHA256()
    if jwk["kty"] == "RSA":
        public = rsa.RSAPublicNumbers(number(jwk["e"]), number(jwk["n"])).public_key()
        public.verify(raw, data, padding.PKCS1v15(), digest)
    else:
        curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}[jwk["crv"]]
        point = ec.EllipticCurvePublicNumbers(number(jwk["x"]), number(jwk["y"]), curve).public_key()
        half = len(raw) // 2
        both = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        point.verify(encode_dss_signature(*both), data, ec.ECDSA(digest))
    return header, json.loads(unpadded(claims))


@dataclass
class TokenServer:
    """Gives ``token-1``, ``token-2`` …; ``answer`` overrules what it says, ``rotates`` changes refresh tokens."""

    jwks: dict[str, Any] = field(default_factory=lambda: {"keys": []})
    base: str = ""
    expires_in: Any = 300
    extra: dict[str, Any] = field(default_factory=dict)
    answer: Answering | None = None
    configuration: dict[str, Any] | None = None
    rotates: bool = False
    refresh: str = "refresh-0"
    forms: list[dict[str, str]] = field(default_factory=list)
    assertions: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    tokens: int = 0
    looked_up: int = 0
    _seen: set[str] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_get(f"/fhir{SMART}", self._smart)
        self.add_routes(app)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"

    def add_routes(self, app: web.Application) -> None:
        """Add what else is served; nothing here."""

    async def stop(self) -> None:
        """Close the port."""
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The token endpoint."""
        return f"{self.base}/token"

    async def _smart(self, _request: web.Request) -> web.StreamResponse:
        self.looked_up += 1
        told = {"token_endpoint": self.url, "capabilities": ["client-confidential-asymmetric"]}
        return web.json_response(told if self.configuration is None else self.configuration)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        if self.answer is not None:
            return await self.answer(request)
        error = self._refusal(form, request.headers.get("Authorization", ""))
        if error:
            return web.json_response({"error": error, "error_description": "Okafor s3cret"}, status=400)
        self.tokens += 1
        said = {"access_token": f"token-{self.tokens}", "token_type": "Bearer", **self.extra}
        if self.expires_in is not None:
            said["expires_in"] = self.expires_in
        if self.rotates and form["grant_type"] == "refresh_token":
            self.refresh = said["refresh_token"] = f"refresh-{self.tokens}"
        return web.json_response(said)

    def _refusal(self, form: dict[str, str], authorization: str) -> str:
        kind = form["grant_type"]
        if kind == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return self._wrong(form["assertion"])
        if "client_assertion" in form:
            wanted = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            return (
                self._wrong(form["client_assertion"], subject=CLIENT)
                if form["client_assertion_type"] == wanted
                else "?"
            )
        if kind == "refresh_token" and form["refresh_token"] != self.refresh:
            return "invalid_grant"
        if authorization.startswith("Basic "):
            given = base64.b64decode(authorization[6:]).decode().split(":")
            pair = tuple(unquote_plus(part) for part in given)
        else:
            pair = (form.get("client_id", ""), form.get("client_secret", ""))
        return "" if pair == (CLIENT, SECRET) else "invalid_client"

    def _wrong(self, assertion: str, subject: str | None = None) -> str:
        try:
            header, claims = verify(assertion, self.jwks)
        except (InvalidSignature, ValueError, AssertionError, KeyError):
            return "invalid_client"
        self.assertions.append((header, claims))
        now = time.time()
        if claims["aud"] != self.url or not now - 5 < claims["exp"] <= now + 300 or claims["jti"] in self._seen:
            return "invalid_client"
        self._seen.add(claims["jti"])
        right = claims["iss"] == CLIENT and subject in {None, claims.get("sub")}
        return "" if right else "invalid_client"
