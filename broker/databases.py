"""This module opens databases of others that ``handoff.yaml`` names, and says what of a statement's text is bound."""

import re
from pathlib import Path
from typing import Any, Final

from broker.errors import ConfigError
from broker.named import find_named
from broker.places import reveal

CONNECT: Final = 10  # seconds that a connection may take
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_BOUND: Final = re.compile(r"(?<![:\w\\]):(\w+)(?!:)")  # as SQLAlchemy reads a statement
_CAST: Final = re.compile(r"(?<![:\w\\])(:\w+)::")


def bound_names(option: str, statement: str) -> set[str]:
    """Return the names that a statement binds (``:name``); raise `ValueError` where one cannot be told from a cast."""
    if cast := _CAST.search(statement):
        raise ValueError(f"`{option}` has {cast[0]}, which cannot be told from a name; write CAST({cast[1]} AS …)")
    return set(_BOUND.findall(statement))


def open_engine(settings: Any, name: str, channel: str, connections: int, timeout: float) -> Any:
    """Return a SQLAlchemy engine for a database of the settings, not connected yet; raise `ConfigError` without one."""
    import sqlalchemy as sa  # noqa: PLC0415 - costs 300 ms, which reading a channel file must not

    database = find_named(settings.databases, name, f"channel {channel}", "database", "databases")
    where = f"handoff.yaml, databases.{name}.url"
    try:
        url = sa.engine.make_url(database.url)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        if database.password is not None:
            url = url.set(password=reveal(database.password))
        if url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"}:
            url = url.set(database=str((getattr(settings, "root", None) or Path()) / str(url.database)))
        return sa.create_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_pre_ping=True,
            pool_timeout=timeout,
            hide_parameters=True,
            connect_args=_connect_args(url, timeout),
            execution_options={"preserve_rowcount": True},
        )
    except (sa.exc.ArgumentError, ValueError) as error:
        raise ConfigError(f"{where}: {_first_line(error)}") from None
    except ImportError as error:
        driver = error.name or "its driver"
        raise ConfigError(f"{where}: the library {driver} is not installed; install it with pip") from None


def _first_line(error: Exception) -> str:
    told = str(error).partition("\n")[0]
    return told if "plugin" in told else "this is no URL that SQLAlchemy knows"  # others repeat the URL


def _connect_args(url: Any, timeout: float) -> dict[str, Any]:
    if url.drivername == "postgresql+psycopg":
        return {"connect_timeout": CONNECT, "options": f"-c statement_timeout={int(timeout * 1000)}"}
    if url.get_driver_name() == "pymysql":
        return {"connect_timeout": CONNECT, "read_timeout": timeout, "write_timeout": timeout}
    return {"timeout": timeout} if url.get_backend_name() == "sqlite" else {}


def error_kind(error: Exception) -> str:
    """Return the kind of an error with its SQLSTATE: its text may repeat values."""
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    return type(original).__name__ + (f", SQLSTATE {state}" if state else "")
