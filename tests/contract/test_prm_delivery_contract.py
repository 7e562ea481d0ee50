"""The patient store as a destination, on both databases: which outcome follows from which trouble."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy

from broker.canonical.model import Location, Telecom
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import NotReady, StoreError, StoreFatal, StoreUnavailable
from broker.ids import show
from broker.link import Link
from broker.migrate import sqlalchemy_url
from broker.parts import Destination, Tools
from broker.sql import Connection, connect
from dispatch.patients import applier
from dispatch.patients import writer as writing
from dispatch.patients.applier import TOO_LONG
from dispatch.patients.apply import Batch
from dispatch.patients.migrate import migrate
from dispatch.patients.queries import find
from dispatch.patients.schema import metadata
from dispatch.patients.writer import Writer
from dispatch.prm import PatientStore, PrmSpec
from tests.prm_events import merged, told, visit

CLOSED = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=2"


def build(url: str, channel: str = "mercy-adt") -> Destination:
    """Build the destination as the engine does."""
    settings = SimpleNamespace(patients=url)
    return PrmSpec().build(cast("Tools", SimpleNamespace(channel=channel, settings=settings)))


@pytest.fixture
async def store(laid_urls: str) -> AsyncIterator[Destination]:
    """A destination that is open."""
    destination = build(laid_urls)
    await destination.open()
    yield destination
    await destination.close()


@pytest.fixture
def reader(store: Destination, laid_urls: str) -> Iterator[Connection]:
    """A second connection, to look."""
    connection = connect(laid_urls, writer=False)
    yield connection
    connection.close()


def kinds(outcomes: object) -> list[type[Outcome]]:
    """Return the kinds of outcomes."""
    return [type(outcome) for outcome in cast("list[Outcome]", outcomes)]


def count(connection: Connection, table: str) -> int:
    """Return how many rows a table holds."""
    return int(connection.rows(f"SELECT count(*) FROM {table}")[0][0])


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the writing half in this process, where a test can reach it."""
    open_truly = Link.open

    async def open_inside(self: Link, target: str) -> None:
        await open_truly(self, target, inside=True)

    monkeypatch.setattr(Link, "open", open_inside)


@contextlib.contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch, statement: str, error: Exception, *, after: bool = False
) -> Iterator[None]:
    """Let a statement of the writer fail, before or after the database executed it."""
    connect_truly = connect

    def connect_badly(url: str) -> Connection:
        connection = connect_truly(url)
        run = connection.run

        def run_badly(sql: str, parameters: Any = ()) -> int:
            if sql != statement:
                return run(sql, parameters)
            if after:
                run(sql, parameters)
            raise error

        monkeypatch.setattr(connection, "run", run_badly)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(applier, "connect", connect_badly)
        yield


async def test_outcomes_come_in_the_order_of_deliveries(store: Destination, reader: Connection) -> None:
    broken = Delivery(id=(2 << 22) + 1, route=1, key="", request=b"nonsense")
    outcomes = await store.send([told(1, "1"), broken, merged(3, "1", "1"), told(4, "1")])
    assert kinds(outcomes) == [Delivered, Rejected, Rejected, Delivered]
    assert count(reader, "applied") == 2


async def test_sent_again_is_delivered_without_effect(store: Destination, reader: Connection) -> None:
    for _ in range(3):
        assert kinds(await store.send([told(1, "1")])) == [Delivered]
    assert count(reader, "patient_event") == 1


@pytest.mark.parametrize(
    ("bad", "location"),
    [
        (lambda: told(2, "1" * 257), "patient.mrn"),
        (lambda: told(2, "1", encounter=visit("V" * 257)), "encounter.identifier"),
    ],
)
async def test_one_bad_delivery_does_not_stop_the_others(
    store: Destination, reader: Connection, bad: Callable[[], Delivery], location: str
) -> None:
    outcomes = await store.send([told(1, "1"), bad(), told(3, "1")])
    assert kinds(outcomes) == [Delivered, Rejected, Delivered]
    assert cast("Rejected", outcomes[1]).location == location
    assert "111" not in str(outcomes)
    assert count(reader, "patient_event") == 2


async def test_event_of_another_shape_is_refused_alone(store: Destination, reader: Connection) -> None:
    odd = told(2, "2")
    odd.request = odd.request.replace(b'"patient":{', b'"patient":{"family":["not a text"],')
    listless = merged(3, "1", "3")
    listless.request = listless.request.replace(b'"identifiers":[', b'"identifiers":[7,')
    bodiless = told(4, "4")
    bodiless.request = bodiless.request.partition(b"\n")[0] + b"\n[]"
    assert kinds(await store.send([told(1, "1"), odd, listless, bodiless])) == [Delivered, *[Rejected] * 3]
    assert count(reader, "patient") == 1


