"""This module shows that rows of a database become messages once each, on SQLite and on PostgreSQL."""

import asyncio
import threading
from typing import Any

import orjson
import psycopg
import pytest

from broker.errors import NotAccepted
from broker.notices import Bug, MessageRefused
from broker.notices_polls import PollFailed, PollRecovered
from broker.retry import RetryPolicy
from listeners import database, database_rows
from tests.contract.poll_rig import (
    CHANGED,
    OUTBOX,
    TABLE,
    WATERMARK,
    Kept,
    Remembered,
    build,
    insert,
    polling,
    taken,
    until,
)
from tests.contract.test_database_contract import run
from tests.postgres import Cluster


@pytest.fixture
def url(store_urls: str) -> str:
    run(store_urls, TABLE.format(blob="blob" if store_urls.startswith("sqlite") else "bytea"))
    return store_urls


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait long until it is tried again."""
    monkeypatch.setattr("listeners.polling._AGAIN", 0.05)
    monkeypatch.setattr("listeners.polling._BACKOFF", RetryPolicy(attempts=0, first=0.01, max=0.1))


async def test_rows_beyond_the_mark_come_once_in_their_order(url: str) -> None:
    insert(url, *range(10, 0, -1))
    kept, marks = Kept(), Remembered()
    async with polling(url, kept, marks, **WATERMARK) as listener:
        assert (listener.endpoints, listener.connections) == (("database ward",), 0)
        await until(lambda: len(kept.messages) == 10)
        insert(url, 11, 12)
        await until(lambda: len(kept.messages) == 12)
    assert not listener.endpoints
    assert (kept.ids(), kept.tries) == (list(range(1, 13)), 12)
    insert(url, 13)
    async with polling(url, kept, marks, **WATERMARK):
        await until(lambda: len(kept.messages) == 13)
    assert kept.tries == 14  # the one at the mark came again, and was known
    assert not kept.told(PollFailed)


async def test_rows_that_share_a_mark_are_all_read_also_late_ones(url: str) -> None:
    insert(url, *range(1, 11))
    kept, marks = Kept(), Remembered()
    async with polling(url, kept, marks, **CHANGED):
        await until(lambda: len(kept.messages) == 10)
        insert(url, 0)
        insert(url, 11, changed="2026-03-18 14:15:00.25")
        await until(lambda: len(kept.messages) == 12)
    assert (sorted(kept.ids()), kept.tries) == (list(range(12)), 12)
    async with polling(url, kept, marks, **CHANGED):
        insert(url, 12, changed="2026-03-18 14:15:00.25")
        insert(url, 13, changed="2026-03-18 14:14:00")  # before the mark: it came too late
        await until(lambda: len(kept.messages) == 13)
    assert 13 not in kept.ids()


async def test_row_that_was_changed_comes_again_as_it_is_now(url: str) -> None:
    insert(url, 1, 2)
    kept = Kept()
    async with polling(url, kept, Remembered(), **CHANGED):
        await until(lambda: len(kept.messages) == 2)
        run(url, "UPDATE visit SET ward = 'X', changed = '2026-03-19 08:00:00' WHERE id = 1")
        await until(lambda: len(kept.messages) == 3)
    assert kept.ids() == [1, 2, 1]
    assert len({key for key, _ in kept.messages}) == 3  # by their keys, so none is taken for a mistake of the sender


async def test_message_is_the_row_as_json(url: str) -> None:
    photo = "X'00ff'" if url.startswith("sqlite") else "'\\x00ff'"
    run(url, f"INSERT INTO visit VALUES (1, '2026-03-18 14:15:00', 'é', 70.25, '1962-09-10', {photo}, NULL)")
    kept = Kept()
    async with polling(url, kept, **WATERMARK):
        await until(lambda: len(kept.messages) == 1)
    [message] = kept.messages.values()
    typed = {"changed": "2026-03-18T14:15:00", "weight": "70.25"}
    loose = {"changed": "2026-03-18 14:15:00", "weight": 70.25}
    assert orjson.loads(message.body) == {
        "id": 1, "ward": "é", "born": "1962-09-10", "photo": "AP8=", "taken": None,
        **(loose if url.startswith("sqlite") else typed),
    }  # fmt: skip
    assert message.peer == "database ward"


async def test_rows_of_an_outbox_are_marked_once_they_are_committed(url: str) -> None:
    insert(url, *range(1, 8))
    kept = Kept()
    seen: list[list[int]] = []
    kept.on_accept = lambda: seen.append(taken(url))
    async with polling(url, kept, **OUTBOX):
        await until(lambda: len(taken(url)) == 7)
    assert (kept.ids(), kept.tries) == (list(range(1, 8)), 7)
    assert seen == [[]] * 3 + [[1, 2, 3]] * 3 + [[1, 2, 3, 4, 5, 6]]


async def test_rows_of_an_outbox_may_be_deleted(url: str) -> None:
    insert(url, 1, 2)
    kept = Kept()
    async with polling(url, kept, outbox={"mark": "DELETE FROM visit WHERE id = :id"}):
        await until(lambda: not run(url, "SELECT 1 FROM visit"))
    assert kept.ids() == [1, 2]


async def test_mark_that_changes_nothing_is_told_and_not_tried_at_once_again(url: str) -> None:
    insert(url, 1, 2, 3, 4)
    kept = Kept()
    async with polling(url, kept, **{**OUTBOX, "outbox": {"mark": "UPDATE visit SET taken = 1 WHERE id = -:id"}}):
        await until(lambda: bool(kept.told(PollFailed)))
        assert kept.tries == 3
    assert "changed none" in kept.told(PollFailed)[0].reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({**WATERMARK, "key": ["mrn"]}, "no column mrn"),
        ({"watermark": {"column": "moved", "start": 0}}, "cannot be read"),
        ({**WATERMARK, "query": "SELECT * FROM visits"}, "cannot be read"),
        ({**WATERMARK, "query": "SELECT id, ward, 'Okafor' AS born FROM visit", "key": ["weight"]}, "no column weight"),
        ({**OUTBOX, "query": "SELECT id, ward, born AS ward FROM visit"}, "two columns called ward"),
        ({**OUTBOX, "outbox": {"mark": "DELETE FROM visit WHERE id = :number"}}, "wants :number"),
        ({**CHANGED, "key": ["taken"]}, "have the same `key`"),
    ],
)
async def test_what_does_not_fit_is_told_once(url: str, options: dict[str, Any], told: str) -> None:
    insert(url, 1, 2, 3, 4, 5)
    kept = Kept()
    async with polling(url, kept, **options) as listener:
        await until(lambda: listener._polling.failures > 0)
    [notice] = kept.told(PollFailed)
    assert told in notice.reason
    assert "Okafor" not in notice.reason


async def test_many_rows_at_the_mark_and_large_ones_are_read_page_by_page(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(url, *range(1, 101))
    kept = Kept()
    pages: list[int] = []
    monkeypatch.setattr(
        database, "crash_point", lambda point: pages.append(kept.tries) if "committed" in point else None
    )
    async with polling(url, kept, **CHANGED):
        await until(lambda: len(kept.messages) == 100)
        await until(lambda: len(pages) == 7)
    assert pages == [3, 6, 12, 24, 48, 96, 100]
    monkeypatch.setattr(database_rows, "_PAGE", 1)
    kept, pages[:] = Kept(), []
    async with polling(url, kept, **{**OUTBOX, "query": "SELECT * FROM visit WHERE taken = 0 AND id < 4"}):
        await until(lambda: taken(url) == [1, 2, 3])
    assert len(pages) == 3


@pytest.mark.usefixtures("quick")
async def test_nothing_is_read_while_too_much_waits_for_the_store(url: str) -> None:
    insert(url, 1)
    kept = Kept()
    async with polling(url, kept, **OUTBOX) as listener:
        await until(lambda: taken(url) == [1])
        listener._tools.pressure.is_high = True
        insert(url, 2)
        await asyncio.sleep(1.1)
        assert kept.ids() == [1]
        listener._tools.pressure.is_high = False
        await until(lambda: taken(url) == [1, 2])
    await listener.stop()


@pytest.mark.usefixtures("quick")
async def test_store_that_is_away_changes_neither_order_nor_number(url: str) -> None:
    insert(url, 1, 2, 3)
    kept = Kept()
    kept.refusals = [NotAccepted("away"), NotAccepted("away")]
    async with polling(url, kept, **OUTBOX):
        await until(lambda: len(taken(url)) == 3)
    assert (kept.ids(), kept.tries) == ([1, 2, 3], 5)


async def test_row_that_cannot_be_taken_is_kept_for_an_operator_and_passed_by(url: str) -> None:
    insert(url, 1, 2)
    run(url, "INSERT INTO visit (id, ward) VALUES (3, NULL)")
    kept = Kept()
    kept.refusals = [NotAccepted("no", code="AR", condition=101)]
    async with polling(url, kept, **OUTBOX, key=["ward"]):
        await until(lambda: len(taken(url)) == 3)
    assert kept.ids() == [2]
    assert sorted(orjson.loads(body)["id"] for body in kept.quarantined) == [1, 3]
    assert [notice.code for notice in kept.told(MessageRefused)] == ["AR", "AR"]


async def test_stop_ends_the_waiting_for_a_store_that_is_away(url: str) -> None:
    insert(url, 1, 2, 3)
    kept = Kept()
    kept.refusals = [NotAccepted("away")] * 100
    async with polling(url, kept, **OUTBOX):
        await until(lambda: kept.tries > 0)
    assert (kept.ids(), taken(url)) == ([], [])


@pytest.mark.usefixtures("quick")
async def test_mistake_of_ours_does_not_end_the_poll(url: str) -> None:
    insert(url, 1)
    kept = Kept()
    kept.refusals = [RuntimeError("ours")]
    async with polling(url, kept, **OUTBOX):
        await until(lambda: taken(url) == [1])
    assert [notice.error for notice in kept.told(Bug)] == ["RuntimeError"]
    assert len(kept.told(PollRecovered)) == 1


def end_others(url: str) -> None:
    """End every other connection to the database."""
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    run(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("options", [WATERMARK, OUTBOX])
async def test_connection_that_ends_between_read_and_mark_brings_nothing_twice(
    options: dict[str, Any], postgres_url: str
) -> None:
    run(postgres_url, TABLE.format(blob="bytea"))
    insert(postgres_url, *range(1, 8))
    kept = Kept()
    kept.on_accept = lambda: end_others(postgres_url)
    async with polling(postgres_url, kept, Remembered(), **options):
        await until(lambda: len(kept.messages) == 7 and (options is WATERMARK or len(taken(postgres_url)) == 7))
    assert kept.ids() == list(range(1, 8))


@pytest.mark.usefixtures("quick")
async def test_connection_that_ends_over_the_mark_brings_nothing_twice(postgres_url: str) -> None:
    run(postgres_url, TABLE.format(blob="bytea"))
    insert(postgres_url, 1, 2)
    kept = Kept()
    with psycopg.connect(postgres_url) as locks:
        locks.execute("SELECT * FROM visit WHERE id = 2 FOR UPDATE")
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with polling(postgres_url, kept, **OUTBOX):
            await until(lambda: bool(run(postgres_url, waiting)))
            run(postgres_url, f"SELECT pg_terminate_backend(pid) FROM ({waiting}) AS blocked")
            await until(lambda: bool(kept.told(PollFailed)))
            assert taken(postgres_url) == []
            locks.rollback()
            await until(lambda: bool(kept.told(PollRecovered)))
    assert (kept.ids(), taken(postgres_url)) == ([1, 2], [1, 2])
    assert kept.tries > 2
    assert "SQLSTATE 57P01" in kept.told(PollFailed)[0].reason


@pytest.mark.usefixtures("quick")
async def test_database_that_is_away_for_a_while_is_told_once_and_once_that_it_is_back(
    postgres: Cluster, postgres_url: str
) -> None:
    run(postgres_url, TABLE.format(blob="bytea"))
    insert(postgres_url, 1)
    kept = Kept()
    name = postgres_url.rpartition("/")[2]
    async with polling(postgres_url, kept, Remembered(), **WATERMARK) as listener:
        await until(lambda: kept.ids() == [1])
        run(postgres.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        run(postgres.url(), f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        await until(lambda: listener._polling.failures > 2)
        assert listener.away == kept.told(PollFailed)[0].reason
        run(postgres.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(lambda: bool(kept.told(PollRecovered)))
        insert(postgres_url, 2)
        await until(lambda: kept.ids() == [1, 2])
    assert [len(kept.told(kind)) for kind in (PollFailed, PollRecovered)] == [1, 1]
    assert (kept.tries, listener._polling.failures, listener.away) == (2, 0, "")


async def test_database_that_goes_silent_is_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT", 0)
    silent = threading.Event()
    kept = Kept()
    listener = build(url, kept, timeout="50ms", **OUTBOX)
    monkeypatch.setattr(listener._reading, "read", lambda *_: silent.wait(10))
    assert await listener._polling._attempt() is not None
    silent.set()
    assert "no answer" in kept.told(PollFailed)[0].reason
