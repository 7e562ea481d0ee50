"""The Python that `make` takes: the one that runs, unless another build of its version is clearly faster."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.interpreter import Build, choose, files, found, probe, times_as_fast


@pytest.mark.parametrize(
    ("times", "path"),
    [({}, "/own"), ({"/other": 1.05}, "/own"), ({"/other": 1.3, "/third": 1.4}, "/third"), ({"/other": 0.0}, "/own")],
    ids=["alone", "as fast", "slower than others", "does not run"],
)
def test_another_is_taken_where_it_is_clearly_faster(times: dict[str, float], path: str) -> None:
    assert choose("/own", times) == path


def test_burst_of_other_work_does_not_decide() -> None:
    """Most rounds say that the other needs half the time, and two that it needs twice as much."""
    own, other = itertools.cycle([10.0]), itertools.cycle([20.0, 20.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    found = times_as_fast("/other", "/own", lambda path: Build(path, next(own if path == "/own" else other)))
    assert found == 2.0
    assert times_as_fast("/other", "/own", lambda path: Build(path, 1.0) if path == "/own" else None) == 0.0


def test_each_file_counts_once_whatever_it_is_called(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    Path(one).touch()
    (tmp_path / "name").symlink_to(one)
    builds = [Build(one, 9.0), None, Build(two, 8.0), Build(str(tmp_path / "name"), 5.0)]
    assert files(builds) == {one: one, two: two}


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
