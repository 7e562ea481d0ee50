"""This module compiles templates: literal text with ``{{ }}`` holes, for one kind of output each.

``text`` puts values in as they are; ``json`` writes every value as JSON, or its characters where the hole stands inside
a JSON string; ``hl7`` escapes delimiters and line ends, ``html`` what has a meaning in HTML; ``url`` and ``search``
percent-encode. None gives nothing (``null`` in JSON), and is refused by ``filled`` (text), ``filled_html``
and ``path`` (percent-encoded). So no value can break out of its hole, whatever a message holds.
"""

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import orjson
from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.visitor import NodeTransformer

from broker.message import Document
from transforms.expression import compile_expression, failure, syntax_error
from transforms.jinja import StrictEnvironment, environment
from transforms.jinja_filters import LIMIT, Refused
from transforms.mistakes import ExpressionError
from transforms.policy import Policy
from transforms.scan import Source, read_template
from transforms.scope import Getter, at, named

if TYPE_CHECKING:
    from broker.wire.er7 import Location

_LONGEST: Final = 262_144  # characters of a template


class Rendering:
    """A compiled template: call it with a document.

    ``locations`` are the HL7 locations that it reads, ``names`` the names that it uses, ``text`` is it as written.
    """

    __slots__ = ("_finish", "_getters", "_template", "file", "locations", "names", "text")

    def __init__(
        self, source: Source, names: AbstractSet[str], template: Template, finish: Callable[[str], str]
    ) -> None:
        self.text = source.text
        self.file = ""
        self.names = frozenset(names) - set(source.locations)
        self.locations: tuple[Location, ...] = tuple(source.locations.values())
        self._template = template
        self._finish = finish
        missing = template.environment.undefined
        getters: dict[str, Getter] = {name: named(name, missing) for name in self.names}
        self._getters = {**getters, **{name: at(place) for name, place in source.locations.items()}}

    def __call__(self, document: Document) -> str:
        """Return the rendered text; raise `StepError` (with no value of the message in it) where that fails."""
        try:
            context = self._template.new_context({name: get(document) for name, get in self._getters.items()})
            return self._finish(_joined(self._template.root_render_func(context)))
        except Exception as error:  # noqa: BLE001 - every kind of failure becomes one that carries no patient data
            raise failure(error, self._place(error), self.locations) from None

    def _place(self, error: Exception) -> str:
        position = _position(error.__traceback__, self._template)
        line = "" if position is None else f":{self.text.count(chr(10), 0, position) + 1}"
        return f"{self.file}{line}" if self.file else f"template{line}"


