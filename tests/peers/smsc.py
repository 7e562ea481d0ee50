"""This module runs the SMSC of `smsc.cjs`: node-smpp, a peer that we did not write."""

import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.npm import node_modules

_SCRIPT = Path(__file__).with_suffix(".cjs")


class Smsc:
    """A context manager; ``port`` is where it listens, `heard` what it was told."""

    def __init__(self, need: Callable[[str], str]) -> None:
        self._node = need("node")
        self._modules = node_modules("smpp")
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._heard: list[dict[str, Any]] = []
        self.port = 0

    def __enter__(self) -> Self:
        """Start it, and return once it listens."""
        self._process = subprocess.Popen(
            [self._node, str(_SCRIPT)],
            env={**os.environ, "NODE_PATH": str(self._modules)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self.port = self.wait("ready")["port"]
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))

    def bring(self, **said: Any) -> None:
        """Let it bring a text (``from``, ``to``, ``text``), or end every session (``hang_up``)."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()

    def heard(self, what: str) -> list[dict[str, Any]]:
        """Return everything of one kind that it was told so far."""
        while not self._lines.empty():
            self._heard.append(self._lines.get())
        return [one for one in self._heard if one["what"] == what]

    def wait(self, what: str, count: int = 1, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until it was told something ``count`` times; return the last."""
        until = time.monotonic() + seconds
        while len(found := self.heard(what)) < count:
            assert time.monotonic() < until, f"no {what}: {self._heard}"
            time.sleep(0.01)
        return found[count - 1]
