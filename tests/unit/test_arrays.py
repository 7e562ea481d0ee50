"""Arrays are written as psycopg reads them, and left to psycopg where values are not plainly of their type."""

from typing import Any

import pytest
from psycopg import postgres
from psycopg.adapt import Transformer
from psycopg.pq import Format

from broker.arrays import Array, column


@pytest.mark.parametrize(
    ("kind", "array", "values"),
    [
        ("bigint", "int8", (1, -(1 << 62), 0)),
        ("integer", "int4", (7, -1)),
        ("double", "float8", (1.5, 1795888229.44738, 3)),
        ("boolean", "bool", (True, False)),
        ("text", "text", ("", "Ærøskøbing", None, "NULL", "{,}")),
        ("text", "text", (None,)),
    ],
)
def test_array_is_read_as_it_was_written(kind: str, array: str, values: tuple[Any, ...]) -> None:
    written = column(kind, values)
    assert isinstance(written, Array)
    loader = Transformer().get_loader(postgres.types[array].array_oid, Format.BINARY)
    assert loader.load(written) == list(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("bytea", (b"1",)), ("bigint", (1, None)), ("integer", (1 << 31,)), ("text", (1,)), ("text", ("\ud800",))],
)
def test_other_values_are_left_to_psycopg(kind: str, values: tuple[Any, ...]) -> None:
    assert column(kind, values) == list(values)
