"""This module shows that notes are kept over a restart, and that a damaged one is none."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from broker.errors import NotReady
from listeners.mail_ledger import Ledger
from listeners.notes import Notes, Position
from listeners.source import Seen, free_names

ONE, OTHER = Seen("a\udce9\n.csv", 1, 2, 3), Seen("b.csv", 4, 5, 6)
KEPT = Seen("c.csv", 1, 2, version="e")


def opened(folder: Path) -> Notes:
    notes = Notes(folder / "notes")
    notes.open()
    return notes


def test_what_was_read_is_known_after_a_restart_until_it_is_gone(tmp_path: Path) -> None:
    notes = opened(tmp_path)
    for seen in (ONE, OTHER):
        notes.note_read(seen)
    with (tmp_path / "notes" / "read").open("ab") as file:
        file.write(b'\n["half')
    again = opened(tmp_path)
    assert again.was_read(ONE)
    assert not again.was_read(Seen(OTHER.name, 9, 5, 6))
    again.keep_only([OTHER])
    again.keep_only([OTHER])
    again.note_read(KEPT, "done/c.csv")
    after = opened(tmp_path)
    assert after.was_read(KEPT)
    assert not after.was_read(replace(KEPT, version="f"))
    assert (after.target(KEPT), after.target(OTHER)) == ("done/c.csv", "")
    assert (after.was_read(ONE), after.was_read(OTHER)) == (False, True)


def test_position_is_known_until_it_is_forgotten_or_damaged(tmp_path: Path) -> None:
    notes = opened(tmp_path)
    assert notes.position("a") is None
    notes.note_position("a", Position("ff", 10, 1))
    assert opened(tmp_path).position("a") == Position("ff", 10, 1)
    notes.forget_position("a")
    notes.forget_position("a")
    assert notes.position("a") is None
    notes.note_position("a", Position("ff", 10, 1))
    for path in (tmp_path / "notes").glob("at-*"):
        path.write_bytes(b"\0\0")
    assert notes.position("a") is None


def test_free_names_are_no_longer_than_a_name_may_be() -> None:
    for name in ("sub/" + "n" * 251 + ".csv", "é" * 125 + ".csv", "plain", "\udce9" * 250 + ".csv"):
        names = free_names(name)
        found = [next(names) for _ in range(3)]
        assert found[0] == name
        assert len(set(found)) == 3
        for each in found[1:]:
            last = each.rpartition("/")[2]
            assert len(last.encode("utf-8", "surrogateescape")) <= 255
            assert last.endswith(".csv") or name == "plain"


@pytest.mark.parametrize("made", [Notes, lambda path: Ledger(path / "mails")])
def test_folder_that_cannot_be_had_is_told_in_the_same_words(made: Any, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"")
    words = f"{tmp_path}/notes: cannot be made or used (file exists); correct its permissions"
    with pytest.raises(NotReady, match=re.escape(words)):
        made(tmp_path / "notes").open()
