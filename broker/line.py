"""This module is the working end of a `broker.link`: a process of ours that does what comes over it, synchronously.

A frame is ``length of the rest (4 bytes, big endian) | a plain value, as marshal writes it``: both ends are our own
code. What runs analysts' code speaks `broker.wire.pipe` instead. This module imports little, since every start of such
a process waits for it.
"""

import ctypes
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import struct
import sys
from typing import Any, Final

from broker import crash

BUFFER: Final = 1 << 20
_LENGTH: Final = struct.Struct(">I")
_PR_SET_PDEATHSIG: Final = 1
_CALM: Final = (50_000, 20, 50)  # what a group makes dies with it, so looking for cycles often finds nothing


class Line:
    """The working end: blocking, used by one thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)
        self._rest = bytearray()
        self._ended = False

    def take(self, seconds: float | None = None) -> list[Any] | None:
        """Return every frame that has come, waiting for the first one (for so many seconds); None at the end."""
        frames = self._frames()
        while not frames and not self._ended:
            if not self._poll.poll(None if seconds is None else seconds * 1000):
                return []
            data = self._end.recv(BUFFER)
            self._ended = not data
            self._rest += data
            frames = self._frames()
        return frames or None

    def _frames(self) -> list[Any]:
        return cut(self._rest)

    def send(self, value: Any) -> None:
        """Write one frame. Raises `OSError` when nobody listens any more."""
        self._end.sendall(pack(value))

    def close(self) -> None:
        """Let the other end know that this is all."""
        self._end.close()


def pack(value: Any) -> bytes:
    """Return a value as one frame."""
    data = marshal.dumps(value)
    return _LENGTH.pack(len(data)) + data


def cut(data: bytearray) -> list[Any]:
    """Take the values of all whole frames out of ``data``."""
    values, at = [], 0
    with memoryview(data) as view:
        while len(data) - at >= _LENGTH.size:
            stop = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
            if stop > len(data):
                break
            values.append(marshal.loads(view[at + _LENGTH.size : stop]))  # noqa: S302 - from a process of our own
            at = stop
    del data[:at]
    return values


def work(target: str, line: Line) -> None:
    """Call ``module:function`` with the line, and close that when it returns."""
    module, _, function = target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(line)
    except OSError:
        pass  # the engine has gone
    finally:
        line.close()


def _import_calmly(target: str) -> None:
    # What is imported stays: looking through it for garbage takes a sixth of a start.
    gc.disable()
    importlib.import_module(target.partition(":")[0])
    gc.freeze()
    gc.set_threshold(*_CALM)
    gc.enable()


def main() -> None:
    """Work in this process until the engine closes its end or dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they mean the engine, which ends us in its own time
    crash.end_with_us(os.getppid())
    _import_calmly(sys.argv[1])
    work(sys.argv[1], Line(socket.socket(fileno=int(sys.argv[2]))))


if __name__ == "__main__":
    main()
