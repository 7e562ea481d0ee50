"""This module measures what the README promises, beside a bare ceiling in the same run, and prints one JSON document.

    make bench                          everything, on SQLite and on PostgreSQL where `initdb` is installed
    make bench ARGS="--seconds 5 --only sqlite,latency"

Figures of one run compare with each other; figures of two runs compare only as far as the machine was as quiet.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench import (
    connections,
    fhir_create,
    files,
    mllp_out,
    reading_back,
    reading_canonical,
    reading_fhir,
    reading_results,
    reading_validation,
    web,
)
from bench import reading as reading_messages
from bench.engine import DEAD_TEXT, PRM, ROOT, Engine, free_port, load
from bench.load import PATIENTS
from bench.sending import hanging, outage
from broker.sql import connect
from tests.postgres import Cluster, find_programs

QUEUED: Final = 100_000
WAITING: Final = 200_000
WARM: Final = 2000  # messages before a measurement: patients get known, caches fill


@contextmanager
def bare(url: str) -> Iterator[int]:
    """Serve the ceiling on a free port."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare", str(port), url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"the ceiling did not start: {process.communicate()[1].decode()}")
        yield port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def drained(engine: Engine, store: str, limit: float = 300) -> float:
    """Wait until nothing is received, waiting or sending any more; return when that was (POSIX seconds)."""
    url = store or f"sqlite:///{engine.folder}/var/handoff.db"
    connection = connect(url, writer=False)
    until = time.time() + limit
    try:
        while time.time() < until:
            received = connection.rows("SELECT 1 FROM message WHERE state = 'received' LIMIT 1")
            if not received and not connection.rows("SELECT 1 FROM delivery WHERE open LIMIT 1"):
                return time.time()
            time.sleep(0.02)
    finally:
        connection.close()
    raise SystemExit(f"not drained within {limit:g} s")


def throughput(connections: int, seconds: float, *, store: str = "", empty: str = "") -> dict[str, Any]:
    """Measure accepted, mapped and applied messages a second, all drained, and what each one cost.

    ``store`` is an empty PostgreSQL database (else SQLite); ``empty`` another store in which to measure the ceiling.
    """
    found: dict[str, Any] = {"connections": connections}
    engine = Engine(PRM, store)
    try:
        engine.start()
        warm = load(engine.port, "-c", 8, "--count", WARM)
        drained(engine, store)
        before = engine.usage()
        loaded = load(engine.port, "-c", connections, "--seconds", seconds)
        end = drained(engine, store)
        after = engine.usage()
        count = loaded["acknowledged"]
        found |= {
            "messages": count,
            "errors": loaded["errors"] + warm["errors"],
            "accepted_per_second": loaded["per_second"],
            "end_to_end_per_second": round(count / (end - loaded["began"]), 1),
            "acknowledgment_ms": loaded["acknowledgment_ms"],
            "cpu_ms_per_message": round((after["cpu"] - before["cpu"]) / count * 1000, 3),
        }
        engine.stop(keep=True)  # the write-ahead logs go into their databases
        if not store:
            found["bytes_per_message"] = round(engine.disk() / (count + WARM))
    finally:
        engine.stop()
    if empty:
        with bare(empty) as port:
            load(port, "-c", 8, "--count", WARM)
            found["bare_per_second"] = load(port, "-c", connections, "--seconds", seconds)["per_second"]
            found["share_of_bare"] = round(found["end_to_end_per_second"] / found["bare_per_second"], 3)
    return found


def latency(seconds: float) -> dict[str, Any]:
    """Measure one connection that sends and waits, while everything is drained."""
    engine = Engine(PRM)
    try:
        engine.start()
        load(engine.port, "-c", 1, "--count", 300)
        loaded = load(engine.port, "-c", 1, "--seconds", seconds)
        drained(engine, "")
        return {"per_second": loaded["per_second"], "acknowledgment_ms": loaded["acknowledgment_ms"]}
    finally:
        engine.stop()


def memory(count: int) -> dict[str, Any]:
    """Measure the memory that deliveries behind a dead destination cost."""
    engine = Engine(DEAD_TEXT)
    try:
        engine.start()
        load(engine.port, "-c", 32, "--count", 2 * PATIENTS)  # every patient is known, as after a day
        time.sleep(3)
        idle = engine.usage()["rss"]
        loaded = load(engine.port, "-c", 32, "--count", count)
        time.sleep(3)
        queued = engine.usage()["rss"]
        return {
            "queued": loaded["acknowledged"],
            "idle_mib": round(idle, 1),
            "queued_mib": round(queued, 1),
            "added_mib": round(queued - idle, 1),
        }
    finally:
        engine.stop()


