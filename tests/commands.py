"""This module runs commands of `handoff` inside the tests' own process, as half a second of each goes into starting.

It is for looking at an engine and acting on it; `tests/functional/test_engine.py` runs the program itself.
"""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from console.cli.main import invoke


def run_here(words: list[str], folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command in a folder and with these variables alone; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, environment, clear=True),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = invoke(words)
    return code, out.getvalue(), err.getvalue()
