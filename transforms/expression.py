"""This module compiles expressions: bare HL7 locations, and Jinja's expression language over the document.

In scope are ``event``, ``patient``, ``encounter``, the names that earlier ``set`` steps gave, and HL7 locations. A
location that is absent or empty is None; one sent as HL7's explicit null is ``""``. A field of None is None, so
``patient.mrn.value`` is None for a patient without mrn. Any other name that is not there is an error.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.exceptions import UndefinedError
from jinja2.parser import Parser

from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Location
from transforms.closures import Closures
from transforms.jinja import StrictEnvironment, environment
from transforms.jinja_filters import Refused
from transforms.mistakes import ExpressionError
from transforms.policy import Policy
from transforms.scan import Source, read_expression
from transforms.scope import Getter, at

__all__ = ["Compiled", "ExpressionError", "compile_expression"]

_LONGEST: Final = 10_000  # characters of an expression


class Compiled:
    """A compiled expression: call it with a document.

    ``locations`` are the HL7 locations that it reads, ``names`` the names that it uses, ``text`` is it as written.
    """

    __slots__ = ("_evaluate", "locations", "names", "text")

    def __init__(self, text: str, evaluate: Getter, names: AbstractSet[str], locations: tuple[Location, ...]) -> None:
        self.text = text
        self.names = names
        self.locations = locations
        self._evaluate = evaluate

    def __call__(self, document: Document) -> Any:
        """Return the value; raise `StepError` (with no value of the message in it) where there cannot be one."""
        try:
            value = self._evaluate(document)
            if type(value) is StrictUndefined:
                str(value)  # raises: it is not defined
        except Exception as error:  # noqa: BLE001 - every kind of failure becomes one that carries no patient data
            raise failure(error, self.text, self.locations) from None
        return value


def compile_expression(text: str, names: Iterable[str] = ()) -> Compiled:
    """Compile an expression; raise `ExpressionError` for what is wrong with it.

    ``names`` are the names that earlier `set` steps gave.
    """
    if not text.strip() or len(text) > _LONGEST:
        wrong, hint = ("is too long", "") if text.strip() else ("is empty", "write a comparison, such as PID-8 == 'F'")
        raise ExpressionError(f"an expression {wrong}", source=text, length=1, hint=hint)
    source = read_expression(text)
    locations = tuple(source.locations.values())
    if source.masked.strip() in source.locations:
        return Compiled(text, at(locations[0]), frozenset(), locations)
    strict = environment()
    try:
        root = parse(source, strict)
        policy = Policy(source, strict, names)
        policy.check_expression(root)
        evaluate = Closures(source, strict).build(root)
    except RecursionError:
        raise source.mistake("an expression is nested too deeply", 0, len(text)) from None
    return Compiled(text, evaluate, frozenset(policy.used) - set(source.locations), locations)


def parse(source: Source, strict: StrictEnvironment) -> nodes.Expr:
    """Return the tree of an expression; raise `ExpressionError` at the place where the syntax breaks."""
    try:
        parser = Parser(strict, source.masked, state="variable")
        root = parser.parse_expression()
        if not parser.stream.eos:
            text = "the expression should have ended here"
            found = parser.stream.current
            hint = "compare with ==" if found.type == "assign" else "join conditions with and, or"
            raise source.mistake(text, found.lineno, 1, hint)
    except TemplateSyntaxError as error:
        raise syntax_error(source, error) from None
    root.set_environment(strict)
    return root


def syntax_error(source: Source, error: TemplateSyntaxError) -> ExpressionError:
    """Return Jinja's error in our words, pointing at the text as written."""
    text = error.message or "cannot be read"
    for jinja, ours in _WORDS.items():
        text = text.replace(jinja, ours)
    for name in source.locations:
        text = text.replace(name, source.written(name))
    position = min(error.lineno, max(len(source.text) - 1, 0))
    if opened := _OPENED.search(source.text):
        hint = "write it as in PID-3[5=MR].1"
        return source.mistake(f"{opened[0]} has no closing bracket", opened.start(), len(opened[0]), hint)
    return source.mistake(text, position, 1)


# The beginning of a location whose repetition is chosen by a condition, and nothing that ends it.
_OPENED: Final = re.compile(r"\b[A-Z][A-Z0-9]{2}-\d{1,3}\[(?=\s{0,9}\d[^\]]*\Z)")

_WORDS: Final = {
    "end of print statement": "the end of the expression",
    "end of statement block": "the end of the block",
    "unexpected char": "unexpected character",
    "unexpected end of template": "it ends too early",
    "Unexpected end of template. Jinja was looking for the following tags:": "it ends too early; missing is",
    "Expected an expression, got": "expected a value, found",
    "expected token": "expected",
    ", got": ", found",
}


def failure(error: Exception, text: str, locations: tuple[Location, ...]) -> StepError:
    """Return what went wrong while ``text`` was evaluated as `StepError`, without any value of the message."""
    if isinstance(error, StepError):
        return error
    if isinstance(error, Refused):
        reason = str(error)
    elif isinstance(error, UndefinedError):
        reason = "a name or item in it is not defined"
    elif isinstance(error, TypeError):
        reason = "its values do not go together (is one missing?)"
    else:
        reason = f"it failed ({type(error).__name__})"
    return StepError(f"{text.strip()}: {reason}", location=str(locations[0]) if len(locations) == 1 else "")
