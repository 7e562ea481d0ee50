"""This module keeps the engine's own signing keys: one file each below the data folder, for its owner's eyes only.

Several keys can be live at a time, so that one can follow another without a gap: a new key is published with the others
(`jwks`) and signs from a day later on, when everybody who keeps a copy of the set has seen it.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from broker.durable import keep_names, write_to_disk
from broker.errors import ConfigError
from dispatch.signing import ALGORITHMS, SigningKey, make_key, read_key

FOLDER: Final = "keys"  # below the data folder
ANNOUNCED: Final = 86_400.0  # seconds for which a further key is published before it signs

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LARGEST_FILE: Final = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class LiveKey:
    """A key of the folder; both times are POSIX seconds."""

    key: SigningKey
    made_at: float
    signs_from: float

    def signs(self, now: float) -> bool:
        """Say whether it may sign at a time."""
        return self.signs_from <= now


def make(data: Path, algorithm: str, now: float, *, at_once: bool = False) -> LiveKey:
    """Make a key in the data folder; it signs from now on when it is the first of its algorithm, or ``at_once``."""
    first = not any(live.key.algorithm == algorithm for live in live_keys(data))
    live = LiveKey(make_key(algorithm), now, now if first or at_once else now + ANNOUNCED)
    content = {
        "name": live.key.name,
        "algorithm": algorithm,
        "made_at": live.made_at,
        "signs_from": live.signs_from,
        "private_key": live.key.pem(),
    }
    write_privately(data / FOLDER / f"{live.key.name}.json", orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return live


def live_keys(data: Path) -> list[LiveKey]:
    """Return the keys of the data folder, the newest first; raise `ConfigError` when one cannot be used."""
    found = [_read(path) for path in sorted((data / FOLDER).glob("*.json"))]
    return sorted(found, key=lambda live: live.made_at, reverse=True)


def retire(data: Path, name: str, now: float) -> None:
    """Take a key out of the set and delete it; raise `ConfigError` when it is not there or the only one that signs."""
    live = live_keys(data)
    gone = next((one for one in live if one.key.name == name), None)
    if gone is None:
        known = ", ".join(one.key.name for one in live) or "none"
        message = f"there is no key {name} in {data / FOLDER} (there: {known})"
        raise ConfigError(message)
    others = [one for one in live if one is not gone and one.key.algorithm == gone.key.algorithm and one.signs(now)]
    if gone.signs(now) and not others:
        message = f"{name} is the only key that signs with {gone.key.algorithm}; make another first"
        raise ConfigError(message)
    (data / FOLDER / f"{name}.json").unlink()


def jwks(data: Path) -> dict[str, Any]:
    """Return the public halves of all live keys as a JSON Web Key Set (RFC 7517, 5)."""
    return {"keys": [live.key.public_jwk() for live in live_keys(data)]}


def choose(data: Path, now: float, algorithms: Sequence[str]) -> SigningKey:
    """Return the newest key that may sign now with one of ``algorithms``, the first of which is preferred.

    Raises `ConfigError` when there is none.
    """
    live = [one.key for one in live_keys(data) if one.signs(now)]
    for algorithm in algorithms:
        for key in live:
            if key.algorithm == algorithm:
                return key
    message = f"{data / FOLDER} has no key that signs with {' or '.join(algorithms)}; run `handoff keys make`"
    raise ConfigError(message)


def write_privately(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all, and wait until it is on disk."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        write_to_disk(file, content)
    fresh.replace(path)
    keep_names(path.parent)


def _read(path: Path) -> LiveKey:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        message = f"{path} can be read or changed by others (mode {mode:04o}); run chmod 600 {path}"
        raise ConfigError(message)
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE)
    try:
        found = orjson.loads(content)
        name, algorithm = str(found["name"]), str(found["algorithm"])
        made_at, signs_from = float(found["made_at"]), float(found["signs_from"])
        pem = str(found["private_key"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        name = algorithm = pem = ""
        made_at = signs_from = 0.0
    if algorithm not in ALGORITHMS or not _NAME.fullmatch(name) or name != path.stem:
        message = f"{path} is no key that `handoff keys make` wrote; move it away or put the right file back"
        raise ConfigError(message)
    return LiveKey(read_key(pem, str(path), algorithm=algorithm, name=name), made_at, signs_from)
