"""The Python that `make` takes: the one that runs, unless another build of its version is clearly faster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.interpreter import Build, choose, found, probe

OWN = Build("/own", 10.0)


@pytest.mark.parametrize(
    ("own", "others", "path"),
    [
        (OWN, [], "/own"),
        (OWN, [Build("/other", 9.5)], "/own"),
        (OWN, [Build("/other", 8.0), Build("/third", 7.0)], "/third"),
        (None, [Build("/other", 80.0)], "/other"),
    ],
    ids=["alone", "as fast", "slower than others", "of no use"],
)
def test_another_is_taken_where_it_is_clearly_faster(own: Build | None, others: list[Build], path: str) -> None:
    chosen = choose(own, others)
    assert chosen is not None
    assert chosen.path == path


def test_nothing_is_taken_where_nothing_is_of_use() -> None:
    assert choose(None, []) is None


def test_what_is_no_python_of_this_version_is_no_candidate(tmp_path: Path) -> None:
    fake = tmp_path / "python3"
    for text in ("exit 1", "echo 3.0 False /usr/bin/other", "echo what is this", "echo"):
        fake.write_text(f"#!/bin/sh\n{text}\n")
        fake.chmod(0o700)
        assert probe(str(fake)) is None
    assert probe(str(tmp_path / "missing")) is None


def test_each_file_of_the_path_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "python3").write_text("#!/bin/sh\n")
    (one / "python3").chmod(0o700)
    (two / "python3").symlink_to(one / "python3")
    (two / f"python3.{sys.version_info[1]}").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{one}{os.pathsep}{two}")
    tried = [path for path in found() if path.startswith(str(tmp_path))]
    assert tried == [str(one / "python3")]


def test_what_is_printed_runs_this_version() -> None:
    program = Path(__file__).parents[2] / "bench" / "interpreter.py"
    path = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True).stdout.rstrip("\n")
    told = probe(path)
    assert told is not None
    assert 0 < told.milliseconds < 1000
