"""This module gives values names that later steps and destinations use."""

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, model_validator

from broker.message import Document
from broker.spec import Expression, StepSpec
from transforms.expression import Compiled
from transforms.policy import ROOTS

if TYPE_CHECKING:
    from typing import Self

    from broker.parts import Transform

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*\Z")
# Words of the expression language.
_WORDS: Final = frozenset({"and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "true"})


class SetSpec(StepSpec):
    """Gives names to values: each key is a name, each value an expression. A later one can use an earlier one."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Expression]

    @model_validator(mode="after")
    def _has_good_names(self) -> "Self":
        if not self.expressions:
            raise ValueError("set needs at least one name, such as `ward: PV1-3.1`")
        for name in self.expressions:
            if name in ROOTS:
                raise ValueError(f"{name!r} has a meaning already; use another name")
            if not _NAME.match(name) or name in _WORDS:
                raise ValueError(f"{name!r} is no name: use small letters, digits and _, beginning with a letter")
        return self

    @property
    def expressions(self) -> dict[str, Expression]:
        """The names and their expressions, in order."""
        return self.__pydantic_extra__ or {}

    def build(self, kit: Any) -> "Transform":
        """Build the step and make its names known to what comes later; raise `ExpressionError` for a mistake."""
        return Set(tuple(_compiled(self.expressions.items(), kit)))


def _compiled(expressions: Iterable[tuple[str, Expression]], kit: Any) -> Iterable[tuple[str, Compiled]]:
    for name, expression in expressions:
        yield name, kit.expression(expression)
        kit.declare(name)


@dataclass(frozen=True, slots=True)
class Set:
    """The step."""

    expressions: tuple[tuple[str, Compiled], ...]

    def __call__(self, document: Document) -> Document:
        """Return the document with the values added."""
        result = dataclasses.replace(document, values=dict(document.values))
        for name, expression in self.expressions:
            result.values[name] = expression(result)
        return result
