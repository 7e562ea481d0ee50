"""This module shows what a poll of a database may declare, and how rows become messages."""

import datetime as dt
import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from broker.errors import ConfigError
from broker.parts import Tools
from listeners.database import DatabaseInSpec
from listeners.database_rows import Beyond, Page, Row, plain

GIVEN: dict[str, Any] = {"database": "ward", "schedule": {"every": "1m"}, "query": "SELECT * FROM visit", "key": ["id"]}
MARK: dict[str, Any] = {"column": "changed", "start": "2026-01-01"}
OUTBOX: dict[str, Any] = {"mark": "DELETE FROM visit WHERE id = :id"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "exactly one of `watermark` and `outbox`"),
        ({"watermark": MARK, "outbox": OUTBOX}, "exactly one of `watermark` and `outbox`"),
        ({"watermark": MARK, "query": "DELETE FROM visit"}, "needs one SELECT"),
        ({"watermark": MARK, "query": "SELECT * FROM visit WHERE id > :id"}, "wants :id"),
        ({"outbox": {"mark": "DELETE FROM visit"}}, "names no column"),
        ({"outbox": {"mark": "DELETE FROM visit WHERE id = :id::int"}}, r"CAST\(:id AS"),
        ({"outbox": OUTBOX, "key": []}, "at least 1"),
        ({"outbox": OUTBOX, "key": ["a b"]}, "match pattern"),
        ({"outbox": OUTBOX, "batch": 0}, "greater than or equal"),
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        DatabaseInSpec.model_validate({**GIVEN, **options})


def test_query_may_have_casts_and_common_table_expressions() -> None:
    text = "with v as (select id::text, '12:30' from visit) select * from v ;\n"
    assert DatabaseInSpec.model_validate({**GIVEN, "query": text, "outbox": OUTBOX}).query == text[:-3]


def test_mark_begins_anew_with_another_column_or_start() -> None:
    marks = [MARK, {**MARK, "start": "2026-02-01"}, {**MARK, "column": "id"}]
    specs = [DatabaseInSpec.model_validate({**GIVEN, "watermark": mark}) for mark in marks]
    assert len({spec.mark_name("visits") for spec in specs}) == len(marks)
    assert specs[0].mark_name("visits") == specs[0].model_copy(update={"batch": 7}).mark_name("visits")


def test_database_that_is_not_declared_is_told() -> None:
    nothing: Any = None
    tools = Tools("visits", nothing, lambda _: None, SimpleNamespace(databases={"dwh": 1}))
    with pytest.raises(ConfigError, match=r"'ward' is not in handoff\.yaml under `databases:` \(there: dwh\)"):
        DatabaseInSpec.model_validate({**GIVEN, "outbox": OUTBOX}).build(tools)


def test_password_comes_from_its_reference() -> None:
    nothing: Any = None
    given = SimpleNamespace(url="postgresql://handoff@ward.invalid/ward", password="s3cret")
    tools = Tools("visits", nothing, lambda _: None, SimpleNamespace(databases={"ward": given}))
    listener = DatabaseInSpec.model_validate({**GIVEN, "outbox": OUTBOX}).build(tools)
    assert listener._engine.url.password == "s3cret"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        ("é", "é"),
        (2**64 - 1, 2**64 - 1),
        (2**64, str(2**64)),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (Decimal("70.250"), "70.250"),
        (dt.date(2026, 3, 18), "2026-03-18"),
        (dt.datetime(2026, 3, 18, 14, 15, tzinfo=dt.UTC), "2026-03-18T14:15:00+00:00"),
        (dt.time(8), "08:00:00"),
        (memoryview(b"\0\xff"), "AP8="),
        ({"a": [Decimal(1)]}, {"a": ["1"]}),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_value_of_a_column_becomes_json(value: Any, shown: Any) -> None:
    assert plain(value) == shown
    assert orjson.loads(orjson.dumps(plain(value))) == shown


@pytest.mark.parametrize(
    "mark",
    [
        7,
        2**70,
        1.5,
        Decimal("7.10"),
        dt.datetime(2026, 3, 18, 14, 15, 0, 250_000, tzinfo=dt.UTC),
        dt.date(2026, 3, 18),
        b"\0\xff",
        "2026-03-18",
    ],
)
def test_mark_is_noted_with_its_type(mark: Any) -> None:
    before, after = (Beyond("SELECT 1", ["id"], "mark", 0) for _ in range(2))
    before.settle(None, Page([Row(b"", b"k", {"mark": mark})], is_last=True).rows)
    noted = before.noted()
    assert noted is not None
    after.resume(noted)
    assert (type(after._mark), after._mark) == (type(mark), mark)
