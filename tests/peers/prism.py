"""This module runs Prism (npm @stoplight/prism-cli), which holds requests to a vendor's API description."""

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.npm import node_modules

VENDORS: Final = Path(__file__).parents[2] / "../shared/vendor-specs"
_START: Final = 60.0  # seconds


@contextlib.contextmanager
def prism(need: Callable[[str], str], description: str, log: Path) -> Iterator[str]:
    """Serve a file below ``../shared/vendor-specs``; give the address, or skip the test where something is missing."""
    file = VENDORS / description
    if not file.exists():
        pytest.skip(f"the vendor's API description is not here (../shared/vendor-specs/{description})")
    node, _ = need("node"), need("npm")
    program = node_modules("@stoplight/prism-cli") / "@stoplight/prism-cli/dist/index.js"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [node, str(program), "mock", "--host", "127.0.0.1", "--port", str(port), str(file.resolve())]
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, env={**os.environ, "NO_COLOR": "1"})
    try:
        _wait(f"http://127.0.0.1:{port}/", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it says that it knows no such path: it is there
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"Prism did not start: {log.read_text()}")
