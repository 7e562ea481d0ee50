"""This module renders requests: it fills an operation's templates and freezes what every attempt will send.

What is frozen is one line of JSON (method, path, headers …) and then the body or row. The idempotency key is not known
here; `delivery_key` in a template leaves a mark, which is replaced when the request is sent, each time by the same.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode

import orjson

from broker.canonical.codec import part_as_json
from broker.errors import StepError
from dispatch.web.preset import DELIVERY_KEY, FOUND, ROWS, OperationSpec

if TYPE_CHECKING:
    from broker.message import Document

# Marks of what is filled in when a request is sent. They survive percent-encoding, JSON and forms as they are.
KEY_MARK: Final = "~handoff.delivery.key~"
FOUND_MARK: Final = "~handoff.found~"
_KEY_MARK: Final = KEY_MARK.encode()

Node = Callable[["Document"], Any]

_NO_HEADER: Final = re.compile(r"[^\x20-\x7e]")
_LARGEST: Final = 8 * 1024 * 1024  # bytes of a body
_MIXED: Final = ("{{", "{%", "{#")


# Where rows go in a body that is written already; it is cut out again, and no message can know it.
_PLACE: Final = f'"{secrets.token_hex(16)}"'


class _Rows:
    """Stands for the rows in the body around them."""


_ROWS: Final = _Rows()


class _Missing(Exception):
    """A template gave nothing where something must be; the text says where."""


@dataclass(slots=True)
class Frozen:
    """A request as every attempt sends it. ``around`` is what stands before and after the rows of a list."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    around: tuple[str, str] | None = None
    find: str = ""
    update: tuple[str, str] | None = None

    def packed(self) -> bytes:
        """Return it as `Delivery.request` holds it."""
        head: dict[str, Any] = {"method": self.method, "path": self.path, "headers": self.headers}
        if self.around is not None:
            head["around"] = self.around
        if self.find:
            head["find"] = self.find
        if self.update is not None:
            head["update"] = self.update
        return orjson.dumps(head) + b"\n" + self.body

    @classmethod
    def unpacked(cls, request: bytes, key: str) -> "Frozen":
        """Return what `packed` wrote, with the delivery's idempotency key where its mark was."""
        head, _, body = request.replace(_KEY_MARK, key.encode()).partition(b"\n")
        read = orjson.loads(head)
        around, update = read.get("around"), read.get("update")
        return cls(
            read["method"],
            read["path"],
            read["headers"],
            body,
            tuple(around) if around else None,
            read.get("find", ""),
            tuple(update) if update else None,
        )


