"""This module is the worker process: it builds channels' steps and runs them over messages that come through a pipe.

It has no key, no socket and no database; its memory is limited, it may gain no privilege, it dies with the engine, and
it notes in shared memory which message it is at, so that the engine can tell which one killed it.
"""

import contextlib
import ctypes
import gc
import mmap
import os
import resource
import signal
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from broker.wire import pipe

if TYPE_CHECKING:
    from config.program import Program
    from config.viewing import Viewer

_PROGRESS: Final = struct.Struct("=II")
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWNET: Final = 0x40000000


def main() -> None:
    """Serve until the pipe ends."""
    # What is imported stays: looking through it for garbage takes a quarter of a start.
    gc.disable()
    from config.program import Program  # noqa: PLC0415 - see above

    memory = mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE)
    source, sink = _take_pipes()
    _confine(int(os.environ.get("HANDOFF_WORKER_MEMORY", "0")))
    programs: dict[str, Program | Viewer] = {}
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # a message makes hundreds of objects that die with it
    gc.enable()
    while (frame := pipe.read(source)) is not None:
        header, rest = frame
        if "load" in header:
            programs[header["load"]] = Program.load(rest)
            gc.collect()
            gc.freeze()  # what was built stays: the collector need not walk it again
        elif "begin" in header:
            _send(sink, {"ready": True})
        else:
            _run(programs[header["run"]], header, rest, memory, sink)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    # User code that prints must not end up in the answers: its standard output is our standard error.
    source, sink = os.fdopen(os.dup(0), "rb", 1 << 20), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return source, sink


def _confine(memory: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.unshare(_CLONE_NEWNET)  # an empty network where the engine may ask for one; else nothing changes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine ends us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


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
