"""This module notes how far files were read, and which, so that a restart need not do it all again.

What is written is only what is committed already, and where a note is lost or damaged its file is read from the top,
where the intake finds what it has: so no note is brought to disk by force.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from listeners.source import Seen, local

_LONGEST: Final = 200  # bytes of a position


class Position(NamedTuple):
    """Up to where a file of this digest is committed: so many pieces, of which some were no messages."""

    digest: str
    pieces: int
    refused: int


class Notes:
    """A folder of notes about one channel's files. Its functions block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[Seen, str]] = {}  # and where each is to go

    def open(self) -> None:
        """Read what was noted. Raises `NotReady`."""
        self._read = {}
        with local(self._folder), contextlib.suppress(FileNotFoundError):
            for line in (self._folder / "read").read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last one may be a part of a line
                    name, size, modified, inode, version, target = json.loads(line)
                    self._read[name] = Seen(name, size, modified, inode, version), target

    def was_read(self, seen: Seen) -> bool:
        """Say whether a file that is where it was has been read as it is."""
        return seen.name in self._read and self._read[seen.name][0] == seen

    def note_read(self, seen: Seen, target: str = "") -> None:
        """Note that all of a file was committed, which stays where it is or goes elsewhere."""
        self._read[seen.name] = seen, target
        with (self._folder / "read").open("ab") as file:
            file.write(b"\n" + _line(seen, target))

    def target(self, seen: Seen) -> str:
        """Return where a file that was read is to go."""
        return self._read[seen.name][1]

    def keep_only(self, present: Iterable[Seen]) -> None:
        """Forget the files that are gone."""
        names = {seen.name for seen in present}
        gone = [name for name in self._read if name not in names]
        for name in gone:
            del self._read[name]
        if gone:
            self._replace(self._folder / "read", b"\n".join(_line(*each) for each in self._read.values()))

    def position(self, name: str) -> Position | None:
        """Return up to where a file was committed; None where that is not known."""
        try:
            with self._path(name).open("rb") as file:
                digest, pieces, refused = file.read(_LONGEST).decode("ascii").split()
            return Position(digest, int(pieces), int(refused))
        except (OSError, ValueError):
            return None

    def note_position(self, name: str, position: Position) -> None:
        """Note up to where a file is committed."""
        self._replace(self._path(name), " ".join(map(str, position)).encode())

    def forget_position(self, *names: str) -> None:
        """Forget how far files were read."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"at-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"

    def _replace(self, path: Path, content: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.replace(path)


def _line(seen: Seen, target: str) -> bytes:
    return json.dumps([seen.name, seen.size, seen.modified, seen.inode, seen.version, target]).encode()
