"""This module decides what an expression or template may say, node by node, before anything of it is run."""

import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import GenericAlias, UnionType
from typing import Any, Final

from jinja2 import UndefinedError, nodes

from broker.canonical.model import Account, Appointment, ClinicalDocument, Encounter, Event, Patient, Referral
from broker.formats.reading import Columns
from broker.wire.lines import is_name
from transforms.jinja import FIELDS, StrictEnvironment
from transforms.jinja_events import EVENT_FILTERS, mistake_in
from transforms.mistakes import nearest
from transforms.phone import region_mistake
from transforms.scan import Source
from transforms.times import pattern_mistake

# What the names that are always there stand for.
ROOTS: Final[dict[str, type]] = {
    "event": Event,
    "patient": Patient,
    "encounter": Encounter,
    "appointment": Appointment,
    "referral": Referral,
    "document": ClinicalDocument,
    "account": Account,
}
MOST_FILTERS: Final = 8  # in one expression
MOST_NESTED_LOOPS: Final = 2

_EXPRESSIONS: Final = (
    nodes.Name, nodes.Const, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.Compare,
    nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div,
    nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Concat, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Getattr,
    nodes.Getitem, nodes.Slice,
)  # fmt: skip
# What Jinja evaluates while it compiles, where it is of constants, and lets through what that raises.
_EVALUATED: Final = (nodes.Dict, nodes.CondExpr, nodes.And, nodes.Or, nodes.Concat)
_STATEMENTS: Final = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign)
_IN_WORDS: Final[dict[type, str]] = {
    nodes.Call: "nothing can be called",
    nodes.Macro: "macros are not allowed",
    nodes.Include: "a template cannot include another",
    nodes.Import: "a template cannot import another",
    nodes.FromImport: "a template cannot import another",
    nodes.Extends: "a template cannot extend another",
}


