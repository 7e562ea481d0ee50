"""This module keeps the public keys by which tokens and signatures are checked, from a file or fetched."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import jwt

from broker.wire.strict_json import read_json

_FRESH: Final = 600.0  # seconds in which fetched keys are not asked for again
_AGAIN: Final = 30.0  # seconds between two questions, whoever asks: a stranger's key id must not make us a flood
_WITHIN: Final = 5.0
_LARGEST: Final = 256 * 1024


class KeysAway(Exception):
    """The keys cannot be had now."""


def read_jwks(data: bytes) -> Mapping[str, Any]:
    """Return the keys of a JWKS (RFC 7517) that can sign, by their ids. Raises `ValueError`."""
    try:
        value = read_json(data, largest=_LARGEST)
        return {key.key_id or "": key.key for key in jwt.PyJWKSet.from_dict(value).keys}
    except Exception as error:  # noqa: BLE001 - a stranger's file; PyJWT raises of many kinds
        raise ValueError(type(error).__name__) from None


class Keys:
    """The keys that one signer publishes, by key id."""

    def __init__(self, place: str, root: Path, read: Callable[[bytes], Mapping[str, Any]] = read_jwks) -> None:
        """``place`` is an https address, or a file; relative ones start at ``root``.

        ``read`` returns the keys in what is there by their ids, and raises `ValueError` where there are none.
        """
        self._parse = read
        self._url = place if place.startswith(("https://", "http://")) else ""
        self._file = root / place
        self._keys: Mapping[str, Any] = {}
        self._stamp: Any = None
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str) -> Any:
        """Return the key of an id (empty: the only one), or None. Raises `KeysAway` where none can be had."""
        if not self._url:
            self.load()
            return self._of(key_id)
        if self._of(key_id) is None or time.monotonic() - self._asked > _FRESH:
            async with self._lock:  # whoever needs what another request is asking for waits for that
                if time.monotonic() - self._asked > _AGAIN:
                    await self._fetch()
        if not self._keys:
            raise KeysAway("the signer's public keys cannot be fetched")
        return self._of(key_id)

    def _of(self, key_id: str) -> Any:
        if key_id:
            return self._keys.get(key_id)
        return next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def load(self) -> None:
        """Read the file, where it is one and has changed. Raises `KeysAway` where none can be had."""
        if self._url:
            return
        try:
            found = self._file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._keys, self._stamp = self._parse(self._file.read_bytes()), stamp
        except (OSError, ValueError) as error:
            if not self._keys:
                raise KeysAway(f"{self._file} cannot be used ({type(error).__name__})") from None

    async def _fetch(self) -> None:
        """Ask for the keys; those from before stay where that fails."""
        self._asked = time.monotonic()
        try:
            timeout = aiohttp.ClientTimeout(total=_WITHIN)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url, allow_redirects=False) as answer,
            ):
                answer.raise_for_status()
                self._keys = self._parse(await _whole(answer.content))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Return all that is there, up to one byte more than is taken."""
    data = bytearray()
    while len(data) <= _LARGEST and (piece := await content.read(_LARGEST + 1 - len(data))):
        data += piece
    return bytes(data)
