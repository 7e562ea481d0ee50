"""What is sealed opens in its own row only, and its key file is guarded."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import NotReady, StoreError
from broker.seal import Sealer, load_key

ROW = 911_909_091_985_588_224  # the same in every process of the tests: it is part of their names


@given(st.binary(max_size=9000))
def test_open_gives_back_what_was_sealed(data: bytes) -> None:
    """Small and large values alike."""
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal("content", ROW, data)
    assert sealer.open("content", ROW, sealed) == data
    assert len(data) < 8 or data not in sealed


@pytest.mark.parametrize(
    ("table", "row", "change"),
    [("attempt", ROW, 0), ("content", ROW + 1, 0), ("content", ROW + (1 << 50), 0), ("content", ROW, 20)],
)
def test_open_refuses_another_row_or_a_changed_bit(table: str, row: int, change: int) -> None:
    """A value moved to another table or row, or damaged in one bit, does not open."""
    sealer = Sealer(b"k" * 32)
    sealed = bytearray(sealer.seal("content", ROW, b"PID|1||4711"))
    sealed[change] ^= 1 if change else 0
    with pytest.raises(StoreError, match="does not open"):
        sealer.open(table, row, bytes(sealed))


def test_open_refuses_another_key_and_an_unknown_form() -> None:
    """The error names the row and no content."""
    sealed = Sealer(b"k" * 32).seal("content", ROW, b"PID|1||4711")
    with pytest.raises(StoreError, match="another key"):
        Sealer(b"x" * 32).open("content", ROW, sealed)
    with pytest.raises(StoreError, match="form"):
        Sealer(b"k" * 32).open("content", ROW, b"\x09" + sealed[1:])


def test_hashes_depend_on_key_channel_and_index() -> None:
    """The same value under another key, channel or index is found nowhere."""
    one, other = Sealer(b"k" * 32), Sealer(b"x" * 32)
    found = {
        one.search_hash("a", "mrn", "1"),
        one.search_hash("b", "mrn", "1"),
        one.search_hash("a", "visit", "1"),
        other.search_hash("a", "mrn", "1"),
        one.lane("1"),
        one.digest(b"1"),
        one.sender_hash(b"1"),
    }
    assert len(found) == 7
    assert one.search_hash("a", "mrn", "1") == one.search_hash("a", "mrn", "1")
    assert all(-(1 << 63) <= value < 1 << 63 for value in found)


def test_load_key_makes_one_that_only_we_can_read(tmp_path: Path) -> None:
    """The first run makes the key; the next reads the same."""
    path = tmp_path / "handoff.key"
    key = load_key(path, may_make=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(path, may_make=False) == key
    assert load_key(path, may_make=True) == key


def test_load_key_refuses_a_missing_open_or_wrong_file(tmp_path: Path) -> None:
    """Each refusal is one sentence that says what to do."""
    path = tmp_path / "handoff.key"
    with pytest.raises(NotReady, match="missing, but the store holds data"):
        load_key(path, may_make=False)
    path.write_bytes(os.urandom(32))
    path.chmod(0o640)
    with pytest.raises(NotReady, match="chmod 600"):
        load_key(path, may_make=False)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(NotReady, match="5 bytes"):
        load_key(path, may_make=False)