class RequestRenderer:
    """Renders one operation; ``given`` are the values of the channel, which go before those of the preset.

    ``kit`` compiles the channel's own texts; what a preset says sees only the operation's values. With ``own`` the
    operation is the channel's, and sees its names as well.
    """

    def __init__(
        self, kit: Any, label: str, operation: OperationSpec, given: Mapping[str, Any], *, own: bool = False
    ) -> None:
        self._label = label
        self._operation = operation
        own, channels = kit.knowing(DELIVERY_KEY), kit.knowing(DELIVERY_KEY, own=True)
        inner = kit.knowing(*operation.values, DELIVERY_KEY, FOUND, own=own)
        self._own = own
        self._values = [
            (name, spec.optional, _value(name, spec.default, given, own, channels), f"values.{name}")
            for name, spec in operation.values.items()
        ]
        self._path = _path(operation.path, inner)
        self._query = _named(operation.query, inner)
        self._headers = _named(operation.headers, inner)
        self._body = _node(operation.body, inner, "body") if operation.body is not None else None
        self._row = _node(operation.row, inner, "row") if operation.row is not None else None
        find = operation.find
        self._find = (_path(find.path, inner), _named(find.query, inner)) if find else None
        self._update = _path(find.update.path, inner) if find and find.update else None

    def __call__(self, document: "Document") -> bytes:
        """Return the frozen request; raise `StepError` with the place of what gives nothing."""
        try:
            return self._render(document).packed()
        except _Missing as error:
            place = str(error)
            advice = f"write `{place.rpartition('.')[2]}?` where it may be left out"
            raise StepError(f"http: {self._label}: {place} gives nothing for this message; {advice}") from None
        except StepError as error:
            raise StepError(f"http: {self._label}: {error}", location=error.location) from None
        except (orjson.JSONEncodeError, KeyError, RecursionError):
            raise StepError(f"http: {self._label}: a value cannot be written as JSON; name one of its fields") from None

    def _render(self, document: "Document") -> Frozen:
        document = _with(document, document.values | {DELIVERY_KEY: KEY_MARK})
        values: dict[str, Any] = {**(document.values if self._own else {}), DELIVERY_KEY: KEY_MARK, FOUND: FOUND_MARK}
        for name, optional, node, place in self._values:
            values[name] = _filled(node, document, place, optional=optional)
        scope = _with(document, values)
        operation = self._operation
        frozen = Frozen(
            operation.method,
            self._address(self._path, self._query, scope),
            {name: self._header(name, value) for name, value in self._pairs(self._headers, scope, "headers")},
            b"",
        )
        if self._find is not None and operation.find is not None:
            frozen.find = self._address(*self._find, scope)
            if self._update is not None and operation.find.update is not None:
                frozen.update = (operation.find.update.method, self._address(self._update, [], scope))
        self._write(frozen, scope)
        if len(frozen.body) > _LARGEST:
            raise StepError(f"the body has {len(frozen.body)} bytes; at most {_LARGEST} are sent")
        return frozen

    def _write(self, frozen: Frozen, scope: "Document") -> None:
        """Put the body, or the row and what stands around rows, into a request."""
        body = None if self._body is None else _filled(self._body, scope, "body")
        if self._row is not None:
            row = _filled(self._row, scope, "row")
            if body is not None:
                before, _, after = _json(body).decode().partition(_PLACE)
                frozen.around = (before, after)
            frozen.body = _json(row)
        elif body is not None:
            frozen.body = self._encoded(body)

    def _encoded(self, body: Any) -> bytes:
        if self._operation.encoding == "form":
            return urlencode([(name, _plain(value, f"body.{name}")) for name, value in body.items()]).encode("ascii")
        if self._operation.encoding == "text":
            return _plain(body, "body").encode()
        return _json(body)

    def _address(self, path: Callable[["Document"], str], query: list[tuple[str, Node]], scope: "Document") -> str:
        text = path(scope)
        if any(part in {".", ".."} for part in text.split("/")):
            raise StepError("path: a part of it is a dot, which would lead elsewhere")
        pairs = [
            f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in self._pairs(query, scope, "query")
        ]
        return f"{text}?{'&'.join(pairs)}" if pairs else text

    def _pairs(self, named: list[tuple[str, Node]], scope: "Document", where: str) -> list[tuple[str, str]]:
        pairs = []
        for name, node in named:
            key = name.removesuffix("?")
            try:
                pairs.append((key, _plain(_filled(node, scope, f"{where}.{key}"), f"{where}.{key}")))
            except _Missing:
                if key == name:
                    raise
        return pairs

    def _header(self, name: str, value: str) -> str:
        if _NO_HEADER.search(value):
            raise StepError(f"headers.{name}: its value has line ends or letters that a header cannot have")
        return value


def _with(document: "Document", values: dict[str, Any]) -> "Document":
    """Return a document with other named values."""
    kind = type(document)  # `dataclasses.replace` costs six times as much
    return kind(message=document.message, received_at=document.received_at, event=document.event, values=values)


