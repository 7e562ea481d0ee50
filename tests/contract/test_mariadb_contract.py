"""This module holds the database destination to its contract on MariaDB, through PyMySQL: rows, upserts, procedures."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from broker.delivery import Delivered, Rejected, Retry, Unknown, Via
from tests.conftest import find
from tests.contract.test_database_contract import VALUES, Proxy
from tests.contract.test_database_contract import opened as sending
from tests.mariadb import PASSWORD, MariaDb

TABLE = (
    "CREATE OR REPLACE TABLE visit (mrn varchar(20) PRIMARY KEY, family varchar(20) NOT NULL, beds integer, "
    "open boolean, born date, handoff varchar(40) UNIQUE, CHECK (beds < 100))"
)
PROCEDURE = """CREATE OR REPLACE PROCEDURE admit(m varchar(20), f varchar(20)) BEGIN
IF f = 'nobody' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF;
INSERT INTO visit (mrn, family) VALUES (m, f);
IF f = 'late' THEN COMMIT; SELECT nothing FROM nowhere; END IF; END"""


@pytest.fixture(scope="module")
def server() -> Iterator[MariaDb]:
    """A running server."""
    running = MariaDb(Path(find("mariadbd")))
    try:
        running.start()
        yield running
    finally:
        running.remove()


@pytest.fixture
def maria(server: MariaDb) -> MariaDb:
    """The server with an empty table."""
    server.run(TABLE)
    return server


def opened(url: str, **options: Any) -> AbstractAsyncContextManager[Callable[..., Any]]:
    """Give what sends values to the database."""
    return sending(url, password=PASSWORD, **options)


async def test_row_is_inserted_updated_by_its_key_and_never_inserted_twice(maria: MariaDb) -> None:
    async with opened(maria.url, table="visit", key=["mrn"]) as send:
        outcome = await send(VALUES)
        assert outcome == Delivered("1 rows")
        assert outcome.via == Via(f"127.0.0.1:{maria.port}")
        assert await send({**VALUES, "family": "O'Hara\\\"; DROP --"}) == Delivered("1 rows")
    async with opened(maria.url, table="visit", key=["mrn"], on_match="keep") as send:
        assert await send(VALUES) == Delivered("0 rows")
    assert maria.run("SELECT mrn, family FROM visit") == [("0012", "O'Hara\\\"; DROP --")]
    async with opened(maria.url, table="visit", delivery_column="handoff") as send:
        assert await send({**VALUES, "mrn": "0013"}, "k2") == Delivered("1 rows")
        assert await send({**VALUES, "mrn": "0014"}, "k2") == Delivered("0 rows")
    assert maria.run("SELECT mrn FROM visit") == [("0012",), ("0013",)]


async def test_values_fit_their_columns_or_are_refused(maria: MariaDb) -> None:
    given = {**VALUES, "beds": "12", "open": "true", "born": "1962-09-10"}
    async with opened(maria.url, table="visit", values=dict.fromkeys(given, "x")) as send:
        assert isinstance(await send(given), Delivered)
        for wrong in ({"beds": "200"}, {"beds": "many"}, {"family": None}, {"family": "x" * 30}, {}):
            outcome = await send({**given, **wrong})  # the last is there already
            assert isinstance(outcome, Rejected), wrong
            assert "Okafor" not in repr(outcome)
        assert isinstance(await send({**given, "mrn": "0013", "open": "7"}), Delivered)  # it is a small number, too
    rows = maria.run("SELECT beds, open, born FROM visit ORDER BY mrn")
    assert [[str(value) for value in row] for row in rows] == [["12", "1", "1962-09-10"], ["12", "7", "1962-09-10"]]


async def test_two_at_a_time_of_one_key_make_one_row(maria: MariaDb) -> None:
    async with opened(maria.url, table="visit", key=["mrn"], connections=8) as send:
        outcomes = await asyncio.gather(*(send({"mrn": str(n % 4), "family": str(n)}) for n in range(24)))
        assert {type(each) for each in outcomes} <= {Delivered, Retry}
        assert Delivered in {type(each) for each in outcomes}
        while any(isinstance(each, Retry) for each in outcomes):
            outcomes = [await send({"mrn": str(n), "family": "x"}) for n in range(4)]
    assert len(maria.run("SELECT mrn FROM visit")) == 4


async def test_procedure_is_called_and_its_errors_are_told_apart(maria: MariaDb) -> None:
    maria.run(PROCEDURE)
    async with opened(maria.url, call="admit") as send:
        assert await send(VALUES) == Delivered("called")
        assert isinstance(await send({**VALUES, "family": "nobody"}), Rejected)
        assert isinstance(await send({"mrn": "0013", "family": "late"}), Unknown)
    assert maria.run("SELECT mrn FROM visit") == [("0012",), ("0013",)]
    async with opened(maria.url, call="nowhere") as send:
        assert isinstance(await send(VALUES), Retry)


@pytest.mark.parametrize(("word", "kind", "rows"), [(b"\x03COMMIT", Unknown, 1), (b"INSERT", Retry, 0)])
async def test_connection_lost_before_commit_is_retry_and_after_it_unknown(
    maria: MariaDb, word: bytes, kind: type, rows: int
) -> None:
    proxy = Proxy(maria.port, word, passes=True)
    through = maria.url.replace(f":{maria.port}/", f":{proxy.port}/")
    async with opened(through, table="visit", key=["mrn"]) as send:
        outcome = await send(VALUES)
    proxy.close()
    assert isinstance(outcome, kind), outcome
    async with asyncio.timeout(5):
        while len(maria.run("SELECT mrn FROM visit")) != rows:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
