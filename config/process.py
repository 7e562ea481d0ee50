"""This module is the worker process: it builds channels' steps and runs them over messages that come through a pipe.

It has no key, no socket and no database (`config.confining`); its memory is limited, it dies with the engine, and it
notes in shared memory which message it is at, so that the engine can tell which one killed it.
"""

import contextlib
import gc
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from broker.wire import pipe
from config.confining import Places, close_others, confine

if TYPE_CHECKING:
    from config.program import Program
    from config.viewing import Viewer

_PROGRESS: Final = struct.Struct("=II")


def main() -> None:
    """Serve until the pipe ends."""
    # What is imported stays: looking through it for garbage takes a quarter of a start.
    gc.disable()
    from config.program import Program  # noqa: PLC0415 - see above

    progress = int(sys.argv[1])
    close_others(progress)
    memory = mmap.mmap(progress, mmap.PAGESIZE)
    source, sink = _take_pipes()
    places = Places.from_text(os.environ.get("HANDOFF_WORKER_PLACES", ""))
    folder = _identity(places.channels)
    confine(places, int(os.environ.get("HANDOFF_WORKER_MEMORY", "0")))
    programs: dict[str, Program | Viewer] = {}
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # a message makes hundreds of objects that die with it
    gc.enable()
    while (frame := pipe.read(source)) is not None:
        header, rest = frame
        if "load" in header:
            if _identity(places.channels) != folder:
                sys.stderr.write(
                    "a worker process ends: it may not read the new folder of channels, and the next may\n"
                )
                return
            programs[header["load"]] = Program.load(rest)
            gc.collect()
            gc.freeze()  # what was built stays: the collector need not walk it again
        elif "begin" in header:
            _send(sink, {"ready": True})
        else:
            _run(programs[header["run"]], header, rest, memory, sink)


def _identity(folder: Path | None) -> tuple[int, int] | None:
    """Return what a folder of the same name does not share: what a process may read stays with the folder itself."""
    try:
        found = folder.stat() if folder is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    # User code that prints must not end up in the answers: its standard output is our standard error.
    source, sink = os.fdopen(os.dup(0), "rb", 1 << 20), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return source, sink


def _run(program: "Program | Viewer", header: dict[str, Any], rest: bytes, memory: mmap.mmap, sink: BinaryIO) -> None:
    results: list[tuple[Any, ...]] = []
    parts, at = [], 0
    sequence: int = header["sequence"]
    note = _PROGRESS.pack_into
    for index, (received_at, size) in enumerate(header["items"]):
        note(memory, 0, sequence, index)
        result, requests = program.process(rest[at : at + size], received_at)
        at += size
        if program.warned or program.breaches:
            results.append((*result, list(program.warned.items()), [tuple(each) for each in program.breaches]))
        else:  # as a rule: nothing more goes over
            results.append(result)
        parts += requests
    _send(sink, {"results": results}, *parts)


def _send(sink: BinaryIO, header: Any, *parts: bytes) -> None:
    data = memoryview(pipe.pack(header, *parts))
    while data:
        data = data[sink.write(data) :]


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
