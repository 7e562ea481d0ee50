"""This module holds the database destination to one contract, on SQLite and on PostgreSQL."""

import asyncio
import contextlib
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import psycopg
import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.errors import ConfigError
from broker.parts import Destination, Tools
from dispatch.database import DatabaseOutSpec
from tests.contract.scripted_server import closed_port
from tests.postgres import Cluster

TABLE = """CREATE TABLE visit (
    mrn varchar(20) PRIMARY KEY, family varchar(20) NOT NULL, born date, beds integer, open boolean,
    weight numeric(6,2), at timestamp, handoff varchar(40) UNIQUE, CHECK (beds < 100))"""
VALUES: dict[str, Any] = {"mrn": "0012", "family": "Okafor"}
SECRETS = ("Okafor", "0012", "s3cret")


def run(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Run a statement, and return what it gives."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            rows = connection.execute(sql).fetchall()
            connection.commit()
            return rows
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(sql.encode())
        return done.fetchall() if done.description else []


def build(url: str, *, password: str | None = None, **options: Any) -> Destination:
    nothing = cast("Any", None)
    settings = SimpleNamespace(root=Path("/"), databases={"dwh": SimpleNamespace(url=url, password=password)})
    tools = Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=settings)
    given = {"database": "dwh", "values": dict.fromkeys(VALUES, "x"), "timeout": "5s", **options}
    return DatabaseOutSpec.model_validate(given).build(tools)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Callable[..., Any]]:
    destination = build(url, **options)
    await destination.open()

    async def send(values: dict[str, Any], key: str = "k1") -> Outcome:
        (outcome,) = await destination.send([Delivery(id=1, route=1, key=key, request=orjson.dumps(values))])
        return outcome

    yield send
    await destination.close()


async def send(url: str, row: dict[str, Any], delivery_key: str = "k1", **options: Any) -> Outcome:
    async with opened(url, **options) as sending:
        outcome: Outcome = await sending(row, delivery_key)
        return outcome


@pytest.fixture
def url(store_urls: str) -> str:
    run(store_urls, TABLE)
    return store_urls


def visits(url: str, columns: str = "mrn, family") -> list[tuple[Any, ...]]:
    return run(url, f"SELECT {columns} FROM visit ORDER BY mrn")


async def test_row_is_inserted_and_then_updated_by_its_key(url: str) -> None:
    options: dict[str, Any] = {"table": "visit", "key": ["mrn"]}
    assert await send(url, VALUES, **options) == Delivered(reference="1 rows")
    assert await send(url, VALUES, **options) == Delivered(reference="1 rows")
    assert await send(url, {**VALUES, "family": "O'Hara\"; DROP --"}, **options) == Delivered("1 rows")
    assert visits(url) == [("0012", "O'Hara\"; DROP --")]
    assert isinstance(await send(url, VALUES, **options, on_match="keep"), Delivered)
    assert visits(url) == [("0012", "O'Hara\"; DROP --")]


async def test_attempt_says_whom_it_reached(url: str) -> None:
    via = (await send(url, VALUES, table="visit")).via
    assert via == (None if url.startswith("sqlite") else Via(f"127.0.0.1:{urlsplit(url).port}"))


async def test_delivery_that_comes_twice_is_inserted_once(url: str) -> None:
    options: dict[str, Any] = {"table": "visit", "delivery_column": "handoff"}
    assert await send(url, VALUES, "k1", **options) == Delivered("1 rows")
    assert await send(url, VALUES, "k1", **options) == Delivered("0 rows")
    assert await send(url, {**VALUES, "mrn": "0013"}, "k2", **options) == Delivered("1 rows")
    assert visits(url, "mrn, handoff") == [("0012", "k1"), ("0013", "k2")]


async def test_values_become_what_their_columns_take(url: str) -> None:
    given = {"born": "1962-09-10", "beds": "12", "open": "true", "weight": "70.25", "at": "2026-03-18T14:15:00"}
    columns = ", ".join(given)
    options: dict[str, Any] = {"table": "visit", "values": dict.fromkeys({**VALUES, **given}, "x"), "key": ["mrn"]}
    assert isinstance(await send(url, {**VALUES, **given}, **options), Delivered)
    assert [str(value).partition(".")[0] for value in visits(url, columns)[0]] in (
        ["1962-09-10", "12", "True", "70", "2026-03-18 14:15:00"],
        ["1962-09-10", "12", "1", "70", "2026-03-18 14:15:00"],
    )
    assert isinstance(await send(url, {**VALUES, **dict.fromkeys(given)}, **options), Delivered)
    assert visits(url, columns) == [(None,) * 5]


