"""This module plays a recorded run back onto a disk that keeps only what was synced, as a power cut would leave it."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SYSCALLS: Final = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,rename"
_SECTOR: Final = 512
_CALL: Final = re.compile(r"^(?P<pid>\d+)\s+(?P<name>\w+)\((?P<rest>.*)$", re.DOTALL)
_RESUMED: Final = re.compile(r"^(?P<pid>\d+)\s+<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$", re.DOTALL)
_UNFINISHED: Final = " <unfinished ...>"
_FILE: Final = re.compile(r"\d+<(?P<path>[^>]*)>")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: a write, a sync, a new file, a shortened file, or an acknowledgment."""

    kind: str  # write, sync, create, truncate, remove, acknowledged
    path: str = ""
    offset: int = 0
    data: bytes = field(default=b"", repr=False)


def read_recording(recording: Path, folder: Path) -> Iterator[Event]:
    """Yield what strace (-f -y -xx) recorded of files below a folder, and of standard output, in order."""
    waiting: dict[str, str] = {}
    for line in recording.read_text().splitlines():
        if line.endswith(_UNFINISHED):
            found = _CALL.match(line)
            if found:
                waiting[found["pid"]] = line.removesuffix(_UNFINISHED)
            # What was begun may be on the disk already, and the peer may have read the answer.
            if found and found["name"] in {"pwrite64", "write"}:
                yield from _event(found["name"], found["rest"].removesuffix(_UNFINISHED), folder)
            continue
        resumed = _RESUMED.match(line)
        if resumed:
            begun = _CALL.match(waiting.pop(resumed["pid"], ""))
            if begun and begun["name"] not in {"pwrite64", "write"}:
                yield from _event(begun["name"], begun["rest"] + resumed["rest"], folder)
            continue
        found = _CALL.match(line)
        if found:
            yield from _event(found["name"], found["rest"], folder)


def _event(name: str, rest: str, folder: Path) -> Iterator[Event]:
    if rest.endswith(")") and ") = -1 " in rest:
        return  # it failed
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(rest)]
    file = _FILE.match(rest)
    path = _plain(file["path"]) if file else ""
    if name == "write" and rest.startswith("1<") and texts:
        for word in re.findall(rb"acknowledged (\d+)\n", texts[0]):
            yield Event("acknowledged", offset=int(word))
    elif name in {"openat", "unlink", "rename"}:
        if texts[0].decode().startswith(str(folder)) and (name != "openat" or "O_CREAT" in rest):
            yield Event("create" if name == "openat" else "remove", texts[0].decode())
    elif path.startswith(str(folder)):
        yield from _change_of(name, path, rest, texts)


def _change_of(name: str, path: str, rest: str, texts: list[bytes]) -> Iterator[Event]:
    if name == "pwrite64" and texts:
        yield Event("write", path, int(_last(rest)), texts[0])
    elif name == "ftruncate":
        yield Event("truncate", path, int(_last(rest)))
    elif name in {"fsync", "fdatasync"}:
        yield Event("sync", path)


def _last(rest: str) -> str:
    """Return the last argument of a call, also of one whose end was not seen."""
    return rest.rpartition('"')[2].partition(")")[0].rpartition(", ")[2].strip()


def _plain(path: str) -> str:
    """Return a path as strace -xx writes it, readable again."""
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path


class Disk:
    """Files as the disk holds them for sure, and what was written since the last sync of each."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._safe = {str(path): bytearray(path.read_bytes()) for path in folder.iterdir() if path.is_file()}
        self._named = set(self._safe)  # whose directory entry is on the disk
        self._pending: dict[str, list[Event]] = {}

    def apply(self, event: Event) -> None:
        """Take one event in."""
        if event.kind == "create":
            self._safe.setdefault(event.path, bytearray())
        elif event.kind == "remove":
            self._safe.pop(event.path, None)
            self._pending.pop(event.path, None)
        elif event.kind in {"write", "truncate"}:
            self._pending.setdefault(event.path, []).append(event)
        elif event.kind == "sync" and event.path == self._folder:
            self._named |= set(self._safe)
        elif event.kind == "sync":
            content = self._safe.setdefault(event.path, bytearray())
            for change in self._pending.pop(event.path, []):
                _change(content, change)

    def image(self, folder: Path, dice: random.Random | None = None) -> None:
        """Write what a power cut leaves into a folder: nothing unsynced, or (with dice) any sectors of it."""
        for path, content in self._safe.items():
            if path not in self._named or path.endswith("-shm"):
                continue
            left = bytearray(content)
            for change in self._pending.get(path, []) if dice is not None else []:
                for part in _sectors(change):
                    if dice is not None and dice.random() < 0.5:
                        _change(left, part)
            (folder / Path(path).name).write_bytes(left)


def _change(content: bytearray, change: Event) -> None:
    if change.kind == "truncate":
        del content[change.offset :]
        content.extend(bytes(change.offset - len(content)))
        return
    if len(content) < change.offset:
        content.extend(bytes(change.offset - len(content)))
    content[change.offset : change.offset + len(change.data)] = change.data


def _sectors(change: Event) -> Iterator[Event]:
    if change.kind != "write":
        yield change
        return
    for start in range(0, len(change.data), _SECTOR):
        yield Event("write", change.path, change.offset + start, change.data[start : start + _SECTOR])
