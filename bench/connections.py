"""This module measures what connections cost: idle ones, TLS, and senders that never finish a message."""

import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.engine import PRM, ROOT, Engine, load, resident
from tests.certificates import Authority

_ROUNDS: Final = 3
_SETTLE: Final = 2.0  # seconds
_PACE: Final = 10.0  # seconds between two bytes of a slow peer
_CUT_BY: Final = 60.0


def idle(count: int, seconds: float) -> dict[str, Any]:
    """Measure the memory of connections on which nothing happens, and what they do to those that are busy."""
    engine = Engine(PRM)
    try:
        engine.start()
        load(engine.port, "-c", 8, "--count", 2000)
        before = _p99(engine.port, seconds)
        assert engine.process is not None
        empty = resident(engine.process.pid)
        with _peers("idle", engine.port, count):
            time.sleep(_SETTLE)
            full = resident(engine.process.pid)
            after = _p99(engine.port, seconds)
        return {
            "connections": count,
            "kib_each": round((full - empty) * 1024 / count, 2),
            "p99_ms_before": before,
            "p99_ms": after,
            "p99_ratio": round(after / before, 2),
        }
    finally:
        engine.stop()


def tls(seconds: float) -> dict[str, Any]:
    """Measure the same load over TLS and in plain text, in turns, each against an engine of its own."""
    with tempfile.TemporaryDirectory(prefix="handoff-bench-tls-") as folder:
        authority = Authority(Path(folder))
        files = authority.issue("engine.test")
        plain = Engine(PRM)
        secure = Engine(PRM, tls={"certificate": str(files.certificate), "key": str(files.key)})
        try:
            for engine in (plain, secure):
                engine.start()
            found: dict[str, list[float]] = {"plain": [], "tls": []}
            for _ in range(_ROUNDS):
                for name, engine, more in (("plain", plain, ()), ("tls", secure, ("--ca", authority.file))):
                    loaded = load(engine.port, "-c", 32, "--seconds", seconds, "--warmup", 1, *more)
                    found[name].append(loaded["per_second"])
        finally:
            plain.stop()
            secure.stop()
    rates = {name: statistics.median(each) for name, each in found.items()}
    return {
        "plain_per_second": rates["plain"],
        "tls_per_second": rates["tls"],
        "ratio": round(rates["tls"] / rates["plain"], 2),
    }


def loris(count: int, seconds: float) -> dict[str, Any]:
    """Measure when senders that send a byte now and then are cut off, and what they do to one that is well."""
    engine = Engine(PRM)
    try:
        engine.start()
        load(engine.port, "-c", 8, "--count", 2000)
        before = _p99(engine.port, seconds)
        with _peers("loris", engine.port, count) as process:
            after = _p99(engine.port, seconds)
            last, left = map(float, process.communicate(timeout=2 * _CUT_BY)[0].split())
        return {
            "connections": count,
            "last_cut_after_seconds": last,
            "left": int(left),
            "p99_ms_before": before,
            "p99_ms": after,
            "p99_ratio": round(after / before, 2),
        }
    finally:
        engine.stop()


def _p99(port: int, seconds: float) -> float:
    """Return the best of some rounds: what the machine does beside us only ever adds."""
    rounds = [load(port, "-c", 8, "--seconds", seconds)["acknowledgment_ms"]["p99"] for _ in range(_ROUNDS)]
    return float(min(rounds))


@contextlib.contextmanager
def _peers(kind: str, port: int, count: int) -> "Iterator[subprocess.Popen[str]]":
    """Run many peers in a process of their own; return when all are connected."""
    command = [sys.executable, "-m", "bench.connections", kind, str(port), str(count)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "connected\n":
                raise SystemExit(f"{count} connections could not be opened; see `ulimit -n`")
            yield process
        finally:
            process.kill()


def _open(port: int, count: int) -> list[socket.socket]:
    """Open connections from many addresses of ours, so that ports suffice."""
    opened = []
    for number in range(count):
        peer = socket.socket()
        peer.bind((f"127.0.0.{2 + number % 200}", 0))
        peer.connect(("127.0.0.1", port))
        peer.setblocking(False)  # noqa: FBT003 - as it is spelt
        opened.append(peer)
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    return opened


async def _drip(peers: Sequence[socket.socket]) -> None:
    """Send a byte over each now and then; print after how many seconds the last was cut off, and how many were not."""
    began, last, open_ = time.monotonic(), 0.0, list(peers)
    due = began
    while open_ and time.monotonic() - began < _CUT_BY:
        if time.monotonic() >= due:
            due += _PACE
            for peer in open_:
                with contextlib.suppress(OSError):
                    peer.send(b"\x0b" if due == began + _PACE else b"M")
        await asyncio.sleep(0.1)
        still = [peer for peer in open_ if not _is_over(peer)]
        if len(still) < len(open_):
            last = time.monotonic() - began
        open_ = still
    sys.stdout.write(f"{last:.1f} {len(open_)}\n")


def _is_over(peer: socket.socket) -> bool:
    try:
        return not peer.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    peers = _open(port, count)
    if kind == "loris":
        asyncio.run(_drip(peers))
    else:
        time.sleep(3600)
