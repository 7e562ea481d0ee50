"""This module runs a real engine in a folder of its own, kills it, starts it again, and keeps what it said."""

import asyncio
import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from console.cli.main import UNREACHABLE
from tests.commands import run_here
from tests.faults.harness.feed import CANARIES
from tests.laid import lay_out
from tests.ports import free_port

ROOT: Final = Path(__file__).parents[3]
_START: Final = 30.0  # seconds until the engine accepts connections
_STOP: Final = 30.0
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


class Engine:
    """One engine: a folder with settings, channels and data, and the process that runs in it.

    A context manager: whatever happens, no process is left. ``store`` is a PostgreSQL address; without it, SQLite.
    """

    def __init__(self, folder: Path, channel: Callable[[int], str], *, store: str = "", settings: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.data = folder / "var"
        self.store = store or f"sqlite:///{self.data / 'handoff.db'}"
        self.patients = store or f"sqlite:///{self.data / 'patients.db'}"
        self.starts = 0
        self._log = folder / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "channels").mkdir(parents=True, exist_ok=True)
        (folder / "channels" / "faults.yaml").write_text(channel(self.port))
        lines = ["data: var", "console: {endpoint: 127.0.0.1:0}", "sandbox: {enabled: false}"]
        if store:
            lines += [f"store: {store}", f"patients: {store}"]
        (folder / "handoff.yaml").write_text("\n".join(lines) + "\n" + settings)

    def __enter__(self) -> Self:
        """Return the engine; it is not started."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process, if it still runs."""
        self.kill()

    @property
    def pid(self) -> int:
        """The process that runs; 0 when none does."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def children(self, module: str) -> list[int]:
        """Return the processes that it has started to run a module."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        found = [child for task in tasks for child in (task / "children").read_text().split()]
        return [int(child) for child in found if module in Path(f"/proc/{child}/cmdline").read_text().split("\0")]

    def spawn(self, *, crash: str = "", files_up_to: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """Start the process and do not wait.

        ``crash`` is HANDOFF_CRASH, ``files_up_to`` a limit on the size of files, in bytes.
        """
        assert not self.pid, "it runs already"
        self.starts += 1
        if self.store.startswith("sqlite"):
            lay_out(self.data)
        variables = _environment() | dict(environment or {})
        if crash:
            variables["HANDOFF_CRASH"] = crash
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_HANDOFF, "run", "--log", "json", *(("--verbose",) if os.environ.get("FAULT_VERBOSE") else ())],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_in_the_child(files_up_to),  # noqa: PLW1509 - system calls only, nothing that could need a lock
            )

    async def start(self, **options: Any) -> float:
        """Start the process, and return when it accepts connections: the seconds that took."""
        began = time.monotonic()
        self.spawn(**options)
        while not await self._accepts():
            assert self.pid, f"the engine ended with {self.code} instead of starting:\n{self.said[-3000:]}"
            assert time.monotonic() - began < _START, f"the engine did not start:\n{self.said[-3000:]}"
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    async def wait(self, seconds: float = _STOP) -> int:
        """Wait for the process to end; return its exit code (negative: the signal that killed it)."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            assert time.monotonic() < deadline, f"the engine did not end within {seconds:g} s:\n{self.said[-3000:]}"
            await asyncio.sleep(0.01)
        return process.returncode

    async def stop(self) -> int:
        """Ask it to stop, as a service manager would; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self.wait()

    def kill(self) -> None:
        """End it without a chance to do anything (kill -9)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def code(self) -> int | None:
        """The exit code of the last process; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def said(self) -> str:
        """Everything that all its processes have written to standard output and standard error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def notices(self, *names: str) -> list[dict[str, Any]]:
        """Return the notices in its log, of these names."""
        lines = [line for line in self.said.splitlines() if line.startswith("{")]
        found = [json.loads(line) for line in lines if line.endswith("}")]
        return [notice for notice in found if notice.get("notice") in names]

    def cli(self, *arguments: str, expect: int | None = 0) -> Any:
        """Run a `handoff` command beside the engine; return the JSON document that it printed."""
        until = time.monotonic() + _START
        while True:
            code, out, err = run_here([*arguments], self.folder, _environment())
            # The console comes up a moment after the listeners, for which `start` waits.
            if code != UNREACHABLE or code == expect or not self.pid or time.monotonic() > until:
                break
            time.sleep(0.02)
        assert expect is None or code == expect, f"{arguments[0]}: {code}\n{err[-2000:]}"
        return json.loads(out) if out.strip() else None

    def secrets_shown(self) -> list[str]:
        """Return the places that show patient data although they must not: the log, and files of the engine's store."""
        files = [self._log, *self.data.glob("handoff.db*"), *self.data.glob("console*")]
        return [
            f"{name} in {path.name}"
            for path in files
            if path.exists()
            for name in CANARIES
            if name.encode() in path.read_bytes()
        ]

    async def _accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True


_HANDOFF: Final = (sys.executable, "-m", "console.cli.main")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HANDOFF_", "PYTHONDONTWRITE"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def _in_the_child(files_up_to: int) -> Callable[[], None]:
    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it must not outlive the tests, however they end
        if files_up_to:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (files_up_to, files_up_to))

    return prepare