@pytest.mark.parametrize(
    ("column", "value"),
    [("born", "Okafor"), ("beds", "1.5"), ("beds", ""), ("open", "perhaps"), ("weight", "0012kg"), ("at", "18.3.2026")],
)
async def test_value_that_its_column_cannot_take_is_refused_with_the_column(url: str, column: str, value: str) -> None:
    values = {**VALUES, column: value}
    outcome = await send(url, values, table="visit", values=dict.fromkeys(values, "x"))
    assert isinstance(outcome, Rejected)
    assert outcome.location == column
    assert not visits(url)


@pytest.mark.parametrize("values", [{"mrn": "0012"}, {**VALUES, "beds": 200}, VALUES], ids=["null", "check", "there"])
async def test_row_that_the_database_does_not_take_is_refused(url: str, values: dict[str, Any]) -> None:
    run(url, "INSERT INTO visit (mrn, family) VALUES ('0013', 'x')")
    if values == VALUES:
        values = {**VALUES, "mrn": "0013"}
    outcome = await send(url, values, table="visit", values=dict.fromkeys(values, "x"))
    assert isinstance(outcome, Rejected), outcome
    assert "does not take these values" in outcome.reason
    assert not [secret for secret in SECRETS if secret in repr(outcome)]
    assert len(visits(url)) == 1


async def test_what_the_database_lacks_is_tried_again_until_somebody_mends_it(url: str) -> None:
    async with opened(url, table="nowhere") as sending:
        outcome = await sending(VALUES)
        assert isinstance(outcome, Retry)
        assert outcome.reason == "database dwh: there is no table nowhere"
        run(url, TABLE.replace("visit", "nowhere"))
        assert isinstance(await sending(VALUES), Delivered)
    outcome = await send(url, {"ward": "3"}, table="visit", values={"ward": "x"})
    assert isinstance(outcome, Retry)
    assert outcome.reason == "database dwh: the table visit has no column ward"
    assert isinstance(await send(url, VALUES, statement="INSERT INTO nobody VALUES (:mrn, :family)"), Retry)


async def test_statement_gets_values_bound_and_may_ask_how_many_rows_it_changed(url: str) -> None:
    insert = "INSERT INTO visit (mrn, family, handoff) VALUES (:mrn, :family, :delivery_key)"
    assert await send(url, {"mrn": "0012", "family": ":family'"}, statement=insert) == Delivered("1 rows")
    assert visits(url, "family, handoff") == [(":family'", "k1")]
    update = "UPDATE visit SET family = :family WHERE mrn >= :mrn"
    for rows, kind in (("any", Delivered), ("some", Rejected), ("one", Rejected)):
        assert isinstance(await send(url, {"mrn": "9", "family": "y"}, statement=update, rows=rows), kind)
    run(url, "INSERT INTO visit (mrn, family) VALUES ('0013', 'x')")
    two = await send(url, {"mrn": "0", "family": "y"}, statement=update, rows="one")
    assert isinstance(two, Rejected)
    assert "changed 2 rows and must change one row" in two.reason
    assert [family for (family,) in visits(url, "family")] == [":family'", "x"]  # it was undone


async def test_many_deliveries_at_a_time(url: str) -> None:
    async with opened(url, table="visit", key=["mrn"]) as sending:
        outcomes = await asyncio.gather(*(sending({"mrn": str(number), "family": "x"}) for number in range(40)))
    assert set(outcomes) == {Delivered("1 rows")}
    assert len(visits(url)) == 40


async def test_database_that_is_away_is_tried_again(tmp_path: Path) -> None:
    for away in (f"postgresql://me@127.0.0.1:{closed_port()}/x", f"sqlite:///{tmp_path}/nowhere/x.db"):
        outcome = await send(away, VALUES, table="visit")
        assert isinstance(outcome, Retry)
        assert "no connection" in outcome.reason


async def test_table_that_somebody_locks_is_tried_again(url: str) -> None:
    with held(url):
        outcome = await send(url, VALUES, table="visit", timeout="300ms")
    assert isinstance(outcome, Retry), outcome
    assert not visits(url)


