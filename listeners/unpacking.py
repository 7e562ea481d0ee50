"""This module unpacks files that came compressed: gzip, and the entries of ZIP archives, within limits.

A packed file is unpacked once to the end before anything of it is used, so one that is damaged, or grows beyond all
measure, never gives a part of itself away. Nothing is written: entries are read where they lie.
"""

import gzip
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, cast

from pydantic import Field

from broker.errors import MessageError
from broker.formats.reading import Piece
from broker.formats.rows import shown_name
from broker.spec import Bytes, Spec

_CHUNK: Final = 1 << 20
_ALWAYS: Final = 1 << 20  # bytes that may come of any file, however small: few letters repeated pack well
_PACKED: Final = (".gz", ".zip")
_NESTED: Final = (*_PACKED, ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".zst")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENCRYPTED: Final = 0x1  # APPNOTE.TXT, 4.4.4: bit 0 of the general purpose flag
_DAMAGED: Final = (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError)


class UnpackSpec(Spec):
    """What files named `.gz` and `.zip` may hold."""

    size: Bytes = Field(default=4 * 1024**3, ge=1, description="Most bytes that may come out of one file.")
    ratio: int = Field(default=200, ge=1, description="How many times its own size that may be, from 1 MiB on.")
    entries: int = Field(default=1000, ge=1, description="Most files in an archive.")


def is_packed(name: str) -> bool:
    """Say by its name whether a file is to be unpacked."""
    return name.lower().endswith(_PACKED)


def check_packed(file: BinaryIO, name: str, size: int, limits: UnpackSpec) -> None:
    """Unpack a file of ``size`` bytes to nowhere; raise `MessageError` where it is damaged or beyond the limits."""
    most = min(limits.size, max(_ALWAYS, limits.ratio * size))
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                _check_entries(archive, size, limits)
                for entry in _entries(archive):
                    with archive.open(entry) as opened:
                        most -= _measure(cast("BinaryIO", opened), most, limits)
        else:
            with gzip.GzipFile(fileobj=file) as opened_gzip:
                _measure(cast("BinaryIO", opened_gzip), most, limits)
    except _DAMAGED:
        raise MessageError("the packed file is damaged, or not whole; have it sent again") from None
    finally:
        file.seek(0)


Split = Callable[[BinaryIO, str], Iterator[Piece]]


def split_unpacked(file: BinaryIO, name: str, split: Split) -> Iterator[tuple[str, Piece]]:
    """Yield the messages of a file that was checked, each with what its file is called; raise `MessageError`.

    Of an archive those of each entry, which is called by the archive and its own name.
    """
    shown = shown_name(name)
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(file) as archive:
                for entry in _entries(archive):
                    yield from _split_entry(archive, entry, name, split)
        elif is_packed(name):
            with gzip.GzipFile(fileobj=file) as opened:
                yield from ((shown, piece) for piece in split(cast("BinaryIO", opened), name))
        else:
            yield from ((shown, piece) for piece in split(file, name))
    except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile):
        raise MessageError("the packed file is damaged from here on; it was changed while it was read") from None


def _split_entry(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, split: Split
) -> Iterator[tuple[str, Piece]]:
    called = f"{name}/{entry.filename}"
    shown = shown_name(called)
    with archive.open(entry) as opened:
        try:
            for piece in split(cast("BinaryIO", opened), called):
                yield shown, piece
        except MessageError as error:
            raise MessageError(f"{shown_name(entry.filename)}: {error}") from None


def _measure(opened: BinaryIO, most: int, limits: UnpackSpec) -> int:
    """Return how many bytes come out; raise `MessageError` as soon as they are too many, or packed themselves."""
    size = 0
    while chunk := opened.read(_CHUNK):
        if not size and chunk.startswith((b"PK\x03\x04", b"\x1f\x8b")):
            raise MessageError("there is a packed file in the packed file; unpack the inner one before it is sent")
        size += len(chunk)
        if size > most:
            text = f"more comes out of the packed file than may: {limits.size} bytes, and {limits.ratio} times its size"
            raise MessageError(f"{text}; raise `unpack.size` or `unpack.ratio` if it is meant")
    return size


def _check_entries(archive: zipfile.ZipFile, size: int, limits: UnpackSpec) -> None:
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise MessageError(f"the archive has {len(entries)} entries; {limits.entries} are allowed (`unpack.entries`)")
    if sum(entry.compress_size for entry in entries) > size:
        raise MessageError("the entries of the archive overlap, which only those of a trap do")
    for number, entry in enumerate(entries, 1):
        if wrong := _wrong(entry):
            raise MessageError(f"entry {number} of the archive {wrong}")
    if not any(True for _ in _entries(archive)):
        raise MessageError("the archive is empty")


def _wrong(entry: zipfile.ZipInfo) -> str:
    # What the archive says, not what zipfile made of it: it cuts a name at a zero byte.
    name = str(getattr(entry, "orig_filename", entry.filename))
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\\" in name or _CONTROL.search(name) or ":" in parts[0]:
        return "has a name that leads out of it, or that no file can have"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    if entry.flag_bits & _ENCRYPTED:
        return "is locked with a password"
    return "is packed itself; unpack it before it is sent" if name.lower().endswith(_NESTED) else ""


def _entries(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Yield the files of an archive, without what macOS puts beside them."""
    for entry in archive.infolist():
        last = entry.filename.rpartition("/")[2]
        if not entry.is_dir() and not last.startswith(".") and not entry.filename.startswith("__MACOSX/"):
            yield entry
