"""This module signs bodies the way of Standard Webhooks (github.com/standard-webhooks, spec 1.0.0)."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

_PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 after ``whsec_``, else its own bytes.

    Raises `ValueError`, which does not show it, when what follows ``whsec_`` is no base64.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("a secret that begins with whsec_ goes on in base64") from None


def signed(key: bytes, identifier: str, moment: int, body: bytes) -> dict[str, str]:
    """Return the headers for a body: ``moment`` is now in POSIX seconds, the identifier the same for each attempt."""
    content = f"{identifier}.{moment}.".encode() + body
    digest = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode("ascii")
    return {"webhook-id": identifier, "webhook-timestamp": str(moment), "webhook-signature": f"v1,{digest}"}
