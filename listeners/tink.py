"""This module checks signatures of Tink (ECDSA on P-256) with a public keyset in JSON, as Google Health uses them.

A signature is the byte 1, the key's id in four bytes, and ECDSA over SHA-256 in DER (Tink's wire format).
"""

import base64
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from broker.errors import MessageError
from broker.wire.strict_json import read_json
from listeners.http_keys import Keys

_TYPE: Final = "type.googleapis.com/google.crypto.tink.EcdsaPublicKey"
_VERSION: Final = b"\x01"
_HEAD: Final = 5
_X: Final = 3
_Y: Final = 4
_BYTES: Final = 2  # the wire type of protocol buffers for bytes
_LARGEST: Final = 64 * 1024


async def is_signed(keys: Keys, signature: str, body: bytes) -> bool:
    """Tell whether one of some keys signed a body; ``signature`` is Base64. Raises `KeysAway`."""
    try:
        data = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    if data[:1] != _VERSION or len(data) <= _HEAD:
        return False
    key = await keys.find(data[1:_HEAD].hex())
    if key is None:
        return False
    try:
        key.verify(data[_HEAD:], body, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def read_keyset(data: bytes) -> Mapping[str, ec.EllipticCurvePublicKey]:
    """Return the keys of a keyset that are in use, by their ids in hexadecimal. Raises `ValueError`."""
    try:
        keys = read_json(data, largest=_LARGEST)["key"]
        found = {
            int(key["keyId"]).to_bytes(4).hex(): _key(base64.b64decode(key["keyData"]["value"]))
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