async def test_connection_is_made_anew_after_a_mistake_of_ours(
    laid_urls: str, monkeypatch: pytest.MonkeyPatch, inside: None
) -> None:
    destination = build(laid_urls)
    await destination.open()
    with monkeypatch.context() as patch:
        patch.setattr(Batch, "apply", lambda *_: 1 // 0)
        (outcome,) = await destination.send([told(1, "1")])
        assert outcome == Unknown("patient store: our own mistake (ZeroDivisionError); please report it")
    assert kinds(await destination.send([told(1, "1")])) == [Delivered]
    await destination.close()


async def test_nul_in_a_text_is_refused_where_the_database_cannot_keep_it(laid_postgres_url: str) -> None:
    destination = build(laid_postgres_url)
    await destination.open()
    outcomes = await destination.send([told(1, "1", family="a\0b"), told(2, "2")])
    await destination.close()
    assert kinds(outcomes) == [Rejected, Delivered]
    assert "a\0b" not in str(outcomes)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreFatal("the disk is full"), StoreError("SQLITE_BUSY")])
async def test_trouble_before_the_commit_is_safe_to_retry(
    laid_urls: str, monkeypatch: pytest.MonkeyPatch, inside: None, error: StoreError
) -> None:
    destination = build(laid_urls)
    with failing(monkeypatch, "BEGIN" if laid_urls.startswith("postgresql") else "BEGIN IMMEDIATE", error):
        await destination.open()
        outcomes = await destination.send([told(1, "1"), told(2, "2")])
        assert outcomes == [Retry(str(error), is_away=True)] * 2
    assert kinds(await destination.send([told(1, "1"), told(2, "2")])) == [Delivered] * 2
    await destination.close()


@pytest.mark.parametrize("after", [True, False])
async def test_failed_commit_is_unknown_and_can_be_sent_again(
    laid_urls: str, monkeypatch: pytest.MonkeyPatch, inside: None, *, after: bool
) -> None:
    destination, batch = build(laid_urls), [told(1, "1"), told(2, "2")]
    with failing(monkeypatch, "COMMIT", StoreUnavailable("away"), after=after):
        await destination.open()
        assert kinds(await destination.send(batch)) == [Unknown] * 2
    assert kinds(await destination.send(batch)) == [Delivered] * 2
    await destination.close()
    with contextlib.closing(connect(laid_urls, writer=False)) as connection:
        assert count(connection, "patient_event") == 2


async def test_opens_while_postgresql_is_away() -> None:
    destination = build(CLOSED)
    await destination.open()
    assert kinds(await destination.send([told(1, "1")])) == [Retry]
    await destination.close()


async def test_reconnects_when_postgresql_closed_the_connection(laid_postgres_url: str) -> None:
    destination = build(laid_postgres_url)
    await destination.open()
    await destination.send([told(1, "1")])
    with contextlib.closing(connect(laid_postgres_url)) as other:
        other.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
    first = await destination.send([told(2, "2")])
    assert kinds(first) in ([Retry], [Delivered])
    assert kinds(await destination.send([told(2, "2")])) == [Delivered]
    await destination.close()


async def test_refuses_a_store_that_is_newer(laid_urls: str) -> None:
    with contextlib.closing(connect(laid_urls)) as connection:
        connection.run("UPDATE alembic_version_patients SET version_num = '9999'")
    with pytest.raises(NotReady, match="9999"):
        await build(laid_urls).open()


async def test_sqlite_that_cannot_be_used_is_said_at_open() -> None:
    with pytest.raises(NotReady, match="SQLite"):
        await build("sqlite:////nowhere/at/all.db").open()


async def test_channels_share_the_writer_of_a_store(laid_urls: str) -> None:
    first, second = build(laid_urls, "one"), build(laid_urls, "two")
    await first.open()
    await second.open()
    sent = await asyncio.gather(first.send([told(1, "1")]), second.send([told(2, "1")]))
    assert [kinds(outcomes) for outcomes in sent] == [[Delivered], [Delivered]]
    await first.close()
    assert kinds(await second.send([told(3, "1")])) == [Delivered]
    await second.close()
    with contextlib.closing(connect(laid_urls, writer=False)) as connection:
        (patient,) = find(connection, "1")
    assert sorted(event.channel for event in patient.timeline) == ["one", "two", "two"]
    assert not writing._writers


