"""This module shows what comes out of packed files, and which are refused before anything does."""

import gzip
import io
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest

from broker.errors import MessageError
from broker.formats.delimited import CsvSpec
from listeners.unpacking import UnpackSpec, check_packed, split_unpacked

TABLE = b"id,name\n1,Lee\n2,Roe\n"
LIMITS = UnpackSpec(entries=3)


def archive(*entries: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in entries:
            made.writestr(name, content, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def named(value: object) -> str:
    """Return what a case is called; packed bytes hold the time, and cases must have the same names in every process."""
    return "packed" if isinstance(value, bytes) else str(value)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


def locked() -> bytes:
    data = bytearray(archive(("a.csv", TABLE)))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def split(file: BinaryIO, name: str) -> list[tuple[str, int]]:
    return [(called, piece.line) for called, piece in split_unpacked(file, name, CsvSpec().build(None).split)]


@pytest.mark.parametrize(
    ("name", "data", "called"),
    [
        ("a.csv", TABLE, ["a.csv"]),
        ("a.csv.GZ", gzip.compress(TABLE), ["a.csv.GZ"]),
        ("a.zip", archive(("x.csv", TABLE), ("in/", b""), ("in/y.csv", TABLE)), ["a.zip/x.csv", "a.zip/in/y.csv"]),
        ("a.zip", archive(("x.csv", TABLE), ("__MACOSX/x", b"?"), (".DS_Store", b"?")), ["a.zip/x.csv"]),
    ],
    ids=named,
)
def test_messages_of_every_file_come_out(name: str, data: bytes, called: list[str]) -> None:
    file = io.BytesIO(data)
    if name != "a.csv":
        check_packed(file, name, len(data), LIMITS)
    assert split(file, name) == [(each, line) for each in called for line in (2, 3)]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.gz", gzip.compress(TABLE)[:-9], "is damaged"),
        ("a.gz", TABLE, "is damaged"),
        ("a.zip", archive(("a.csv", TABLE))[:-9], "is damaged"),
        ("a.zip", archive(("a.csv", TABLE)).replace(b"\x01\x02", b"\x01\x03", 1), "is damaged"),
        ("a.gz", gzip.compress(b"0" * (9 << 20)), "raise `unpack.size` or `unpack.ratio`"),
        ("a.zip", archive(("a", b"0" * (9 << 20))), "raise `unpack.size` or `unpack.ratio`"),
        ("a.gz", gzip.compress(gzip.compress(TABLE)), "a packed file in the packed file"),
        ("a.zip", archive(("in.zip", archive())), "entry 1 of the archive is packed itself"),
        ("a.zip", archive(*[(str(number), b"") for number in range(4)]), "has 4 entries; 3 are allowed"),
        ("a.zip", archive(("../a.csv", TABLE)), "leads out of it"),
        ("a.zip", archive(("/a.csv", TABLE)), "leads out of it"),
        ("a.zip", archive(("c:/a.csv", TABLE)), "leads out of it"),
        ("a.zip", archive(("a\n.csv", TABLE)), "leads out of it"),
        ("a.zip", archive((link("a.csv"), b"/etc/passwd")), "is a link"),
        ("a.zip", locked(), "is locked with a password"),
        ("a.zip", archive(), "the archive is empty"),
    ],
    ids=named,
)
def test_what_cannot_be_trusted_is_refused(name: str, data: bytes, told: str) -> None:
    with pytest.raises(MessageError, match=told):
        check_packed(io.BytesIO(data), name, len(data), LIMITS)


def test_entries_that_overlap_are_refused() -> None:
    data = archive(("a", bytes(range(256)) * 40), ("b", TABLE))
    with pytest.raises(MessageError, match="overlap"):
        check_packed(io.BytesIO(data), "a.zip", 20, LIMITS)


def test_entry_that_is_no_table_is_named() -> None:
    with pytest.raises(MessageError, match=r"^b.csv: the file is empty"):
        split(io.BytesIO(archive(("a.csv", TABLE), ("b.csv", b""))), "a.zip")


def test_damage_after_the_check_is_told(tmp_path: Path) -> None:
    with pytest.raises(MessageError, match="damaged from here on"):
        split(io.BytesIO(gzip.compress(TABLE)[:-9]), "a.gz")