def cold_start() -> dict[str, Any]:
    """Measure the time from the command to the first acknowledgment, first with an empty folder and then again."""
    engine = Engine(PRM)
    times = {}
    try:
        for name in ("first_seconds", "again_seconds"):
            began = time.perf_counter()
            engine.start()
            load(engine.port, "-c", 1, "--count", 1)
            times[name] = round(time.perf_counter() - began, 2)
            engine.stop(keep=True)
    finally:
        engine.stop()
    return times


def on_sqlite(seconds: float) -> list[dict[str, Any]]:
    """Measure the throughput at 1, 8 and 32 connections, the last beside the ceiling."""
    with tempfile.TemporaryDirectory(prefix="handoff-bare-") as folder:
        found = [throughput(connections, seconds) for connections in (1, 8)]
        return [*found, throughput(32, seconds, empty=f"sqlite:///{folder}/bare.db")]


def on_postgresql(seconds: float) -> Any:
    """Measure the throughput on a PostgreSQL of our own, which syncs as it should."""
    programs = find_programs()
    if programs is None:
        return "skipped: initdb of PostgreSQL is not installed"
    cluster = Cluster(programs, fsync=True)
    try:
        cluster.start()
        with cluster.database() as store, cluster.database() as empty:
            return throughput(32, seconds, store=store, empty=empty)
    finally:
        cluster.remove()


def machine() -> dict[str, float]:
    """Measure the machine as it is now, so that a figure can be read for what it is worth.

    ``python_loop_ns`` is one round of an empty loop (about 35 on a quiet machine of today), ``sync_ms`` one write of
    64 KiB with its fdatasync, at the median and the 90th percentile.
    """
    began = time.perf_counter()
    for _ in range(2_000_000):
        pass
    loop = (time.perf_counter() - began) / 2_000_000 * 1e9
    syncs = []
    with tempfile.NamedTemporaryFile() as file:
        for number in range(200):
            os.pwrite(file.fileno(), b"x" * 65_536, number * 65_536)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            syncs.append((time.perf_counter() - began) * 1000)
    syncs.sort()
    return {"python_loop_ns": round(loop, 1), "sync_ms_p50": round(syncs[100], 2), "sync_ms_p90": round(syncs[180], 2)}


def reading() -> dict[str, Any]:
    """Measure what reading costs: look-ups, validation, mapping to the canonical model, FHIR, and the way back."""
    parts = {
        "messages": reading_messages.measure,
        "validation": reading_validation.measure,
        "canonical": reading_canonical.measure,
        "results": reading_results.measure,
        "fhir": reading_fhir.measure,
        "back": reading_back.measure,
    }
    return {name: {"python_loop_ns": machine()["python_loop_ns"]} | measure() for name, measure in parts.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--queued", type=int, default=QUEUED)
    parser.add_argument("--waiting", type=int, default=WAITING, help="deliveries behind an outage")
    parser.add_argument(
        "--only",
        default="reading,sqlite,postgresql,latency,fhir_create,memory,hanging,outage,start,partner,web,idle,tls,loris,"
        "files,sftp",
    )
    parser.add_argument("--rows", type=int, default=files.ROWS, help="of a large table; 5 million are a gigabyte")
    args = parser.parse_args()
    parts: dict[str, Callable[[], Any]] = {
        "reading": reading,
        "sqlite": lambda: on_sqlite(args.seconds),
        "postgresql": lambda: on_postgresql(args.seconds),
        "latency": lambda: latency(args.seconds),
        "fhir_create": lambda: fhir_create.measure(args.seconds),
        "memory": lambda: memory(args.queued),
        "hanging": lambda: hanging(args.seconds),
        "outage": lambda: {"unlimited": outage(args.waiting), "limited": outage(args.waiting // 20, "200/s")},
        "start": cold_start,
        "partner": lambda: mllp_out.measure(args.seconds, drained),
        "web": web.measure,
        "idle": lambda: connections.idle(10_000, args.seconds / 3),
        "tls": lambda: connections.tls(args.seconds),
        "loris": lambda: connections.loris(1000, min(args.seconds, 8)),
        "files": lambda: files.large(args.rows),
        "sftp": files.small,
    }
    found: dict[str, Any] = {"machine_before": machine()}
    found |= {name: parts[name]() for name in args.only.split(",")}
    print(json.dumps(found | {"machine_after": machine()}, indent=2))


if __name__ == "__main__":
    main()