async def test_a_writer_that_is_killed_leaves_the_outcome_unknown_and_comes_back(laid_urls: str) -> None:
    destination = build(laid_urls)
    await destination.open()
    link = writing._writers[laid_urls]._link
    assert link is not None
    assert link._process is not None
    link._process.send_signal(signal.SIGSTOP)
    sending = asyncio.ensure_future(destination.send([told(1, "1"), told(2, "2")]))
    await asyncio.sleep(0.01)
    link._process.kill()
    assert kinds(await sending) == [Unknown] * 2
    assert kinds(await destination.send([told(1, "1"), told(2, "2")])) == [Delivered] * 2
    await destination.close()
    with contextlib.closing(connect(laid_urls, writer=False)) as connection:
        assert count(connection, "patient_event") == 2


async def test_send_before_open_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="before open"):
        await PatientStore(CLOSED, "mercy-adt").send([])


async def _until_done(writer: Writer, deliveries: list[Delivery]) -> list[Outcome]:
    while True:
        outcomes = await writer.send("mercy-adt", deliveries)
        if not any(isinstance(outcome, Retry | Unknown) for outcome in outcomes):
            return outcomes


async def test_two_writers_agree_on_patients_and_effects(laid_postgres_url: str) -> None:
    """Both make the same new patients, send some of the same deliveries, and merge what the other updates."""
    writers = [Writer(laid_postgres_url), Writer(laid_postgres_url)]
    for writer in writers:
        await writer.open()

    async def feed(mine: int) -> None:
        order = range(40) if mine else reversed(range(40))
        for step in order:
            shared = told(1 + step, f"P{step % 10}", telecom=(Telecom(value=str(step)),))
            own = [
                told(1000 * (mine + 1) + step * 8 + n, f"P{(step * 3 + n) % 12}", encounter=visit(f"V{n}"))
                for n in range(6)
            ]
            merge = merged(5000 + step % 4, f"P{step % 4}", f"Q{step % 4}")
            batch = [shared, *own, merge] if mine else [*reversed(own), merge, shared]
            assert kinds(await _until_done(writers[mine], batch)) == [Delivered] * len(batch)

    await asyncio.wait_for(asyncio.gather(feed(0), feed(1)), 90)
    await asyncio.gather(*(writer.close() for writer in writers))
    with contextlib.closing(connect(laid_postgres_url, writer=False)) as connection:
        assert count(connection, "patient") == 12 + 4
        assert count(connection, "applied") == count(connection, "patient_event") == 40 + 2 * 40 * 6 + 4
        for table, key in (("patient_event", "delivery_id"), ("encounter", "patient_id, value, system")):
            assert connection.rows(f"SELECT 1 FROM {table} GROUP BY {key} HAVING count(*) > 1") == []
        assert count(connection, "patient WHERE survivor_id IS NOT NULL") == 4


def test_migrations_lead_to_the_declared_tables(store_urls: str) -> None:
    migrate(store_urls)
    migrate(store_urls)
    engine = sqlalchemy.create_engine(sqlalchemy_url(store_urls))
    with engine.connect() as connection:
        context = alembic.migration.MigrationContext.configure(
            connection, opts={"version_table": "alembic_version_patients"}
        )
        assert alembic.autogenerate.compare_metadata(context, metadata) == []
    engine.dispose()


def test_every_length_that_data_can_exceed_has_words() -> None:
    names = {str(constraint.name) for table in metadata.tables.values() for constraint in table.constraints}
    assert {name for name in names if name.endswith("_length")} == set(TOO_LONG)


async def test_view_tells_everything_and_where_it_came_from(store: Destination, reader: Connection) -> None:
    stay = visit("V1", location=Location(room="101"), admitted_at="2026-01-01")
    await store.send([told(1, "1", "encounter.admitted", at="2026-01-01", family="Okafor", encounter=stay)])
    (patient,) = find(reader, "1")
    (event,), (seen,) = patient.timeline, patient.encounters
    assert (event.message, event.delivery) == (show(1 << 22), show((1 << 22) + 1))
    assert (event.channel, event.application, event.facility) == ("mercy-adt", "ADT", "MERCY")
    assert event.changed == ("family", "identifiers", "encounter")
    assert (seen.location, seen.admitted_at, seen.message) == ({"room": "101"}, "2026-01-01", event.message)
    assert (patient.message, patient.channel, patient.as_of) == (event.message, "mercy-adt", "2026-01-01")
    assert find(reader, "1", events=0)[0].timeline == ()
