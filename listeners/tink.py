"""This module checks signatures of Tink (ECDSA on P-256) with a public keyset in JSON, as Google Health uses them.

A signature is the byte 1, the key's id in four bytes, and ECDSA over SHA-256 in DER (Tink's wire format).
"""

import base64
import contextlib
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from broker.errors import MessageError
from broker.wire.strict_json import read_json

_TYPE: Final = "type.googleapis.com/google.crypto.tink.EcdsaPublicKey"
_VERSION: Final = b"\x01"
_HEAD: Final = 5
_X: Final = 3
_Y: Final = 4
_BYTES: Final = 2  # the wire type of protocol buffers for bytes
_LARGEST: Final = 64 * 1024


class Keyset:
    """The public keys in a file, by their ids; it is read again when it has changed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stamp: Any = None
        self._keys: dict[bytes, ec.EllipticCurvePublicKey] = {}

    def load(self) -> None:
        """Read the file where it has changed. Raises `OSError`, or `ValueError` where it holds no such keys."""
        found = self._file.stat()
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._stamp:
            self._keys, self._stamp = _parsed(self._file.read_bytes()), stamp

    def verify(self, signature: str, body: bytes) -> bool:
        """Tell whether one of the keys signed a body; ``signature`` is Base64."""
        with contextlib.suppress(OSError, ValueError):  # the keys from before are still good
            self.load()
        try:
            data = base64.b64decode(signature, validate=True)
            key = self._keys.get(data[1:_HEAD])
            if data[:1] != _VERSION or key is None:
                return False
            key.verify(data[_HEAD:], body, ec.ECDSA(SHA256()))
        except (ValueError, InvalidSignature):
            return False
        return True


def _parsed(data: bytes) -> dict[bytes, ec.EllipticCurvePublicKey]:
    try:
        keys = read_json(data, largest=_LARGEST)["key"]
        found = {
            int(key["keyId"]).to_bytes(4): _key(base64.b64decode(key["keyData"]["value"]))
            for key in keys
            if key["status"] == "ENABLED" and key["outputPrefixType"] == "TINK" and key["keyData"]["typeUrl"] == _TYPE
        }
    except (MessageError, KeyError, TypeError, OverflowError, IndexError) as error:
        raise ValueError(type(error).__name__) from None
    if not found:
        raise ValueError("no key")
    return found


def _key(message: bytes) -> ec.EllipticCurvePublicKey:
    fields = _fields(message)
    x, y = int.from_bytes(fields[_X]), int.from_bytes(fields[_Y])
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _fields(message: bytes) -> dict[int, bytes]:
    """Return the fields of a protocol buffer that hold bytes."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == _BYTES:
            found[tag >> 3] = message[at : at + value]
            at += value
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says more follow
            return value, at