@contextmanager
def held(url: str) -> Iterator[None]:
    """Keep a lock on the table."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(url) as connection:
            connection.execute("LOCK TABLE visit IN EXCLUSIVE MODE")
            yield
            connection.rollback()


class Proxy:
    """Stands between us and PostgreSQL, and cuts the connection at a word; ``passes`` lets that word through first."""

    def __init__(self, port: int, word: bytes, *, passes: bool) -> None:
        self._to, self._word, self._passes = port, word, passes
        self._cut = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                theirs = socket.create_connection(("127.0.0.1", self._to))
                threading.Thread(target=self._pass, args=(ours, theirs, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(theirs, ours, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, watched: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._cut.is_set():
                    break  # the answer to that word
                if watched and self._word in data:
                    self._cut.set()
                    if self._passes:
                        sink.sendall(data)
                        continue  # until the other direction ends
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.mark.parametrize(
    ("word", "passes", "kind"),
    [(b"COMMIT", True, Unknown), (b"COMMIT", False, Unknown), (b"INSERT", True, Retry), (b"INSERT", False, Retry)],
)
async def test_connection_lost_before_commit_is_retry_and_after_it_unknown(
    postgres: Cluster, postgres_url: str, word: bytes, passes: bool, kind: type
) -> None:
    run(postgres_url, TABLE)
    proxy = Proxy(postgres.port, word, passes=passes)
    through = postgres_url.replace(f":{urlsplit(postgres_url).port}/", f":{proxy.port}/")
    options: dict[str, Any] = {"table": "visit", "key": ["mrn"]}
    outcome = await send(through, VALUES, **options)
    proxy.close()
    assert isinstance(outcome, kind), outcome
    assert len(visits(postgres_url)) == (1 if passes and word == b"COMMIT" else 0)
    assert isinstance(await send(postgres_url, VALUES, **options), Delivered)
    assert len(visits(postgres_url)) == 1


async def test_procedure_is_called_with_the_values_in_their_order(postgres_url: str) -> None:
    run(postgres_url, TABLE)
    run(
        postgres_url,
        "CREATE PROCEDURE admit(m varchar, f varchar) LANGUAGE plpgsql AS $$ BEGIN "
        "IF f = 'nobody' THEN RAISE EXCEPTION 'no % here', m; END IF; "
        "INSERT INTO visit (mrn, family) VALUES (m, f); "
        "IF f = 'late' THEN COMMIT; PERFORM 1/0; END IF; IF f = 'slow' THEN PERFORM pg_sleep(9); END IF; END $$",
    )
    options: dict[str, Any] = {"call": "public.admit"}
    assert await send(postgres_url, VALUES, **options) == Delivered("called")
    assert visits(postgres_url) == [("0012", "Okafor")]
    refused = await send(postgres_url, {"mrn": "0012", "family": "nobody"}, **options)
    assert isinstance(refused, Rejected)
    assert "0012" not in repr(refused)
    slow = await send(postgres_url, {"mrn": "0013", "family": "slow"}, **options, timeout="200ms")
    assert isinstance(slow, Unknown), slow  # a procedure may have committed something before
    assert isinstance(await send(postgres_url, VALUES, call="nowhere"), Retry)


async def test_procedures_are_nothing_for_sqlite(sqlite_url: str) -> None:
    outcome = await send(sqlite_url, VALUES, call="admit")
    assert isinstance(outcome, Retry)
    assert "no stored procedures" in outcome.reason


def test_database_that_cannot_be_used_is_told_at_the_start() -> None:
    for url, words in (
        ("nosuch://host/x", "Can't load plugin"),
        ("oracle+oracledb://host/x", "oracledb is not installed"),
        ("postgresql://host:port/x", "no URL that SQLAlchemy knows"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(url, table="visit")
    with pytest.raises(ConfigError, match=r"'other' is not in handoff\.yaml"):
        build("sqlite://", table="visit", database="other")


async def test_database_wants_to_be_opened_and_a_silent_one_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = build("sqlite:///x.db", table="visit")
    with pytest.raises(RuntimeError, match="before open"):
        await destination.send([Delivery(id=1, route=1, key="k", request=b"{}")])
    monkeypatch.setattr("dispatch.database_pool.CONNECT", 0)
    silent = threading.Event()
    destination = build("sqlite:///x.db", table="visit", timeout="50ms")
    monkeypatch.setattr(destination, "_apply", lambda _: silent.wait(10))
    await destination.open()
    (outcome,) = await destination.send([Delivery(id=1, route=1, key="k", request=b"{}")])
    silent.set()
    await destination.close()
    assert isinstance(outcome, Unknown)
