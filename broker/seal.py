"""This module seals what may hold patient data, and makes the keyed hashes by which it can be found again.

One 32-byte key lies in a file (mode 0600) that is made on the first run and is never in the database. From it HKDF
derives one AES-256-GCM key per hour of ids (so that random 96-bit nonces stay far below NIST SP 800-38D's 2^32 uses)
and one key per kind of hash. The table and the row's id are bound as additional data: a sealed value moved to another
row does not open. Large values (documents) are deflated first.
"""

import os
import stat
import zlib
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from broker.durable import keep_names, write_to_disk
from broker.errors import NotReady, StoreError
from broker.ids import hour_of

_PLAIN: Final = b"\x01"  # version 1
_DEFLATED: Final = b"\x02"  # version 1, of deflated data
_NONCE: Final = 12
_KEY: Final = 32
_LARGE: Final = 4096  # bytes from which compressing is worth its time (33 µs for a usual message, 2 µs to seal it)


class Sealer:
    """Seals, opens and hashes with keys derived from one master key."""

    def __init__(self, master: bytes) -> None:
        self.master = master
        self._hour = lru_cache(maxsize=512)(self._make_hour)
        self._sender = self._hasher("sender")
        self._digest = self._hasher("digest")
        self._search = self._hasher("search")
        self._lane = self._hasher("lane")
        self._delivery = self._hasher("delivery key", 16)
        self.audit_key = self._derive("audit")

    def seal(self, table: str, row: int, data: bytes) -> bytes:
        """Return ``version | nonce | ciphertext | tag``: the data's size plus 29 bytes, or less."""
        version = _PLAIN
        if len(data) > _LARGE:
            version, data = _DEFLATED, zlib.compress(data, 1)
        nonce = os.urandom(_NONCE)
        return b"".join((version, nonce, self._hour(hour_of(row)).encrypt(nonce, data, _bound(version, table, row))))

    def open(self, table: str, row: int, data: bytes) -> bytes:
        """Return what `seal` was given; raise `StoreError` if a bit of it, its row or the key is another."""
        version = data[:1]
        if version not in {_PLAIN, _DEFLATED}:
            message = f"{table} {row}: sealed in a form that this version does not know"
            raise StoreError(message)
        try:
            plain = self._hour(hour_of(row)).decrypt(
                data[1 : 1 + _NONCE], data[1 + _NONCE :], _bound(version, table, row)
            )
        except InvalidTag:
            message = f"{table} {row}: does not open; the row is damaged, or sealed with another key"
            raise StoreError(message) from None
        return zlib.decompress(plain) if version == _DEFLATED else plain

    def sender_hash(self, *parts: bytes) -> int:
        """Return the keyed hash of channel, MSH-3, MSH-4 and MSH-10."""
        return _hash(b"\0".join(parts), self._sender)

    def digest(self, body: bytes) -> int:
        """Return the keyed hash of a body."""
        return _hash(body, self._digest)

    def search_hash(self, channel: str, name: str, value: str) -> int:
        """Return the keyed hash under which the value of one index of one channel is found."""
        return _hash(f"{channel}\0{name}\0{value}".encode(), self._search)

    def lane(self, value: str) -> int:
        """Return the lane of an order key."""
        return _hash(value.encode(), self._lane)

    def delivery_key(self, delivery: int) -> str:
        """Return the idempotency key of a delivery: 32 hexadecimal digits, stable, opaque."""
        hasher = self._delivery.copy()
        hasher.update(delivery.to_bytes(8))
        return hasher.hexdigest()

    def _make_hour(self, hour: int) -> AESGCM:
        return AESGCM(self._derive(f"seal {hour}"))

    def _hasher(self, purpose: str, size: int = 8) -> blake2b:
        return blake2b(key=self._derive(purpose), digest_size=size)

    def _derive(self, purpose: str) -> bytes:
        return HKDF(algorithm=SHA256(), length=_KEY, salt=None, info=f"handoff {purpose}".encode()).derive(self.master)


def _bound(version: bytes, table: str, row: int) -> bytes:
    return b"%s%s|%d" % (version, table.encode(), row)


def _hash(data: bytes, keyed: blake2b) -> int:
    # A signed 64-bit integer: what both databases index in the least space. A message is a duplicate only where two of
    # them, of sender and of body, are equal.
    hasher = keyed.copy()
    hasher.update(data)
    return int.from_bytes(hasher.digest(), signed=True)


def load_key(path: Path, *, may_make: bool) -> bytes:
    """Return the master key in ``path``; make it (mode 0600) if there is none and ``may_make``.

    Raises `NotReady` when it is missing beside existing data, readable by others, or not a key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        if may_make:
            return _make_key(path)
        message = f"{path}: the key file is missing, but the store holds data sealed with it; put the file back"
        raise NotReady(message) from None
    if mode & 0o077:
        message = f"{path}: the key file can be read by others (mode {mode:04o}); run: chmod 600 {path}"
        raise NotReady(message)
    key = path.read_bytes()
    if len(key) != _KEY:
        message = f"{path}: {len(key)} bytes are not a key of {_KEY} bytes; put the right file back"
        raise NotReady(message)
    return key


def _make_key(path: Path) -> bytes:
    key = os.urandom(_KEY)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        write_to_disk(file, key)
    keep_names(path.parent)
    return key
