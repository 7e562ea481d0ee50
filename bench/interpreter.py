"""This module prints the path of the fastest build of Python on this machine: ``python3 bench/interpreter.py``.

Builds of one version differ. One made without profile-guided optimisation, as pyenv makes them unless told otherwise,
costs a quarter more CPU for each message than a distribution's own (docs/decisions/016). Only builds of the version
that runs this are looked at, and what runs this is kept unless another is clearly faster.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_CLEARLY: Final = 0.9  # of the time of the one that runs this; two probes of one build differ by less
_PATIENCE: Final = 20  # seconds for one probe

# What an engine does all day: calls, small tuples, dictionaries, splitting. The best of several rounds, in ms; then
# what installing and running need.
_PROBE: Final = """
import sys, time
import ctypes, ensurepip, sqlite3, ssl, venv, zlib

class Field:
    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text

    def part(self, place):
        return self.text.split("^")[place]

def work():
    seen = {}
    for number in range(4000):
        key = Field(f"{number % 100}^MR").part(0)
        count, _ = seen.get(key, (0, None))
        seen[key] = (count + 1, number)

def timed():
    began = time.process_time()
    work()
    return time.process_time() - began

print(min(timed() for _ in range(15)) * 1000, sys.version_info[:2] == VERSION, sys.executable)
"""


class Build(NamedTuple):
    """An interpreter and the milliseconds that the probe took in it."""

    path: str
    milliseconds: float


def probe(path: str) -> Build | None:
    """Return how fast an interpreter is; None where it is of another version or lacks what installing needs."""
    version = sys.version_info[:2]
    try:
        told = subprocess.run(
            [path, "-I", "-c", _PROBE.replace("VERSION", repr(version))],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        ).stdout
        milliseconds, is_same, executable = told.rstrip("\n").split(" ", 2)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Build(executable, float(milliseconds)) if is_same == "True" else None


def found() -> Iterator[str]:
    """Yield every interpreter of this version's name in PATH and where distributions put theirs, each file once."""
    names = ["python3", f"python{sys.version_info[0]}.{sys.version_info[1]}"]
    folders = [*os.get_exec_path(), "/usr/local/bin", "/usr/bin"]
    seen = {os.path.realpath(sys.executable)}
    for path in (Path(folder, name) for folder in folders for name in names):
        real = os.path.realpath(path)
        if os.access(path, os.X_OK) and real not in seen:
            seen.add(real)
            yield str(path)


def choose(own: Build | None, others: list[Build]) -> Build | None:
    """Return the fastest of the others where it is clearly faster than our own, otherwise our own."""
    best = min(others, key=lambda build: build.milliseconds, default=None)
    if own is None or best is None:
        return own or best
    return best if best.milliseconds < own.milliseconds * _CLEARLY else own


def main() -> None:
    """Print the path of the one to use; say so on the error stream where it is not the one that runs this."""
    own = probe(sys.executable)
    chosen = choose(own, [build for build in map(probe, found()) if build]) or Build(sys.executable, 0.0)
    if own and chosen != own:
        times = own.milliseconds / chosen.milliseconds
        sys.stderr.write(f"Using {chosen.path}: {times:.1f} times as fast as {own.path}. PYTHON=… decides otherwise.\n")
    sys.stdout.write(f"{chosen.path}\n")


if __name__ == "__main__":
    main()
