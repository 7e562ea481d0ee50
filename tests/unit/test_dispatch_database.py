"""The database destination: values typed and frozen, options that contradict each other, and what errors mean."""

import datetime as dt
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from broker.delivery import Rejected, Retry, Unknown
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from dispatch.database import DatabaseOutSpec
from dispatch.database_pool import judged
from dispatch.database_rows import Call, Table, Unfit, fitted
from transforms.kit import Kit

RAW = b"MSH|^~\\&|E|M|X|Y|1||ADT^A08|C1|P|2.5.1\rPID|1||0012||Okafor\rOBX|1|NM|W||70.25\r"


def spec(**options: Any) -> DatabaseOutSpec:
    return DatabaseOutSpec.model_validate({"database": "dwh", "values": {"mrn": "x"}, **options})


def rendered(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    kit: Any = Kit(None)  # type: ignore[arg-type] # nothing is read from a folder
    kit.declare("number")
    document = Document(message=Message.parse(RAW), received_at=0.0, values={"number": Decimal("70.250")})
    frozen = spec(table="t", values=values, **options).build_renderer(kit)(document)
    read: dict[str, Any] = orjson.loads(frozen)
    return read


def test_values_keep_their_types_and_their_order() -> None:
    values = {"b": "{{ PID-3 }}", "a": "{{ PID-5 == 'Okafor' }}", "c": 3, "d": None, "e": "is {{ PID-3 }}"}
    found = rendered({**values, "f": "{{ number }}", "g": True})
    assert list(found.items()) == [
        ("b", "0012"),
        ("a", True),
        ("c", 3),
        ("d", None),
        ("e", "is 0012"),
        ("f", "70.250"),
        ("g", True),
    ]


def test_value_that_no_column_takes_is_refused_without_showing_it() -> None:
    with pytest.raises(StepError, match="the value of a is a list"):
        rendered({"a": "{{ [PID-3] }}"})
    with pytest.raises(StepError, match="the key column mrn has no value"):
        rendered({"mrn": "{{ PID-4 }}"}, key=["mrn"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one of"),
        ({"table": "t", "call": "c"}, "exactly one of"),
        ({"call": "c", "key": ["mrn"]}, "are columns of a `table`"),
        ({"table": "t", "key": ["mrn"], "delivery_column": "k"}, "leave one out"),
        ({"table": "t", "key": ["ward"]}, "`key` names ward"),
        ({"table": "t", "delivery_column": "mrn"}, "take it out of `values`"),
        ({"table": "t; DROP"}, "pattern"),
        ({"table": "a.b.c.d"}, "pattern"),
        ({"table": "t", "values": {"m-r": "x"}}, "pattern"),
        ({"table": "t", "values": {}}, "at least 1"),
        ({"statement": "DELETE FROM t WHERE a = :ward AND b = :mrn"}, "wants :ward"),
        ({"statement": "DELETE FROM t"}, "does not use mrn"),
        ({"statement": "DELETE FROM t WHERE m = :mrn::text"}, "write CAST"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**options)


def test_statement_may_use_the_key_and_casts() -> None:
    assert spec(statement="UPDATE t SET k = :delivery_key WHERE m = CAST(:mrn AS text)").concurrency == 4


def test_unknown_outcome_is_tried_again_only_where_a_repeat_is_harmless() -> None:
    assert spec(table="t", key=["mrn"]).unknown_policy() == "retry"
    assert spec(table="t", delivery_column="k").unknown_policy() == "retry"
    assert spec(table="t").unknown_policy() == spec(call="c").unknown_policy() == "hold"


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("12", sa.Integer(), 12),
        ("12.0", sa.Integer(), 12),
        (True, sa.Integer(), 1),
        (12, sa.String(), "12"),
        ("70.25", sa.Numeric(), Decimal("70.25")),
        ("1.5", sa.Float(), 1.5),
        ("N", sa.Boolean(), False),
        ("20260318", sa.Date(), dt.date(2026, 3, 18)),
        ("2026-03-18T14:15:00-05:00", sa.DateTime(), dt.datetime.fromisoformat("2026-03-18T14:15:00-05:00")),
        ("14:15", sa.Time(), dt.time(14, 15)),
        ("é", sa.LargeBinary(), "é".encode()),
        ("anything", sa.types.NullType(), "anything"),
        (None, sa.Integer(), None),
    ],
)
def test_value_becomes_what_its_column_takes(value: Any, kind: Any, expected: Any) -> None:
    assert fitted(value, kind, "c") == expected


@pytest.mark.parametrize(
    ("value", "kind"), [("1.5", sa.Integer()), ("", sa.Date()), ("x", sa.Numeric()), ("maybe", sa.Boolean())]
)
def test_value_that_does_not_fit_is_named_by_its_column(value: Any, kind: Any) -> None:
    with pytest.raises(Unfit, match="the column c is no") as caught:
        fitted(value, kind, "c")
    assert caught.value.column == "c"
    assert not value or f"{value!r}" not in str(caught.value)


def error(kind: type[sa.exc.DBAPIError] = sa.exc.OperationalError, **known: Any) -> Exception:
    return kind("statement with 0012", {}, type("Broken", (Exception,), known)("it says Okafor"))


@pytest.mark.parametrize(
    ("cause", "committing", "commits", "kind"),
    [
        (error(sqlstate="40001"), True, False, Retry),
        (error(sqlstate="57P01"), True, False, Unknown),
        (error(), True, False, Unknown),
        (error(sqlite_errorname="SQLITE_BUSY"), True, False, Retry),
        (error(), False, False, Retry),
        (error(sqlstate="42P01"), False, False, Retry),
        (error(sqlstate="23505"), True, False, Rejected),
        (error(sqlstate="P0001"), False, True, Rejected),
        (error(sqlstate="40001"), False, True, Unknown),
        (error(sqlstate="42883"), False, True, Retry),
        (error(sa.exc.DataError), False, False, Rejected),
    ],
)
def test_error_means_what_may_have_happened(cause: Exception, committing: bool, commits: bool, kind: type) -> None:
    outcome = judged(cause, "database dwh", committing=committing, commits=commits)
    assert isinstance(outcome, kind), outcome
    assert "Broken" in repr(outcome)
    assert not [secret for secret in ("Okafor", "0012") if secret in repr(outcome)]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("mssql", "EXEC dbo.admit @mrn = :mrn, @ward = :ward"),
        ("oracle", "BEGIN dbo.admit(:mrn, :ward); END;"),
        ("mysql", "CALL dbo.admit(:mrn, :ward)"),
    ],
)
def test_procedure_is_called_as_its_database_wants(dialect: str, text: str) -> None:
    ran: list[Any] = []
    connection: Any = SimpleNamespace(
        dialect=SimpleNamespace(name=dialect), execute=lambda statement, given: ran.append((str(statement), given))
    )
    Call("dbo.admit", ("mrn", "ward")).run(connection, {"mrn": "0012", "ward": 3}, "k")
    assert ran == [(text, {"mrn": "0012", "ward": 3})]


def test_databases_without_an_upsert_that_we_know_look_first() -> None:
    """The generic way, run on SQLite under another name."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (mrn varchar PRIMARY KEY, ward varchar)"))
        table = Table("t", ("mrn",))
        keeping = Table("t", ("mrn",), keep=True)
        for each in (table, keeping):  # columns are read by the dialect's real name
            each.run(connection, {"mrn": "0", "ward": "0"}, "k")
        connection.dialect.name = "other"
        assert [table.run(connection, {"mrn": "1", "ward": ward}, "k") for ward in "ab"] == [1, 1]
        assert keeping.run(connection, {"mrn": "1", "ward": "c"}, "k") == 0
        assert connection.execute(sa.text("SELECT ward FROM t ORDER BY mrn")).scalars().all() == ["0", "b"]
    engine.dispose()
