"""This module makes ids that sort by time, and writes them the way people read them.

A message id is 63 bits: milliseconds since 2020 (41), a counter (16), and 6 zero bits. The deliveries of a message take
those last 6 bits, so a delivery's id is its message's id plus its ordinal (1 to 63), a journey is one range of keys,
and no second index is needed. People see 13 characters of Crockford's base 32.
"""

import time
from typing import Final

EPOCH_MS: Final = 1_577_836_800_000  # 2020-01-01T00:00:00Z
DELIVERIES: Final = 63  # most of one message: destinations of its channel, times patients
_MILLISECOND: Final = 1 << 22
_STEP: Final = 1 << 6
_END: Final = 1 << 63
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)} | {"I": 1, "L": 1, "O": 0}
_LENGTH: Final = 13


class Ids:
    """Hands out message ids that only grow, over restarts too: begin with the largest id in the store."""

    def __init__(self, last: int = 0) -> None:
        self._last = message_of(last)

    def next(self) -> int:
        """Return the next message id."""
        now = (int(time.time() * 1000) - EPOCH_MS) * _MILLISECOND
        self._last = max(now, self._last + _STEP)
        return self._last


def message_of(identifier: int) -> int:
    """Return the id of the message that a delivery (or a message) belongs to."""
    return identifier & ~(_STEP - 1)


def time_of(identifier: int) -> float:
    """Return when an id was made, in POSIX seconds: when its message arrived."""
    return (identifier // _MILLISECOND + EPOCH_MS) / 1000


def hour_of(identifier: int) -> int:
    """Return the hour since 2020 in which an id was made."""
    return identifier // _MILLISECOND // 3_600_000


def show(identifier: int) -> str:
    """Return an id as 13 characters of Crockford's base 32."""
    return "".join(_ALPHABET[(identifier >> shift) & 31] for shift in range(5 * (_LENGTH - 1), -1, -5))


def read(text: str) -> int:
    """Return the id that `show` wrote; case and the look-alikes I, L, O do not matter. Raise ValueError otherwise."""
    letters = text.strip().upper().replace("-", "")
    if len(letters) != _LENGTH or any(letter not in _VALUES for letter in letters):
        message = f"an id has {_LENGTH} letters and digits, such as {show(1 << 50)}"
        raise ValueError(message)
    identifier = 0
    for letter in letters:
        identifier = identifier << 5 | _VALUES[letter]
    return identifier


def read_or_none(text: str) -> int | None:
    """Return the id that a text stands for; None if it stands for none."""
    try:
        identifier = read(text)
    except ValueError:
        return None
    return identifier if identifier < _END else None
