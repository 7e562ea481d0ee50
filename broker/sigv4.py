"""This module signs requests to S3-compatible stores: AWS Signature Version 4, with the signature in a header.

Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk".
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from broker.hosts import PORTS

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SAFE: Final = "-_.~"  # RFC 3986, 2.3: what is never encoded


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, for which region and service."""

    access_key: str
    secret: str = field(repr=False)
    region: str
    token: str = field(default="", repr=False)
    service: str = "s3"

    def sign(self, method: str, url: str, headers: Mapping[str, str], digest: str, at: float) -> dict[str, str]:
        """Return the headers of a request, signed; ``digest`` is the body's SHA-256 in hex, ``at`` POSIX seconds.

        ``url`` is encoded already, and goes on the wire as it is.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
        full = {**headers, "Host": host_of(url), "x-amz-content-sha256": digest, "x-amz-date": moment}
        if self.token:
            full["x-amz-security-token"] = self.token
        names, request = canonical(method, url, full, digest)
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        told = "\n".join((_ALGORITHM, moment, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = _signing_key(self.secret, moment[:8], self.region, self.service)
        signature = hmac.new(key, told.encode(), hashlib.sha256).hexdigest()
        credential = f"Credential={self.access_key}/{scope}"
        full["Authorization"] = f"{_ALGORITHM} {credential},SignedHeaders={names},Signature={signature}"
        return full


def canonical(method: str, url: str, headers: Mapping[str, str], digest: str) -> tuple[str, str]:
    """Return the names of the signed headers, and the canonical request."""
    parts = urlsplit(url)
    signed = sorted((name.lower(), " ".join(value.split())) for name, value in headers.items())
    names = ";".join(name for name, _ in signed)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = "&".join(f"{quote(name, safe=_SAFE)}={quote(value, safe=_SAFE)}" for name, value in sorted(pairs))
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return names, "\n".join((method, parts.path or "/", query, lines, names, digest))


def host_of(url: str) -> str:
    """Return the Host header of a request, without the port where it is the usual one (RFC 9110, 7.2)."""
    parts = urlsplit(url)
    usual = parts.port is None or parts.port == PORTS.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if usual else f"{host}:{parts.port}"


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
