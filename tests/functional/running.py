"""This module runs the shipped engine, with its sample channel and sandbox, in a folder and on ports of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

from console.cli.client import Client
from tests.commands import run_here
from tests.laid import lay_out
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[2]
HANDOFF: Final = Path(sys.executable).with_name("handoff")
# Longest waits, in seconds: a machine that has much else to do takes ten times as long.
_START: Final = 60.0
_SETTLE: Final = 60.0
_STOP: Final = 60.0


class Running:
    """One engine as a newcomer has it; a context manager that leaves nothing behind.

    Its tables are there (see `tests.laid`), unless ``laid`` is false.
    """

    def __init__(self, folder: Path, store: str = "", *, laid: bool = True) -> None:
        self.folder = folder
        self.mllp, self.console, self.sandbox = free_port(), free_port(), free_port()
        shutil.copytree(ROOT / "channels", folder / "channels")
        shutil.copy(ROOT / "handoff.yaml", folder)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HANDOFF_")},
            "HANDOFF_CONFIG": str(folder / "handoff.yaml"),
            "HANDOFF_MLLP": f"127.0.0.1:{self.mllp}",
            "HANDOFF_CONSOLE": f"127.0.0.1:{self.console}",
            "HANDOFF_SANDBOX": f"127.0.0.1:{self.sandbox}",
        }
        if store:
            self.environment["HANDOFF_STORE"] = store
        elif laid:
            lay_out(folder / "var")
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it; nothing is left of one that does not."""
        try:
            self.start()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start it, and return when it says what to do next."""
        self.spawn()
        assert self.process is not None
        until = time.monotonic() + _START
        while "next " not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def spawn(self) -> None:
        """Start it, and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([HANDOFF, "run"], env=self.environment, stdout=log, stderr=log)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(_STOP)
        self.log.write_text("")
        return code

    def die_at(self, point: str) -> None:
        """Run it until it dies at a crash point (see `broker.crash`)."""
        environment = self.environment | {"HANDOFF_CRASH": point}
        died = subprocess.run([HANDOFF, "run"], env=environment, capture_output=True, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `handoff` against it."""
        return subprocess.run(
            [HANDOFF, *words],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def read(self, *words: str) -> Any:
        """Run a command that prints one JSON document, and return that."""
        code, out, err = run_here([*words, "--json"], self.folder, self.environment)
        assert code == 0, err
        return json.loads(out)

    def send(self, *names: str) -> None:
        """Send sample messages, one after another, and expect AA for each."""
        done = self.run("send", *(f"channels/messages/{name}.hl7" for name in names))
        assert done.returncode == 0, done.stderr
        assert [line[:2] for line in done.stdout.splitlines()[: len(names)]] == ["AA"] * len(names), done.stdout

    def settled(self, control_id: str) -> dict[str, Any]:
        """Wait until everything that a message led to has ended; return its journey."""
        console = Client(f"127.0.0.1:{self.console}", (self.folder / "var" / "console.token").read_text().strip())
        until = time.monotonic() + _SETTLE
        while time.monotonic() < until:
            found = console.get("/messages", control_id=control_id)["messages"]
            if found and found[0]["state"] != "received":
                states = {each["state"] for each in found[0]["deliveries"]}
                if states.isdisjoint({"waiting", "sending"}):
                    journey: dict[str, Any] = console.get(f"/trace/{found[0]['id']}")
                    return journey
            time.sleep(0.05)
        raise AssertionError(f"{control_id} did not settle: {self.log.read_text()}")
