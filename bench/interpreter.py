"""This module prints the path of the fastest build of Python on this machine: ``python3 bench/interpreter.py``.

Builds of one version differ. One made without profile-guided optimisation, as pyenv makes them unless told otherwise,
costs a quarter more CPU for each message than a distribution's own (docs/decisions/016). Only builds of the version
that runs this are looked at, and what runs this is kept unless another is clearly faster.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

_CLEARLY: Final = 1.1  # times as fast as the one that runs this; the same build against itself is less
_ROUNDS: Final = 9
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

print(min(timed() for _ in range(9)) * 1000, sys.version_info[:2] == VERSION, sys.executable)
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


def files(builds: Iterable[Build | None]) -> dict[str, str]:
    """Return the path of each build, by its file: one may be found under several names."""
    by_file: dict[str, str] = {}
    for build in filter(None, builds):
        by_file.setdefault(os.path.realpath(build.path), build.path)
    return by_file


def times_as_fast(path: str, own: str, timed: Callable[[str], Build | None] = probe) -> float:
    """Return how many times as fast as our own another build is: the median of several rounds, in turns.

    What else a machine does makes a processor twice as slow for seconds; it must not decide.
    """
    rounds = [(timed(own), timed(path)) for _ in range(_ROUNDS)]
    return median([one.milliseconds / other.milliseconds for one, other in rounds if one and other] or [0.0])


def choose(own: str, times: Mapping[str, float]) -> str:
    """Return the fastest of the others, by how many times as fast it is, where that is clear; otherwise our own."""
    best = max(times, key=times.__getitem__, default=own)
    return best if times.get(best, 0.0) > _CLEARLY else own


def main() -> None:
    """Print the path of the one to use; say so on the error stream where it is not the one that runs this."""
    usable = files(map(probe, [sys.executable, *found()]))
    own = usable.pop(os.path.realpath(sys.executable), None)
    if own is None:
        chosen = next(iter(usable.values()), sys.executable)
    else:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one processor may be faster than another
        times = {path: times_as_fast(path, own) for path in usable.values()}
        chosen = choose(own, times)
        if chosen != own:
            said = f"Using {chosen}: {times[chosen]:.1f} times as fast as {own}. PYTHON=… decides otherwise.\n"
            sys.stderr.write(said)
    sys.stdout.write(f"{chosen}\n")


if __name__ == "__main__":
    main()
