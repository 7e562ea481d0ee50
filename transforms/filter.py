"""This module stops messages that a channel does not want."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from broker.message import Document, Filtered
from broker.spec import Expression, StepSpec
from transforms.expression import Compiled

if TYPE_CHECKING:
    from broker.parts import Transform


class FilterSpec(StepSpec):
    """Lets a message through only when an expression is true; any other is filtered, which is not an error."""

    short_form: ClassVar[str] = "expression"

    expression: Expression = Field(description="What must be true, such as `MSH-9.2 in ['A01', 'A04']`.")

    def build(self, kit: Any) -> "Transform":
        """Build the step; raise `ExpressionError` for a mistake in the expression."""
        return Filter(kit.expression(self.expression))


@dataclass(frozen=True, slots=True)
class Filter:
    """The step."""

    expression: Compiled

    def __call__(self, document: Document) -> Document | Filtered:
        """Return the document, or Filtered with the expression (and no value of the message)."""
        if self.expression(document):
            return document
        return Filtered(f"not {self.expression.text.strip()}")
