"""This module gives all tests what they share: the two databases, and programs that a machine may lack.

A test that needs a program asks `need` for it and is skipped, with the reason, where the program is missing. With
``HANDOFF_REQUIRE=1`` (which ``.ci/run`` sets) it fails instead, so that nothing is left out unnoticed.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.laid import both_in_one, lay_out_in
from tests.postgres import Cluster, find_programs

# How long an example takes says what else the machine does. Where CI is set, hypothesis rolls the same dice every time.
settings.register_profile("quiet", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
if not os.environ.get("CI"):
    settings.load_profile("quiet")

Need = Callable[[str], str]

# What each program goes by, and the Debian package that brings it.
_NAMES: Final = {
    "chromium": (("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"), "chromium"),
    "dovecot": (("dovecot", "/usr/sbin/dovecot"), "dovecot-imapd"),
    "mariadbd": (("mariadbd", "/usr/sbin/mariadbd"), "mariadb-server-core"),
    "node": (("node", "nodejs"), "nodejs"),
    "postgres": ((), "postgresql"),
    "sshd": (("sshd", "/usr/sbin/sshd"), "openssh-server"),
    "strace": (("strace",), "strace"),
}


def find(tool: str) -> str:
    """Return where a program is, or skip the test; fail it where everything that can run is required."""
    names, package = _NAMES.get(tool, ((tool,), tool))
    if tool == "postgres":
        found = str(find_programs() or "")
    else:
        found = next((path for name in names if (path := shutil.which(name))), "")
    if found:
        return found
    reason = f"needs {tool}, which is not installed (Debian: apt-get install {package})"
    if os.environ.get("HANDOFF_REQUIRE") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Need:
    """Return a function that gives the path of a program, or skips the test: ``need("strace")``."""
    return find


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A running PostgreSQL cluster, one for each process of the tests."""
    cluster = Cluster(Path(find("postgres")))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """The address of an empty PostgreSQL database, dropped after the test."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def laid_database(postgres: Cluster) -> Iterator[str]:
    """The name of a PostgreSQL database that holds both stores, to make others like it."""
    with postgres.database() as url:
        lay_out_in(url)
        yield url.rpartition("/")[2]


@pytest.fixture
def laid_postgres_url(postgres: Cluster, laid_database: str) -> Iterator[str]:
    """The address of a PostgreSQL database that holds both stores, empty, in the newest form."""
    with postgres.database(laid_database) as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of an SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'handoff.db'}"


@pytest.fixture
def laid_sqlite_url(tmp_path: Path) -> str:
    """The address of an SQLite database that holds both stores, empty, in the newest form."""
    path = tmp_path / "handoff.db"
    path.write_bytes(both_in_one())
    path.chmod(0o600)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_urls(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; the test runs once on each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    return str(request.getfixturevalue(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def laid_urls(request: pytest.FixtureRequest) -> str:
    """The address of a database that holds both stores, empty; the test runs once on each kind."""
    name = "laid_sqlite_url" if request.param == "sqlite" else "laid_postgres_url"
    return str(request.getfixturevalue(name))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses PostgreSQL, so that ``-m "not postgres"`` leaves it out; begin with what takes long."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        kinds = {parameters.get("store_urls"), parameters.get("laid_urls")}
        if names & {"postgres", "postgres_url", "laid_postgres_url"} or "postgresql" in kinds:
            item.add_marker(pytest.mark.postgres)
    # The longest first, so that no process of the tests is left alone with one of them at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