class Policy:
    """The rules for one text: which names it may use, and where it breaks a rule (`ExpressionError`)."""

    def __init__(self, source: Source, environment: StrictEnvironment, names: Iterable[str]) -> None:
        self._source = source
        self._environment = environment
        self._names = {*ROOTS, *names}
        self._types: dict[str, Any] = {**ROOTS, **(names if isinstance(names, Mapping) else {})}
        self.used: set[str] = set()  # names that come from outside, masks of locations included

    def check_expression(self, root: nodes.Node) -> None:
        """Raise unless the expression keeps to the rules."""
        filters = 0
        for node in _walk(root):
            if not isinstance(node, _EXPRESSIONS):
                raise self._refused(node)
            filters += isinstance(node, nodes.Filter)
            self._check(node)
        if filters > MOST_FILTERS:
            raise self._source.mistake(
                f"an expression has at most {MOST_FILTERS} filters", root.lineno, 1, "put a part of it into a set step"
            )
        self._type(root)

    def check_template(self, template: nodes.Template) -> None:
        """Raise unless the template keeps to the rules."""
        stored = [name for name in template.find_all(nodes.Name) if name.ctx != "load"]
        for name in stored:
            if name.name in self._names or name.name.startswith("_"):
                raise self._mistake_at(name, name.name, f"{name.name} has a meaning already", "use another name")
            self._types[name.name] = None
        self._names.update(name.name for name in stored)
        self._check_body(template.body, 0)
        self.used -= {name.name for name in stored}

    def _check_body(self, body: Iterable[nodes.Node], loops: int) -> None:
        for node in body:
            if not isinstance(node, _STATEMENTS):
                raise self._refused(node)
            if isinstance(node, nodes.Output):
                self._check_output(node)
            elif isinstance(node, nodes.If):
                self.check_expression(node.test)
                self._check_body([*node.body, *node.elif_, *node.else_], loops)
            elif isinstance(node, nodes.For):
                self._check_loop(node, loops + 1)
            elif isinstance(node, nodes.Assign):
                self._check_assignment(node)

    def _check_output(self, node: nodes.Output) -> None:
        for part in node.nodes:
            if not isinstance(part, nodes.TemplateData):
                self.check_expression(part)

    def _targets(self, target: nodes.Node) -> set[str]:
        for node in _walk(target):
            if not isinstance(node, nodes.Name | nodes.Tuple):
                raise self._refused(node)
        return {node.name for node in _walk(target) if isinstance(node, nodes.Name)}

    def _check_loop(self, node: nodes.For, loops: int) -> None:
        if loops > MOST_NESTED_LOOPS or node.recursive:
            text = "a loop cannot be recursive" if node.recursive else "loops can be nested only twice"
            raise self._source.mistake(text, node.lineno, 3)
        self._targets(node.target)
        self.check_expression(node.iter)
        element = self._type(node.iter)
        if isinstance(node.target, nodes.Name):
            self._types[node.target.name] = element.__args__[0] if isinstance(element, GenericAlias) else None
        outside = self._names
        self._names = {*outside, "loop"}
        if node.test is not None:
            self.check_expression(node.test)
        self._check_body([*node.body, *node.else_], loops)
        self._names = outside
        self.used.discard("loop")

    def _check_assignment(self, node: nodes.Assign) -> None:
        targets = self._targets(node.target)
        self.check_expression(node.node)
        for name in _walk(node.node):
            if isinstance(name, nodes.Name) and name.name in targets:
                raise self._mistake_at(name, name.name, f"set {name.name} cannot use {name.name} itself")

    def _check(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Name):
            self._check_name(node)
        elif isinstance(node, nodes.Filter):
            self._check_filter(node)
        elif isinstance(node, _EVALUATED):
            self._check_constant(node)
        elif isinstance(node, nodes.Test) and node.name not in self._environment.tests:
            hint = nearest(node.name, self._environment.tests)
            raise self._mistake_at(node, node.name, f"{node.name} is not a test", hint)

    def _check_name(self, node: nodes.Name) -> None:
        name = node.name
        if name in self._source.locations or (name in self._names and not name.startswith("_")):
            self.used.add(name)
        else:
            hint = nearest(name, self._names)
            if name.upper() + "-" in self._source.text.upper():
                hint = "HL7 locations are written in capitals, such as PID-5.1"
            elif name.isupper() and is_name(name):
                hint = f"if {name} is a segment, a field follows after a hyphen, such as {name}-3.1"
            raise self._mistake_at(node, name, f"{name} is not defined", hint)

    def _check_constant(self, node: nodes.Expr) -> None:
        """Raise for constants that go wrong together, whatever the message holds."""
        try:
            node.as_const()
        except nodes.Impossible:
            return  # it depends on the message
        except (TypeError, UndefinedError):
            text = "this cannot be evaluated, whatever the message holds"
            hint = "names in a mapping are texts, and constants have only the items that are written there"
            raise self._mistake_at(node, "", text, hint) from None

    def _check_filter(self, node: nodes.Filter) -> None:
        known = [name for name in self._environment.filters if not name.startswith("_")]
        if node.name not in known:
            raise self._mistake_at(node, node.name, f"{node.name} is not a filter", nearest(node.name, known))
        if node.dyn_args is not None or node.dyn_kwargs is not None or node.node is None:
            raise self._refused(node)
        if node.name in EVENT_FILTERS:
            self._check_event_filter(node)
        if node.name == "phone" and node.args and isinstance(node.args[0], nodes.Const):
            mistake = region_mistake(str(node.args[0].value))
            if mistake:
                raise self._mistake_at(node.args[0], "", mistake)
        if node.name == "date" and node.args and isinstance(node.args[0], nodes.Const):
            mistake = pattern_mistake(str(node.args[0].value))
            if mistake:
                raise self._mistake_at(node.args[0], "", mistake)

    def _check_event_filter(self, node: nodes.Filter) -> None:
        keywords: list[Any] = list(node.kwargs)  # Jinja says Pair and means Keyword
        options = {keyword.key: _constant(keyword.value) for keyword in keywords}
        word, wrong, hint = mistake_in(node.name, [_constant(argument) for argument in node.args], options)
        if not wrong and self._type(node.node) not in {None, Event}:
            wrong, hint = f"{node.name} writes an event, and nothing else", f"write event | {node.name}"
        if wrong:
            raise self._mistake_at(node, word or node.name, wrong, hint)

    def _type(self, node: nodes.Node | None) -> Any:
        """Return what an expression is known to give, and raise for a field that the canonical model has not."""
        if isinstance(node, nodes.Name):
            return str if node.name in self._source.locations else self._types.get(node.name)
        if isinstance(node, nodes.Getattr):
            return self._field(node, self._type(node.node), node.attr)
        if isinstance(node, nodes.Getitem):
            return self._item(node)
        for child in node.iter_child_nodes() if node is not None else ():
            self._type(child)
        return None

    def _item(self, node: nodes.Getitem) -> Any:
        owner, key = self._type(node.node), node.arg
        if not isinstance(key, nodes.Const):
            self._type(key)
            return None
        if isinstance(key.value, str):
            return self._field(node, owner, key.value)
        if isinstance(owner, Columns):
            return self._field(node, owner, str(key.value))
        return owner.__args__[0] if isinstance(owner, GenericAlias) else None

    def _field(self, node: nodes.Expr, owner: Any, name: str) -> Any:
        if owner in FIELDS:
            fields = fields_of(owner)
            if name not in fields:
                raise self._mistake_at(node, name, f"{owner.__name__.lower()} has no {name}", nearest(name, fields))
            return fields[name]
        if isinstance(owner, Columns):
            if owner.names is not None and name not in owner.names:
                raise self._mistake_at(node, name, f"the rows have no column {name}", nearest(name, owner.names))
            return str
        if owner is str:
            raise self._mistake_at(node, name, f"a text has no {name}")
        if isinstance(owner, GenericAlias):
            raise self._mistake_at(node, name, f"a list has no {name}", "take one item: [0]")
        return None

    def _mistake_at(self, node: nodes.Node, name: str, text: str, hint: str = "") -> Exception:
        position = max(self._source.masked.find(name, node.lineno), node.lineno)
        return self._source.mistake(text, position, len(name) or 1, hint)

    def _refused(self, node: nodes.Node) -> Exception:
        text = _IN_WORDS.get(type(node), f"{type(node).__name__.lower()} is not allowed here")
        return self._source.mistake(text, node.lineno, 1, "filters follow after |, such as PID-5.1 | title")


def _constant(node: nodes.Node) -> Any:
    return node.value if isinstance(node, nodes.Const) else None


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


@cache
def fields_of(kind: type) -> dict[str, Any]:
    """Return the fields of a type of the canonical model with what they hold, ``None`` left out."""
    return {name: _without_none(hint) for name, hint in typing.get_type_hints(kind).items()}


def _without_none(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return next(part for part in hint.__args__ if part is not type(None))
    return hint
