"""This module writes to databases of others: rows of a table, a statement of the site's own, or a stored procedure.

Values are bound, never put into a statement; names of tables and columns are checked when a channel is loaded. Each
delivery is one transaction, so until its COMMIT is sent it surely has no effect.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

import orjson
from pydantic import Field, StringConstraints, model_validator

from broker.databases import bound_names, open_engine
from broker.errors import StepError
from broker.spec import DestinationSpec, Seconds
from dispatch.database_pool import Database
from dispatch.database_rows import Call, Plan, Statement, Table

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
DELIVERY_KEY: Final = "delivery_key"  # the name under which statements and procedures get the idempotency key

Column = Annotated[str, StringConstraints(pattern=f"^{_IDENTIFIER}$")]
Qualified = Annotated[str, StringConstraints(pattern=rf"^{_IDENTIFIER}(\.{_IDENTIFIER}){{0,2}}$")]
Scalar = str | int | float | bool | None


class DatabaseOutSpec(DestinationSpec):
    """A row, a statement or a stored procedure in a database of ``handoff.yaml``."""

    unknown: ClassVar[str] = "hold"

    database: str = Field(description="Name of the database, as under `databases:` in handoff.yaml.")
    table: Qualified | None = Field(default=None, description="The table to write a row to, such as dwh.visits.")
    key: list[Column] = Field(
        default=[],
        description="Columns of `table` that say which row is meant: one that is there is updated. They need a unique "
        "index.",
    )
    on_match: Literal["update", "keep"] = Field(default="update", description="What to do with the row that is there.")
    delivery_column: Column | None = Field(
        default=None,
        description="Instead of `key`: a column with a unique index that takes the delivery's idempotency key, so that "
        "a row is never inserted twice.",
    )
    statement: str | None = Field(
        default=None,
        min_length=1,
        description="Instead of `table`: one SQL statement, with `:name` for each value; `:delivery_key` is the "
        "idempotency key.",
    )
    rows: Literal["any", "some", "one"] = Field(
        default="any", description="How many rows `statement` must change; otherwise it is undone and refused."
    )
    call: Qualified | None = Field(
        default=None, description="Instead of `table`: a stored procedure; it gets the values in their order."
    )
    values: dict[Column, Scalar] = Field(
        min_length=1,
        description="Values by name: literals with holes. A value that is one whole hole keeps its type.",
    )
    connections: int = Field(default=4, ge=1, le=50, description="Connections, each with one delivery under way.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the database may take for one delivery.")

    @property
    def concurrency(self) -> int:
        """How many deliveries may be under way."""
        return self.connections

    def unknown_policy(self) -> str:
        """Return ``retry`` where a repeated delivery finds what an earlier one did, else ``hold``."""
        return "retry" if self.key or self.delivery_column else "hold"

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if sum(each is not None for each in (self.table, self.statement, self.call)) != 1:
            raise ValueError("needs exactly one of `table`, `statement` and `call`")
        if self.table is None and (self.key or self.delivery_column):
            raise ValueError("`key` and `delivery_column` are columns of a `table`; leave them out")
        if self.key and self.delivery_column:
            raise ValueError("`key` and `delivery_column` both say which row is meant; leave one out")
        missing = [name for name in self.key if name not in self.values]
        if missing:
            raise ValueError(f"`key` names {missing[0]}, which has no value; add it to `values`")
        if self.delivery_column in self.values:
            raise ValueError("`delivery_column` gets the idempotency key; take it out of `values`")
        if self.statement is not None:
            self._check_statement(self.statement)
        return self

    def _check_statement(self, statement: str) -> None:
        bound = bound_names("statement", statement)
        unknown = sorted(bound - {*self.values, DELIVERY_KEY})
        if unknown:
            raise ValueError(f"`statement` wants :{unknown[0]}, which has no value; add it to `values`")
        unused = sorted(set(self.values) - bound)
        if unused:
            raise ValueError(f"`statement` does not use {unused[0]}; write :{unused[0]}, or take it out of `values`")

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the database or its driver is missing."""
        engine = open_engine(tools.settings, self.database, tools.channel, self.connections, self.timeout)
        return Database(f"database {self.database}", engine, self._plan(), self.connections, self.timeout)

    def _plan(self) -> Plan:
        if self.table is not None:
            return Table(self.table, tuple(self.key), self.delivery_column, keep=self.on_match == "keep")
        if self.statement is not None:
            return Statement(self.statement, self.rows, DELIVERY_KEY)
        return Call(self.call or "", tuple(self.values))

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the values, typed and frozen."""
        values = {
            name: kit.value(value) if isinstance(value, str) else _constant(value)
            for name, value in self.values.items()
        }
        return ValuesRenderer(values, tuple(self.key))


def _constant(value: Scalar) -> Any:
    return lambda _: value


@dataclass(frozen=True, slots=True)
class ValuesRenderer:
    """Renders ``{name: value}`` as JSON, in the order of the channel file."""

    values: Mapping[str, Any]
    key: tuple[str, ...] = ()

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` where a value is none that a column can hold, or a key has none."""
        given = {name: _plain(name, value(document)) for name, value in self.values.items()}
        for name in self.key:
            if given[name] is None or given[name] == "":
                raise StepError(f"database: the key column {name} has no value, so nobody can say which row is meant")
        return orjson.dumps(given)


def _plain(name: str, value: Any) -> Scalar:
    """Return a value as it is frozen; texts lose a NUL, which no database takes, by being refused."""
    if isinstance(value, str):
        if "\0" in value:
            raise StepError(f"database: the value of {name} has a NUL character, which no column takes", location=name)
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    raise StepError(f"database: the value of {name} is a {type(value).__name__}, and a column takes one plain value")
