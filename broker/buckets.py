"""This module knows how to get at a bucket of ``handoff.yaml``: its address, signed requests, and what errors say."""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from broker.places import find_place, reveal
from broker.sigv4 import Signer

NOTHING: Final = hashlib.sha256(b"").hexdigest()  # the digest of a request without a body
_SAFE: Final = "-_.~"  # RFC 3986, 2.3: what is never encoded
_CODE: Final = re.compile(rb"<Code>([A-Za-z.]{1,60})</Code>")


@dataclass(frozen=True, slots=True)
class BucketAccess:
    """One bucket, and who we are there."""

    name: str  # of the place
    base: str  # address of the bucket, without a slash at the end
    place: Any = field(repr=False)  # config.places.S3PlaceSpec

    def address(self, key: str = "", query: Mapping[str, str] | None = None) -> str:
        """Return the URL of an object, or of the bucket; what of ``key`` is no UTF-8 is escaped by surrogates."""
        asked = urlencode(query or {}, quote_via=quote, safe=_SAFE, encoding="utf-8", errors="surrogateescape")
        return f"{self.base}/{_quoted(key)}" + (f"?{asked}" if asked else "")

    def source(self, key: str) -> str:
        """Return how a copy names the object that is copied."""
        return f"/{self.place.bucket}/{_quoted(key)}"

    def sign(self, method: str, url: str, headers: Mapping[str, str], digest: str = NOTHING) -> dict[str, str]:
        """Return the headers of a request that is sent now; ``digest`` is the body's SHA-256 in hex."""
        place = self.place
        signer = Signer(place.access_key, reveal(place.secret), place.region, reveal(place.session_token))
        return signer.sign(method, url, headers, digest, time.time())


def find_bucket(settings: Any, name: str, where: str) -> BucketAccess:
    """Look a place up in the settings; raise `ConfigError` when it is no bucket."""
    place = find_place(settings.places, name, where, "s3", "bucket")
    scheme, _, rest = str(place.base).rstrip("/").partition("://")
    base = f"{scheme}://{place.bucket}.{rest}" if place.style == "host" else f"{scheme}://{rest}/{place.bucket}"
    return BucketAccess(name, base, place)


def _quoted(key: str) -> str:
    return quote(key.encode("utf-8", "surrogateescape"), safe=f"/{_SAFE}")


def error_code(body: bytes) -> str:
    """Return the code by which a store says what is wrong, such as ``NoSuchBucket``; nothing where it gives none."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""