def _value(name: str, default: Any, given: Mapping[str, Any], own: Any, kit: Any) -> Node:
    """Compile a value: the channel's; of keys and values, the preset's with the channel's on top (null takes away)."""
    place = f"values.{name}"
    if name not in given:
        return _node(default, own, place)
    wanted = given[name]
    if isinstance(default, dict) and isinstance(wanted, dict):
        replaced = {key.removesuffix("?") for key in wanted}
        kept = {key: inner for key, inner in default.items() if key.removesuffix("?") not in replaced}
        on_top = {key: inner for key, inner in wanted.items() if inner is not None}
        return _Mapping([*_items(kept, own, place), *_items(on_top, kit, place)])
    return _node(wanted, kit, place)


def _node(tree: Any, kit: Any, place: str) -> Node:
    """Compile a tree of literals with holes."""
    if tree == ROWS:
        return lambda _: _ROWS
    if isinstance(tree, str):
        is_fixed = not any(mark in tree for mark in _MIXED) and not tree.strip().endswith(".j2")
        return (lambda _: tree) if is_fixed else _Text(kit.value(tree, "filled"), place)
    if isinstance(tree, dict):
        return _Mapping(_items(tree, kit, place))
    if isinstance(tree, list):
        nodes = [_node(item, kit, f"{place}.{number}") for number, item in enumerate(tree)]
        return lambda document: [node(document) for node in nodes]
    return lambda _: tree


@dataclass(frozen=True, slots=True)
class _Text:
    """A text with holes; one that is a single hole keeps the type of its value."""

    value: Node
    place: str

    def __call__(self, document: "Document") -> Any:
        value = self.value(document)
        if value is None or (isinstance(value, str) and not value.strip()):
            raise _Missing(self.place)
        return value


Item = tuple[str | Node, bool, bool, Node]  # key (with holes: a node), optional, taking in keys


def _items(tree: Mapping[str, Any], kit: Any, place: str) -> list[Item]:
    items: list[Item] = []
    for written, inner in tree.items():
        key = written.removesuffix("?")
        name = _Text(kit.value(key, "filled"), place) if "{{" in key else key
        items.append((name, key != written, key == "*", _node(inner, kit, _below(place, written))))
    return items


def _below(place: str, key: str) -> str:
    return place if key.removesuffix("?") == "*" else f"{place}.{key.removesuffix('?')}"


@dataclass(frozen=True, slots=True)
class _Mapping:
    """Keys and values with holes."""

    items: list[Item]

    def __call__(self, document: "Document") -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, optional, takes_in, node in self.items:
            try:
                value = node(document)
            except _Missing:
                if optional:
                    continue
                raise
            if takes_in:
                if not isinstance(value, dict):
                    raise StepError("what * takes in must be keys and values")
                made.update(value)
            else:
                made[key if isinstance(key, str) else _plain(key(document), "a key")] = value
        return made


def _filled(node: Node, document: "Document", place: str, *, optional: bool = False) -> Any:
    """Evaluate a node; a failure of a template says where it stands."""
    try:
        value = node(document)
    except _Missing:
        if optional:
            return None
        raise
    except StepError as error:
        raise StepError(f"{place}: {error}", location=error.location) from None
    return value


def _path(text: str, kit: Any) -> Callable[["Document"], str]:
    if "{{" not in text:
        return lambda _: text
    template = kit.template(text, kind="path")

    def path(document: "Document") -> str:
        try:
            return str(template(document))
        except StepError as error:
            raise StepError(f"path: {error}", location=error.location) from None

    return path


def _named(named: Mapping[str, str], kit: Any) -> list[tuple[str, Node]]:
    return [(name, _node(text, kit, name)) for name, text in named.items()]


def _plain(value: Any, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Decimal):
        return str(value)
    raise StepError(f"{place}: needs a text or number, not {'nothing' if value is None else 'a structure'}")


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_as_json, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _as_json(value: Any) -> Any:
    """Write numbers of any length with the digits that they had, and parts of the canonical model as it does."""
    if isinstance(value, _Rows):
        return orjson.Fragment(_PLACE)
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    return part_as_json(value)
