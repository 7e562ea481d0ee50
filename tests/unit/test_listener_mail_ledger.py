"""This module shows how mails are known again where a server has numbered a folder anew."""

from pathlib import Path

import pytest

from listeners import mail_ledger
from listeners.mail_ledger import Ledger

ONE, TWO = b"1" * 16, b"2" * 16


def opened(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.open()
    return ledger


def test_mail_keeps_its_first_place_when_its_folder_is_numbered_anew(tmp_path: Path) -> None:
    path = tmp_path / "below" / "mails"
    ledger = opened(path)
    assert ledger.first_place(ONE, (7, 1)) == (7, 1)
    assert ledger.first_place(ONE, (7, 1)) == (7, 1)
    assert ledger.first_place(ONE, (7, 2)) == (7, 2)  # the same once more is another one
    for each in (ledger, opened(path)):
        assert each.first_place(ONE, (8, 5)) == (7, 1)
        assert each.first_place(TWO, (8, 6)) == (8, 6)
    assert opened(path).first_place(ONE, (9, 1)) == (7, 1)


def test_what_a_crash_leaves_half_written_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mails"
    opened(path).first_place(ONE, (7, 1))
    with path.open("ab") as file:
        file.write(b"\n32323232")
    ledger = opened(path)
    assert ledger.first_place(TWO, (8, 1)) == (8, 1)
    assert opened(path).first_place(ONE, (8, 2)) == (7, 1)
    assert opened(path).first_place(TWO, (9, 2)) == (8, 1)


def test_the_oldest_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_ledger, "_MOST", 3)
    ledger = opened(tmp_path / "mails")
    for uid in range(20):
        ledger.first_place(bytes([uid]) * 16, (7, uid))
        assert (tmp_path / "mails").read_bytes().count(b" 7 ") <= 6
    again = opened(tmp_path / "mails")
    assert again.first_place(bytes([19]) * 16, (8, 1)) == (7, 19)
    assert again.first_place(bytes([1]) * 16, (8, 2)) == (8, 2)
