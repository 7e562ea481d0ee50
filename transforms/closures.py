"""This module turns a checked expression into Python closures, which run ten times faster than a rendered template.

The meaning is Jinja's own, node by node (``visit_…`` of its compiler); a property test compares the two.
"""

import operator
from collections.abc import Callable
from typing import Any, Final

from jinja2 import nodes

from broker.message import Document
from transforms.jinja import StrictEnvironment
from transforms.scan import Source
from transforms.scope import Getter, at, named

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda left, right: left in right,
    "notin": lambda left, right: left not in right,
}


_METHODS: Final[dict[type, str]] = {
    nodes.Const: "_constant",
    nodes.Name: "_name",
    nodes.And: "_and",
    nodes.Or: "_or",
    nodes.Not: "_not",
    nodes.Neg: "_negative",
    nodes.Pos: "_positive",
    nodes.Concat: "_concat",
    nodes.Compare: "_compare",
    nodes.CondExpr: "_choice",
    nodes.Getattr: "_attribute",
    nodes.Getitem: "_item",
    nodes.Filter: "_filter",
    nodes.Test: "_test",
    nodes.List: "_list",
    nodes.Tuple: "_tuple",
    nodes.Dict: "_dict",
}


class Closures:
    """Builds the closures of one expression."""

    def __init__(self, source: Source, environment: StrictEnvironment) -> None:
        self._source = source
        self._environment = environment

    def build(self, node: nodes.Node | None) -> Getter:
        """Return the function that evaluates a node over a document."""
        if isinstance(node, nodes.BinExpr) and not isinstance(node, nodes.And | nodes.Or):
            return self._calculation(node)
        getter: Getter = getattr(self, _METHODS[type(node)])(node)
        return getter

    def _constant(self, node: nodes.Const) -> Getter:
        value = node.value
        return lambda _: value

    def _name(self, node: nodes.Name) -> Getter:
        location = self._source.locations.get(node.name)
        return at(location) if location else named(node.name, self._environment.undefined)

    def _and(self, node: nodes.And) -> Getter:
        left, right = self.build(node.left), self.build(node.right)
        return lambda document: left(document) and right(document)

    def _or(self, node: nodes.Or) -> Getter:
        left, right = self.build(node.left), self.build(node.right)
        return lambda document: left(document) or right(document)

    def _not(self, node: nodes.Not) -> Getter:
        value = self.build(node.node)
        return lambda document: not value(document)

    def _negative(self, node: nodes.Neg) -> Getter:
        value = self.build(node.node)
        return lambda document: -value(document)

    def _positive(self, node: nodes.Pos) -> Getter:
        value = self.build(node.node)
        return lambda document: +value(document)

    def _calculation(self, node: nodes.BinExpr) -> Getter:
        left, right = self.build(node.left), self.build(node.right)
        function = self._environment.binop_table[node.operator]
        return lambda document: function(left(document), right(document))

    def _concat(self, node: nodes.Concat) -> Getter:
        join, parts = self._environment.filters["_concat"], [self.build(part) for part in node.nodes]
        return lambda document: join([part(document) for part in parts])

    def _compare(self, node: nodes.Compare) -> Getter:
        first = self.build(node.expr)
        rest = [(_COMPARE[operand.op], self._items(operand.expr)) for operand in node.ops]
        if len(rest) == 1:
            function, second = rest[0]
            return lambda document: function(first(document), second(document))

        def chain(document: Document) -> Any:
            left: Any = first(document)
            result: Any = True
            for function, other in rest:
                right = other(document)
                result = function(left, right)
                if not result:
                    break
                left = right
            return result

        return chain

    def _items(self, node: nodes.Expr) -> Getter:
        """Build a node; a list of constants, as in ``in ['A01', 'A04']``, is made once."""
        if isinstance(node, nodes.List) and all(isinstance(item, nodes.Const) for item in node.items):
            items = [item.value for item in node.items if isinstance(item, nodes.Const)]
            return lambda _: items
        return self.build(node)

    def _choice(self, node: nodes.CondExpr) -> Getter:
        test, then = self.build(node.test), self.build(node.expr1)
        otherwise = self.build(node.expr2) if node.expr2 is not None else _none
        return lambda document: then(document) if test(document) else otherwise(document)

    def _attribute(self, node: nodes.Getattr) -> Getter:
        owner, name, get = self.build(node.node), node.attr, self._environment.getattr
        return lambda document: get(owner(document), name)

    def _item(self, node: nodes.Getitem) -> Getter:
        owner = self.build(node.node)
        if isinstance(node.arg, nodes.Slice):
            parts = [self.build(part) if part else _none for part in (node.arg.start, node.arg.stop, node.arg.step)]
            cut = self._environment.filters["_cut"]
            return lambda document: cut(owner(document), *[part(document) for part in parts])
        key, get = self.build(node.arg), self._environment.getitem
        return lambda document: get(owner(document), key(document))

    def _filter(self, node: nodes.Filter) -> Getter:
        return self._applied(self._environment.filters[node.name], node)

    def _test(self, node: nodes.Test) -> Getter:
        return self._applied(self._environment.tests[node.name], node)

    def _applied(self, function: Any, node: nodes.Filter | nodes.Test) -> Getter:
        value = self.build(node.node)
        if not node.args and not node.kwargs:
            return lambda document: function(value(document))
        args = [self.build(arg) for arg in node.args]
        keywords: list[Any] = list(node.kwargs)  # Jinja says Pair and means Keyword
        kwargs: list[tuple[str, Getter]] = [(keyword.key, self.build(keyword.value)) for keyword in keywords]
        return lambda document: function(
            value(document),
            *[arg(document) for arg in args],
            **{name: arg(document) for name, arg in kwargs},
        )

    def _list(self, node: nodes.List) -> Getter:
        items = [self.build(item) for item in node.items]
        return lambda document: [item(document) for item in items]

    def _tuple(self, node: nodes.Tuple) -> Getter:
        items = [self.build(item) for item in node.items]
        return lambda document: tuple(item(document) for item in items)

    def _dict(self, node: nodes.Dict) -> Getter:
        items = [(self.build(pair.key), self.build(pair.value)) for pair in node.items]
        return lambda document: {key(document): value(document) for key, value in items}


def _none(_: Document) -> None:
    return None