def compile_template(text: str, kind: str = "text", names: Iterable[str] = ()) -> Rendering:
    """Compile a template for a kind of output (`transforms.jinja.KINDS`); raise `ExpressionError` for a mistake."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > _LONGEST:
        raise ExpressionError(f"a template has at most {_LONGEST} characters", source=text, position=_LONGEST, length=1)
    source = read_template(text)
    strict = environment(kind)
    try:
        tree = _parse(source, strict)
        policy = Policy(source, strict, names)
        policy.check_template(tree)
        tree = _Rewriting().visit(tree)
        if kind == "json":
            _Strings(source).mark(tree)
        tree.set_environment(strict)
        code = strict.compile(tree)
    except RecursionError:
        raise source.mistake("a template is nested too deeply", 0, 1) from None
    template = Template.from_code(strict, code, {})
    return Rendering(source, policy.used, template, _FINISH.get(kind, _as_it_is))


def compile_value(text: str, kind: str = "text", names: Iterable[str] = ()) -> Callable[[Document], Any]:
    """Compile a literal with holes; one that is exactly one whole hole keeps the type of its expression."""
    inner = text.strip()
    if inner.startswith("{{") and inner.endswith("}}") and "{{" not in inner[2:] and "}}" not in inner[:-2]:
        try:
            return compile_expression(inner[2:-2].strip("-+"), names)
        except ExpressionError as error:
            raise _moved(error, text) from None
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return lambda _: text
    return compile_template(text, kind, names)


def _moved(error: ExpressionError, text: str) -> ExpressionError:
    start = text.find(error.source)
    return ExpressionError(
        error.text, source=text, position=start + error.position, length=error.length, hint=error.hint
    )


def _parse(source: Source, strict: StrictEnvironment) -> nodes.Template:
    try:
        return strict.parse(source.masked)
    except TemplateSyntaxError as error:
        raise syntax_error(source, error) from None


def _joined(rendered: Iterable[str]) -> str:
    parts, length = [], 0
    for part in rendered:
        length += len(part)
        if length > LIMIT:
            raise Refused(f"it gives more than {LIMIT} characters")
        parts.append(part)
    return "".join(parts)


def _as_it_is(text: str) -> str:
    return text


def _finished_json(text: str) -> str:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(f"it does not give JSON (at line {error.lineno}, column {error.colno} of the output)") from None
    return text


def _finished_hl7(text: str) -> str:
    return text.replace("\n", "\r")  # line ends of values were escaped, so these are the template's own


_FINISH: Final[dict[str, Callable[[str], str]]] = {"json": _finished_json, "hl7": _finished_hl7}


def _position(traceback: TracebackType | None, template: Template) -> int | None:
    position = None
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") is None or "blocks" in traceback.tb_frame.f_globals:
            position = template.get_corresponding_lineno(traceback.tb_lineno)
        traceback = traceback.tb_next
    return position


class _Rewriting(NodeTransformer):
    """Puts what is ours in the place of ``~``, of ``[:]`` and of the ``else`` that an inline ``if`` lacks (None)."""

    def visit_CondExpr(self, node: nodes.CondExpr) -> nodes.CondExpr:  # noqa: N802 - Jinja's name for it
        self.generic_visit(node)
        node.expr2 = node.expr2 or nodes.Const(None, lineno=node.lineno)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:  # noqa: N802 - Jinja's name for it
        self.generic_visit(node)
        cut = node.arg
        if not isinstance(cut, nodes.Slice):
            return node
        bounds: list[nodes.Expr] = [part or nodes.Const(None) for part in (cut.start, cut.stop, cut.step)]
        return nodes.Filter(node.node, "_cut", bounds, [], None, None, lineno=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - Jinja's name for it
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "_concat", [], [], None, None, lineno=node.lineno)


class _Strings:
    """Finds the holes that stand inside a JSON string, where a value must not bring quotes of its own."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def mark(self, template: nodes.Template) -> None:
        if self._body(template.body, inside=False):
            raise self._source.mistake("a JSON string is not closed", len(self._source.text) - 1, 1)

    def _body(self, body: Iterable[nodes.Node], *, inside: bool) -> bool:
        for node in body:
            if isinstance(node, nodes.Output):
                inside = self._output(node, inside=inside)
            elif isinstance(node, nodes.If):
                branches: list[list[nodes.Node]] = [node.body, node.else_]
                branches += [[part] for part in node.elif_]
                self._same(node, {self._body(branch, inside=inside) for branch in branches}, inside=inside)
            elif isinstance(node, nodes.For):
                ends = {self._body(branch, inside=inside) for branch in (node.body, node.else_)}
                self._same(node, ends, inside=inside)
        return inside

    def _same(self, node: nodes.Node, ends: set[bool], *, inside: bool) -> None:
        if ends != {inside}:
            text = "a JSON string must be opened and closed in the same branch"
            raise self._source.mistake(text, node.lineno, 1)

    def _output(self, node: nodes.Output, *, inside: bool) -> bool:
        for index, part in enumerate(node.nodes):
            if isinstance(part, nodes.TemplateData):
                inside = _ends_inside(part.data, inside=inside)
            elif inside:
                node.nodes[index] = nodes.Filter(part, "_inside", [], [], None, None, lineno=part.lineno)
        return inside


def _ends_inside(text: str, *, inside: bool) -> bool:
    escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\" and inside:
            escaped = True
        elif letter == '"':
            inside = not inside
    return inside
