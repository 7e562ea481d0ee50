"""This module builds the Jinja environments of expressions and templates: strict, closed, without calls.

Jinja's own sandbox is the base, and almost everything that it allows is taken away: attributes are dictionary keys, the
fields of the canonical model and five facts about a loop; nothing can be called; filters, tests and node types are
allow-lists (`transforms.policy`); operators and filters refuse results beyond a size. This is a fence. The wall is the
worker process, which has a deadline and a memory limit.
"""

import dataclasses
import html
import operator
import re
import urllib.parse
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined
from jinja2.lexer import TokenStream
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from broker.canonical import model
from broker.formats.tree import Items, Tree
from transforms.jinja_events import Hl7
from transforms.jinja_filters import FILTERS, INNER_FILTERS, JSON_FILTERS, Json, Refused, as_json, bounded, plain

# The fields of every type of the canonical model: all that an expression can see of an object.
FIELDS: Final[dict[type, frozenset[str]]] = {
    kind: frozenset(field.name for field in dataclasses.fields(kind))
    for kind in vars(model).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}
_LOOP_FIELDS: Final = frozenset({"index", "index0", "first", "last", "length"})
TESTS: Final = frozenset(
    {"defined", "undefined", "none", "string", "number", "boolean", "true", "false", "in", "mapping", "sequence"}
)
_LARGEST: Final = 10**18
_MOST_ITEMS: Final = 10_000


class StrictEnvironment(ImmutableSandboxedEnvironment):
    """An environment for one kind of output; tokens and nodes carry positions in the text instead of line numbers."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, finalize: Callable[[Any], Any], filters: dict[str, Callable[..., Any]]) -> None:
        super().__init__(
            undefined=StrictUndefined, finalize=finalize, trim_blocks=True, lstrip_blocks=True, cache_size=0
        )
        self.globals.clear()
        self.policies.clear()
        self.filters = {**filters, **INNER_FILTERS}
        self.tests = {name: test for name, test in self.tests.items() if name in TESTS}
        self.binop_table = {**self.binop_table, "+": _add, "*": _multiply, "**": _power, "%": _modulo}

    def is_safe_attribute(self, _obj: Any, _attr: str, _value: Any) -> bool:
        """Return False: `getattr` below resolves what is allowed."""
        return False

    def is_safe_callable(self, _obj: Any) -> bool:
        """Return False: nothing can be called."""
        return False

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return a dictionary's value, a field of the canonical model or a fact about a loop.

        None has only None, and so has JSON for what is not in it.
        """
        fields = FIELDS.get(type(obj))
        if fields is not None:
            if attribute in fields:
                return getattr(obj, attribute)
        elif obj is None or type(obj) is Tree:
            return None if obj is None else obj.get(attribute)
        elif type(obj) is dict:
            if attribute in obj:
                return obj[attribute]
        elif isinstance(obj, Undefined):
            str(obj)  # raises: what came before is not defined
        elif type(obj) is LoopContext and attribute in _LOOP_FIELDS:
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item of a list or text by its number, or what `getattr` finds by name."""
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        if obj is None:
            return None
        if type(argument) is int and isinstance(obj, list | tuple | str):
            if type(obj) is Items and not -len(obj) <= argument < len(obj):
                return None
            return obj[argument] if -len(obj) <= argument < len(obj) else self.undefined(obj=obj, name=str(argument))
        if isinstance(obj, Undefined):
            str(obj)  # raises: what came before is not defined
        if type(argument) is int and type(obj) is dict:
            return self.getattr(obj, str(argument))  # the columns of a row without names
        return self.undefined(obj=obj, name="this item")

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        tokens = self.lexer.wrap(self._located(source, state), name, filename)
        return TokenStream(tokens, name, filename)

    def _located(self, source: str, state: str | None) -> Iterator[tuple[int, str, str]]:
        position = 0
        try:
            for _, token, value in self.lexer.tokeniter(source, None, None, state):
                # Jinja drops only white space between tokens, so the next equal text is the token.
                position = source.find(value, position) if value else position
                yield position, token, value
                position += len(value)
        except TemplateSyntaxError as error:
            found = re.search(r" at (\d+)\Z", error.message or "")
            error.lineno = int(found[1]) if found else min(position, len(source) - 1)
            raise


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return bounded(left + right)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) + len(right) > _MOST_ITEMS:
            raise Refused(f"a list has more than {_MOST_ITEMS} items")
        return [*left, *right]
    return _in_bounds(operator.add, left, right)


def _multiply(left: Any, right: Any) -> Any:
    return _in_bounds(operator.mul, left, right)


def _modulo(left: Any, right: Any) -> Any:
    return _in_bounds(operator.mod, left, right)


def _power(left: Any, right: Any) -> Any:
    if _number(left) and _number(right) and (abs(left) > 1_000_000 or abs(right) > 60):  # noqa: PLR2004 - see _LARGEST
        raise Refused("a number is too large")
    return _in_bounds(operator.pow, left, right)


def _in_bounds(function: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    for value in (left, right):
        if isinstance(value, Undefined):
            str(value)  # raises: the name is not defined
        if not _number(value):
            raise Refused("only numbers can be calculated with; use ~ to join texts")
    result = function(left, right)
    if isinstance(result, complex) or abs(result) > _LARGEST:
        raise Refused("a number is too large")
    return result


_HL7: Final = str.maketrans(
    {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\"}
)
_SEARCH: Final = str.maketrans({"\\": "\\\\", "|": "\\|", ",": "\\,", "$": "\\$"})


def _finish_json(value: Any) -> str:
    return value if type(value) is Json else as_json(value)


def _finish_hl7(value: Any) -> str:
    return value if type(value) is Hl7 else bounded(plain(value).translate(_HL7))


def _finish_url(value: Any) -> str:
    return bounded(urllib.parse.quote(plain(value), safe=""))


def _finish_search(value: Any) -> str:
    return bounded(urllib.parse.quote(plain(value).translate(_SEARCH), safe=""))


def _finish_path(value: Any) -> str:
    text = plain(value)
    if not text:
        raise Refused("a hole gives nothing, and a part of a path must be something")
    return bounded(urllib.parse.quote(text, safe=""))


def _finish_filled(value: Any) -> str:
    if value is None:
        raise Refused("a hole gives nothing; write `| default('')` where that is meant")
    return bounded(plain(value))


def _finish_html(value: Any) -> str:
    return bounded(html.escape(plain(value)))


def _finish_filled_html(value: Any) -> str:
    return bounded(html.escape(_finish_filled(value)))


def _finish_text(value: Any) -> str:
    return bounded(plain(value))


# What becomes of the value of a hole, by the kind of output: the reason why no value can break out of its place.
KINDS: Final[dict[str, Callable[[Any], str]]] = {
    "text": _finish_text,
    "json": _finish_json,
    "hl7": _finish_hl7,
    "filled": _finish_filled,  # text of which every hole must give something
    "html": _finish_html,
    "filled_html": _finish_filled_html,
    "url": _finish_url,
    "path": _finish_path,  # as url, and a hole that gives nothing is refused
    "search": _finish_search,  # in a FHIR search: also , | $ and \ are escaped, so a value stays one value
}


@cache
def environment(kind: str = "text") -> StrictEnvironment:
    """Return the environment for a kind of output (a key of `KINDS`)."""
    return StrictEnvironment(KINDS[kind], {**FILTERS, **JSON_FILTERS} if kind == "json" else FILTERS)
