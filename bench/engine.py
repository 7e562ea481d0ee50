"""This module runs a real engine in a folder of its own and measures it from outside."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
TICKS: Final = os.sysconf("SC_CLK_TCK")

CHANNEL: Final = """\
channel: bench
description: The workload of the benchmarks
listen:
  mllp: {endpoint: 127.0.0.1:2575, connections: 20000}
order: PID-3[5=MR].1
index: {mrn: "PID-3[5=MR].1", visit: PV1-19.1}
steps:
  - filter: MSH-9.1 == 'ADT' and MSH-9.2 in ['A01', 'A04', 'A08', 'A40']
  - canonical: {}
deliver:
"""
PRM: Final = "  patient-store:\n    prm: {}\n"
DEAD_TEXT: Final = """\
  text:
    sms: {gateway: nowhere, to: "+12175550123", text: "Hello"}
"""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Engine:
    """One engine process, in a temporary folder."""

    def __init__(
        self,
        deliver: str,
        store: str = "",
        settings: dict[str, Any] | None = None,
        channel: str = CHANNEL,
        tls: dict[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="handoff-bench-"))
        self.port, self.console = free_port(), free_port()
        (self.folder / "channels").mkdir()
        (self.folder / "channels" / "bench.yaml").write_text(
            channel.replace("127.0.0.1:2575", f"127.0.0.1:{self.port}").replace(
                "20000}", f"20000, tls: {json.dumps(tls)}}}" if tls else "20000}"
            )
            + deliver
        )
        nowhere = f"http://127.0.0.1:{free_port()}"
        written: dict[str, Any] = {
            "data": "var",
            "console": {"endpoint": f"127.0.0.1:{self.console}"},
            "sandbox": {"enabled": False},
            "gateways": {
                "nowhere": {"base": nowhere, "account": "AC1", "token": "${env:BENCH}", "from": "+12175550100"}
            },
        }
        (self.folder / "handoff.yaml").write_text(json.dumps(written | (settings or {})))  # JSON is YAML
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HANDOFF_")},
            "HANDOFF_CONFIG": str(self.folder / "handoff.yaml"),
            "BENCH": "sandbox",
        }
        if store:
            self._environment["HANDOFF_STORE"] = store
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it; return the seconds until its listener took a connection."""
        began = time.perf_counter()
        log = (self.folder / "log").open("wb")
        handoff = Path(sys.executable).with_name("handoff")
        self.process = subprocess.Popen([handoff, "run"], env=self._environment, stdout=log, stderr=log)
        while time.perf_counter() - began < 30:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return time.perf_counter() - began
            except OSError:
                time.sleep(0.005)
        raise SystemExit(f"the engine did not start:\n{(self.folder / 'log').read_text()}")

    def stop(self, *, keep: bool = False) -> None:
        """Stop it and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def usage(self) -> dict[str, float]:
        """Return CPU seconds so far and resident MiB now, of the engine and the processes it started."""
        assert self.process is not None
        pids = [self.process.pid, *children(self.process.pid)]
        return {"cpu": sum(map(cpu_seconds, pids)), "rss": sum(map(resident, pids))}

    def disk(self) -> int:
        """Return the bytes of its data folder."""
        return sum(path.stat().st_size for path in (self.folder / "var").rglob("*") if path.is_file())

    def counters(self) -> dict[str, Any]:
        """Return what the console counts."""
        handoff = Path(sys.executable).with_name("handoff")
        found = subprocess.run(
            [handoff, "status", "--json"], env=self._environment, capture_output=True, check=True, text=True
        )
        return dict(json.loads(found.stdout))


def load(port: int, *options: object) -> dict[str, Any]:
    """Run the load generator against a port, to its end."""
    command = [sys.executable, str(ROOT / "bench" / "load.py"), f"127.0.0.1:{port}", *map(str, options)]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout))


def children(pid: int) -> list[int]:
    """Return the processes that a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended meanwhile
            for child in (task / "children").read_text().split():
                found += [int(child), *children(int(child))]
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident(pid: int) -> float:
    """Return the MiB that a process alone would free: its private memory."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
