"""This module brings a database to the form that the code expects, and refuses one that is newer than the code."""

from pathlib import Path
from typing import Any, Final

from broker.errors import NotReady
from broker.sql import Connection, connect

HEAD: Final = "0006"
_VERSION_TABLE: Final = "alembic_version"
_LOCK: Final = 0x48414E444F464D  # the advisory lock of whoever migrates


def migrate(url: str) -> None:
    """Run the migrations that are missing; quick (one query) when there are none. Raises `NotReady`."""
    bring_up(url, Path(__file__).parent / "migrations", HEAD, _VERSION_TABLE, "store")


def bring_up(url: str, scripts: Path, head: str, version_table: str, name: str) -> None:
    """Run the migrations in ``scripts`` up to ``head``, keeping the place in ``version_table``.

    Raises `NotReady` when the database is newer than that; ``name`` is what people call it.
    """
    connection = connect(url)
    try:
        version = _version(connection, version_table)
    finally:
        connection.close()
    if version == head:
        return
    if version is not None and version > head:
        message = (
            f"{name}: the database has form {version}, this program knows up to {head}; "
            "install the version that made it, or a newer one"
        )
        raise NotReady(message)
    _upgrade(url, scripts, head, version_table)


def _version(connection: Connection, table: str) -> str | None:
    catalog = (
        "sqlite_master WHERE type = 'table' AND name" if connection.dialect == "sqlite" else "pg_tables WHERE tablename"
    )
    if not connection.rows(f"SELECT 1 FROM {catalog} = ?", (table,)):  # noqa: S608 - literals of this module
        return None
    found = connection.rows(f"SELECT max(version_num) FROM {table}")  # noqa: S608 - a literal of ours
    return str(found[0][0]) if found[0][0] is not None else None


def _upgrade(url: str, scripts: Path, head: str, version_table: str) -> None:
    # Imported here: these two cost half a second that a start with nothing to migrate need not pay.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine, text  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("version_table", version_table)
    engine = create_engine(sqlalchemy_url(url))
    if engine.dialect.name == "sqlite":
        _make_atomic(engine)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                # Two engines that start at once on an empty database: the second waits, and finds it made.
                connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, head)
            connection.commit()
    finally:
        engine.dispose()


def _make_atomic(engine: Any) -> None:
    """Let a migration of SQLite take effect whole or not at all: Python's driver begins no transaction for DDL."""
    from sqlalchemy import event  # noqa: PLC0415

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def sqlalchemy_url(url: str) -> str:
    """Return our URL as SQLAlchemy writes it: PostgreSQL is reached through psycopg."""
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in {"postgresql", "postgres"} else url
