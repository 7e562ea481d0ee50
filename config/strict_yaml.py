"""This module reads YAML 1.2 core, strictly, and keeps where everything was written.

``true`` and ``false`` are the only booleans, numbers are what JSON calls so, ``null``, ``~`` and nothing are null;
all else is text: ``0012``, ``NO``, ``on``, ``12:30``, ``2024-05-01``, ``+12025550100``. Numbers that would lose digits
stay text as well. Anchors, aliases, merge keys, tags, duplicate keys and second documents are refused.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml import CSafeLoader

from config.findings import Finding
from config.marks import Keys, Mark, Marks, Source, show
from config.yaml_mistakes import unreadable

LARGEST: Final = 256 * 1024  # bytes of a file
DEEPEST: Final = 30  # mappings and lists inside each other
MOST_VALUES: Final = 5_000
_MOST_FINDINGS: Final = 100
_LONGEST_SHOWN: Final = 60  # characters of a tag that are repeated

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_MOST_DIGITS: Final = 18  # so that a whole number fits 64 bits
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "false": False}
# Some tools end a line here and some do not: written out they would move every place after them. And what is no text.
_ODD: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Tree:
    """What a file says: dicts, lists, text, numbers, booleans, None; ``marks`` says where.

    ``usable`` is False when so much is wrong that looking for more mistakes would only find consequences.
    """

    value: Any
    marks: Marks
    findings: tuple[Finding, ...] = ()
    usable: bool = True


def scalar(text: str) -> str | int | float | bool | None:
    """Return what an unquoted value means."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    found = _NUMBER.fullmatch(text)
    if found is None:
        return text
    if found[1] is None and found[2] is None:
        return int(text) if len(text.lstrip("-")) <= _MOST_DIGITS else text
    number = float(text)
    return number if math.isfinite(number) else text


def read_bytes(data: bytes, name: str) -> Tree:
    """Read the bytes of a file that people know by ``name``."""
    if len(data) > LARGEST:
        return _refused(name, f"the file has {len(data)} bytes; at most {LARGEST} are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return _refused(name, f"line {line} is not UTF-8", "save the file as UTF-8")
    return read(Source(name, text))


def read(source: Source) -> Tree:
    """Read one document."""
    whole = Mark(source, 0, 1)
    if len(source.text.encode("utf-8", "replace")) > LARGEST:
        return _refused(source.name, f"the text is too large; at most {LARGEST} bytes are read")
    odd = _ODD.search(source.text)
    if odd:
        text = f"the character U+{ord(odd[0]):04X} cannot be read safely"
        hint = f'remove it, or write "\\u{ord(odd[0]):04x}" in double quotes'
        found = Mark(source, odd.start(), odd.end()).finding("E101", text, hint)
        return Tree(None, Marks(whole), (found,), usable=False)
    return _Reading(source).read()


def _refused(name: str, text: str, hint: str = "") -> Tree:
    source = Source(name, "")
    return Tree(None, Marks(Mark(source, 0, 1)), (Finding(name, 0, 0, 0, "E109", text, hint),), usable=False)


class _Stop(Exception):
    """Enough is wrong to end reading."""


class _Reading:
    """Builds a tree from the events of one source."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._marks = Marks(Mark(source, 0, 1))
        self._findings: list[Finding] = []
        self._values = 0
        self._usable = True

    def read(self) -> Tree:
        value = None
        try:
            self._loader = CSafeLoader(self._source.text)
            try:
                value = self._document()
            finally:
                self._loader.dispose()
        except yaml.YAMLError as error:
            self._findings.append(unreadable(error, self._source))
            self._usable = False
        except _Stop:
            self._usable = False
        return Tree(value, self._marks, tuple(self._findings), self._usable)

    def _document(self) -> Any:
        self._next()  # the stream begins
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._node(self._next(), (), 0)
        self._next()  # the document ends
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._stop(event, "E103", "a second document begins here", "one file holds one document; remove the ---")
        return value

    def _next(self) -> Any:
        return self._loader.get_event()

    def _node(self, event: Any, keys: Keys, depth: int) -> Any:
        self._values += 1
        if self._values > MOST_VALUES:
            self._stop(event, "E109", f"the file has more than {MOST_VALUES} values")
        if isinstance(event, yaml.AliasEvent):
            self._usable = False
            self._find(event, "E103", f"*{event.anchor} is an alias", "write the value again here")
            return None
        self._check_plain(event)
        if isinstance(event, yaml.ScalarEvent):
            self._marks.values[keys] = self._mark(event, event.style or "")
            return scalar(event.value) if not event.style and event.implicit[0] else event.value
        if depth >= DEEPEST:
            self._stop(event, "E109", f"more than {DEEPEST} mappings and lists inside each other")
        self._marks.values[keys] = self._mark(event, "flow" if event.flow_style else "block")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(keys, depth)
        return self._mapping(keys, depth)

    def _list(self, keys: Keys, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, (*keys, len(items)), depth + 1))
        return items

    def _mapping(self, keys: Keys, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event)
            inner = (*keys, key)
            if key in found:
                line = self._source.place(self._marks.keys[inner].start)[0]
                where = f" in {show(keys)}" if keys else ""
                self._find(event, "E102", f'"{key}" is there twice{where}', f"the first is in line {line}")
                inner = (*keys, key, "(again)")
                self._node(self._next(), inner, depth + 1)
                continue
            self._marks.keys[inner] = self._mark(event)
            found[key] = self._node(self._next(), inner, depth + 1)
        return found

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._unquoted_hole(event)
        self._check_plain(event)
        if not event.style and event.value == "<<":
            self._stop(event, "E103", "<< merges another mapping", "write the keys out here")
        if not event.style and event.value in _NULLS:
            self._stop(event, "E101", "a key is missing before the colon")
        return str(event.value)

    def _unquoted_hole(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._stop(event, "E103", f"*{event.anchor} is an alias", "write the key itself")
        start = event.start_mark.index
        if start and self._source.text[start - 1 : start + 1] == "{{":
            line_end = self._source.text.find("}}", start)
            mark = Mark(self._source, start - 1, line_end + 2 if line_end > 0 else start + 1)
            hint = 'put the value in quotes: "{{ … }}"'
            self._findings.append(mark.finding("E101", "a value that begins with {{ is a mapping to YAML", hint))
            raise _Stop
        self._stop(event, "E101", "a key must be text, found a mapping or list")

    def _check_plain(self, event: Any) -> None:
        if event.anchor is not None:
            length = len(event.anchor) + 1
            self._find(event, "E103", f"&{event.anchor} is an anchor", "write the value where it is used", length)
        if event.tag is not None:
            hint = "leave the tag out; quotes make text of a value"
            self._find(event, "E108", f"{_tag(event.tag)} is a tag", hint, len(_tag(event.tag)))

    def _mark(self, event: Any, style: str = "") -> Mark:
        return Mark(self._source, event.start_mark.index, event.end_mark.index, style)

    def _find(self, event: Any, code: str, text: str, hint: str = "", length: int = 0) -> None:
        start = event.start_mark.index
        mark = Mark(self._source, start, start + length if length else event.end_mark.index)
        self._findings.append(mark.finding(code, text, hint))
        if len(self._findings) >= _MOST_FINDINGS:
            raise _Stop

    def _stop(self, event: Any, code: str, text: str, hint: str = "") -> None:
        self._find(event, code, text, hint)
        raise _Stop


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:_LONGEST_SHOWN]
