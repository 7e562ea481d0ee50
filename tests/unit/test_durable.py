"""Files and names reach the disk, or somebody hears of it."""

import errno
import os
from pathlib import Path

import pytest

from broker.durable import keep_names, write_to_disk


def test_content_is_written_and_brought_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "a").open("wb") as file:
        write_to_disk(file, b"content")
        assert (tmp_path / "a").read_bytes() == b"content"
        assert synced == [file.fileno()]
    keep_names(tmp_path)
    assert len(synced) == 2


@pytest.mark.parametrize(("number", "is_told"), [(errno.EIO, True), (errno.EINVAL, False), (errno.ENOTSUP, False)])
def test_folder_whose_names_may_be_lost_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_told: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_told:
        with pytest.raises(OSError, match="error"):
            keep_names(tmp_path)
    else:
        keep_names(tmp_path)
