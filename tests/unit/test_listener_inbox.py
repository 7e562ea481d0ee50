"""This module shows which files of a folder are taken, and where they go."""

import os
import socket
from pathlib import Path

import pytest

from broker.errors import NotReady
from listeners.inbox import Inbox
from listeners.source import Refused, Seen


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    made = make(tmp_path)
    made.open()
    return made


def make(folder: Path, pattern: str = "*.csv") -> Inbox:
    return Inbox(folder, (pattern,), working=folder / ".w", done=folder / "done", failed=folder / "failed")


def claim(inbox: Inbox) -> Seen | None:
    """Claim the one file that waits."""
    [seen] = inbox.waiting()
    return seen if inbox.claim(seen) else None


def read(inbox: Inbox, seen: Seen) -> str:
    file = inbox.fetch(seen)
    assert file is not None
    with file:
        return file.read().decode()


def test_only_whole_plain_files_that_match_are_taken(inbox: Inbox, tmp_path: Path) -> None:
    for name in ("a.csv", "b.txt", ".c.csv", "d.csv.part", "e.CSV"):
        (tmp_path / name).write_text("x")
    (tmp_path / "f.csv").mkdir()
    (tmp_path / "f.csv" / "in.csv").write_text("x")
    (tmp_path / "g.csv").symlink_to("/etc/passwd")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "h.csv"))
        found = {seen.name: seen.wrong for seen in inbox.waiting()}
    assert found == {"a.csv": "", "g.csv": "it is a link, and links are not followed; put the file itself there"}


def test_unfinished_files_are_left_alone_even_if_they_match(tmp_path: Path) -> None:
    (tmp_path / "a.csv.filepart").write_text("x")
    assert not make(tmp_path, "*").waiting()


def test_older_files_come_first(inbox: Inbox, tmp_path: Path) -> None:
    for age, name in enumerate(("new.csv", "b.csv", "old.csv")):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert [seen.name for seen in inbox.waiting()] == ["old.csv", "b.csv", "new.csv"]


def test_file_is_claimed_once_and_found_again_after_a_crash(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    [seen] = inbox.waiting()
    assert inbox.claim(seen)
    assert read(inbox, seen) == "x"
    assert not inbox.claim(seen)
    assert not inbox.waiting()
    inbox.close()
    after = make(tmp_path)
    after.open()
    assert after.begun() == [seen]


def test_claim_never_overwrites_a_file_that_is_being_read(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("first")
    seen = claim(inbox)
    (tmp_path / "a.csv").write_text("second")
    assert claim(inbox) is None
    assert seen is not None
    assert (read(inbox, seen), (tmp_path / "a.csv").read_text()) == ("first", "second")


def test_file_is_not_claimed_when_it_is_another_than_was_seen(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    [seen] = inbox.waiting()
    (tmp_path / "a.csv").write_text("longer")
    assert not inbox.claim(seen)
    assert (tmp_path / "a.csv").exists()


@pytest.mark.parametrize("well", [True, False])
def test_earlier_files_of_the_same_name_stay(inbox: Inbox, tmp_path: Path, well: bool) -> None:
    for text in ("1", "2", "3"):
        (tmp_path / "a.csv").write_text(text)
        seen = claim(inbox)
        assert seen is not None
        inbox.end(seen, well=well)
    kept = list((tmp_path / ("done" if well else "failed")).iterdir())
    assert sorted(path.read_text() for path in kept) == ["1", "2", "3"]
    assert all(path.suffix == ".csv" for path in kept)


def test_file_is_removed_where_it_is_not_kept(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path, ("*",), working=tmp_path / ".w", done=None, failed=tmp_path / "failed")
    inbox.open()
    (tmp_path / "a").write_text("x")
    seen = claim(inbox)
    assert seen is not None
    inbox.end(seen, well=True)
    assert not inbox.begun()


def test_file_is_seen_to_be_written_while_somebody_has_it_open(inbox: Inbox, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w"):
        [seen] = inbox.waiting()
        assert inbox.is_written(seen)
    assert not inbox.is_written(seen)
    with path.open():
        assert not inbox.is_written(seen)
    path.unlink()
    assert not inbox.is_written(seen)


def test_folder_is_refused_when_another_engine_has_it_or_it_is_missing(inbox: Inbox, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="another engine reads this folder"):
        make(tmp_path).open()
    with pytest.raises(NotReady, match="no such folder"):
        make(tmp_path / "none").open()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "done").write_text("in the way")
    with pytest.raises(NotReady, match="cannot be made"):
        make(tmp_path / "x").open()


def test_folders_below_are_read_but_none_of_ours_and_none_through_a_link(tmp_path: Path) -> None:
    made = Inbox(
        tmp_path,
        ("*.csv",),
        working=tmp_path / ".w",
        done=tmp_path / "done",
        failed=tmp_path / "failed",
        recursive=True,
    )
    made.open()
    for name in ("a.csv", "sub/b.csv", "sub/deep/c.csv", "done/d.csv", "failed/e.csv", ".hidden/f.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("sub")
    found = {seen.name: seen for seen in made.waiting()}
    assert set(found) == {"a.csv", "sub/b.csv", "sub/deep/c.csv"}
    seen = found["sub/deep/c.csv"]
    assert made.claim(seen)
    assert [each.name for each in made.begun()] == ["sub/deep/c.csv"]
    made.end(seen, well=True)
    assert (tmp_path / "done/sub/deep/c.csv").read_text() == "sub/deep/c.csv"
    assert not list((tmp_path / ".w" / "claimed").iterdir())


def test_folder_that_became_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text("secret")
    made = Inbox(tmp_path / "in", ("*",), working=tmp_path / "in/.w", done=None, failed=None, recursive=True)
    made.open()
    os.link(tmp_path / "other" / "a.csv", tmp_path / "in" / "sub" / "a.csv")  # even the same file
    [seen] = made.waiting()
    (tmp_path / "in" / "sub").rename(tmp_path / "away")
    (tmp_path / "in" / "sub").symlink_to(tmp_path / "other")
    with pytest.raises(Refused):
        made.claim(seen)
    assert (tmp_path / "other" / "a.csv").exists()


@pytest.mark.parametrize("name", ["..csv", "a\nb.csv", "n" * 251 + ".csv", "a\udce9.csv", "-rf.csv", "a b'\".csv"])
def test_names_of_any_kind_are_taken_as_they_are(inbox: Inbox, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    if name.startswith("."):
        assert not inbox.waiting()
        return
    for _ in range(2):
        (tmp_path / name).write_text("x")
        seen = claim(inbox)
        assert seen is not None
        inbox.end(seen, well=True)
    assert len(list((tmp_path / "done").iterdir())) == 2


def test_kept_file_is_not_read_when_it_is_another_now(tmp_path: Path) -> None:
    made = Inbox(tmp_path, ("*.csv",), working=tmp_path / ".w", done=None, failed=None, claims=False)
    made.open()
    (tmp_path / "a.csv").write_text("x")
    [seen] = made.waiting()
    assert read(made, seen) == "x"
    assert made.begun() == []
    (tmp_path / "a.csv").write_text("longer")
    assert made.fetch(seen) is None
    (tmp_path / "a.csv").unlink()
    assert made.fetch(seen) is None
    (tmp_path / "a.csv").symlink_to("/etc/passwd")
    with pytest.raises(Refused):
        made.fetch(seen)
