"""This module remembers which mails were begun, so that a folder that is numbered anew brings none of them twice.

An IMAP server names a mail by UIDVALIDITY and UID. Where the first has changed (the server was moved or restored), the
mails are known again by what they are; they keep their first name, by which the intake finds what it has. Nothing else
depends on what is remembered, so it is not brought to disk by force.
"""

import contextlib
from pathlib import Path
from typing import Final

from listeners.source import local

_MOST: Final = 20_000  # mails that are remembered, the newest

Place = tuple[int, int]  # UIDVALIDITY and UID


class Ledger:
    """One file of a channel's mails. Its functions block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[bytes, Place] = {}
        self._lines = 0

    def open(self) -> None:
        """Read what is remembered. Raises `NotReady`."""
        self._known, self._lines = {}, 0
        with local(self._path.parent), contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                self._lines += 1
                with contextlib.suppress(ValueError):  # the last one may be a part of a line
                    identity, validity, uid = line.split()
                    self._known[bytes.fromhex(identity.decode())] = (int(validity), int(uid))

    def first_place(self, identity: bytes, place: Place) -> Place:
        """Return under which place a mail was begun first, and remember this one where it was not. Raises `OSError`.

        Two mails that are the same under one UIDVALIDITY are two.
        """
        known = self._known.get(identity)
        if known is None:
            self._remember(identity, place)
            return place
        return place if known[0] == place[0] else known

    def _remember(self, identity: bytes, place: Place) -> None:
        self._known[identity] = place
        self._lines += 1
        if self._lines > 2 * _MOST:
            self._shorten()
            return
        with self._path.open("ab") as file:
            file.write(b"\n" + _line(identity, place))

    def _shorten(self) -> None:
        for identity in list(self._known)[:-_MOST]:
            del self._known[identity]
        new = self._path.with_suffix(".new")
        new.write_bytes(b"\n".join(_line(identity, place) for identity, place in self._known.items()))
        new.replace(self._path)
        self._lines = len(self._known)


def _line(identity: bytes, place: Place) -> bytes:
    return f"{identity.hex()} {place[0]} {place[1]}".encode()
