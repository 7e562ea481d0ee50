"""This module remembers where each value of a file was written, so that whatever is found later can point there."""

import bisect
import re
from dataclasses import dataclass, field
from typing import Final

from config.findings import Finding

Keys = tuple[str | int, ...]  # the way to a value through mappings (by key) and lists (by number from 0)

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]+)(?=@)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SECRET_IN_LINE: Final = re.compile(
    r"""(?i)((?:token|password|passwd|passphrase|secret|api_?key|private_key)["']?\s*[:=]\s*)"""
    r"""(?!["']?\$\{|\{)("[^"]*"?|'[^']*'?|[^\s,}]+)"""
)
_ESCAPED: Final = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|\r\n|.)|.", re.DOTALL)
_QUOTED: Final = re.compile(r"''|.", re.DOTALL)
_PLAIN: Final = re.compile(r".", re.DOTALL)
_BLANK_ESCAPES: Final = frozenset({"\\n", "\\t", "\\ ", "\\r", "\\\n", "\\\r\n", "\\N", "\\_", "\\L", "\\P", "\\e"})


def show(keys: Keys) -> str:
    """Write a way through a file as people do: ``steps.2.filter`` is the second step."""
    return ".".join(str(key + 1) if isinstance(key, int) else key for key in keys)


def without_secrets(line: str) -> str:
    """Return a line with stars for what looks like a secret; every other character stays where it was."""
    line = _PASSWORD_IN_URL.sub(lambda found: f"{found[1]}:{'*' * len(found[2])}", line)
    return _SECRET_IN_LINE.sub(lambda found: found[1] + "*" * len(found[2]), line)


@dataclass(frozen=True, slots=True)
class Source:
    """A text under the name that people know it by: a file, a variable of the environment, or ``--set``."""

    name: str
    text: str = field(repr=False)
    _starts: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Find the lines."""
        object.__setattr__(self, "_starts", (0, *(found.end() for found in _LINE_END.finditer(self.text))))

    def place(self, index: int) -> tuple[int, int]:
        """Return line and column, both from 1, of a position in the text."""
        line = bisect.bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def line(self, number: int) -> str:
        """Return a line, numbered from 1, without its end."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of a source, from ``start`` up to ``end``; ``style`` is how YAML wrote it: ``' " | >`` or plain."""

    source: Source
    start: int
    end: int
    style: str = ""

    def finding(
        self, code: str, text: str, hint: str = "", severity: str = "error", *, secret: bool = False
    ) -> Finding:
        """Return a finding at this place; with ``secret`` the stretch is not shown."""
        line, column = self.source.place(self.start)
        written = self.source.line(line)
        end = min(column + max(1, self.end - self.start), max(len(written), column) + 1)
        if secret:
            written = written[: column - 1] + "*" * (end - column) + written[end - 1 :]
        written = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", written)
        return Finding(self.source.name, line, column, end, code, text, hint, severity, without_secrets(written))

    def inside(self, value: str, position: int, length: int) -> "Mark":
        """Return where a part of the value was written; the whole where that cannot be said.

        Between what was written and the value, YAML takes out indentation, line folds, escapes and doubled quotes;
        what is not blank stays in the same order, so those characters are counted.
        """
        places = self._places(value)
        if not value or len(places) != len(value):
            return self
        first = places[min(position, len(value) - 1)]
        last = places[min(position + max(length, 1), len(value)) - 1] if position < len(value) else first
        if position >= len(value):  # the mistake is that something is missing at the end
            return Mark(self.source, first + 1, first + 2)
        return Mark(self.source, first, max(first, last) + 1)

    def _places(self, value: str) -> list[int]:
        start, text = self._content()
        token = {"'": _QUOTED, '"': _ESCAPED}.get(self.style, _PLAIN)
        solid = [
            start + found.start()
            for found in token.finditer(text)
            if not found[0].isspace() and found[0] not in _BLANK_ESCAPES
        ]
        places: list[int] = []
        following = iter(solid)
        before = start - 1
        for letter in value:
            before = before + 1 if letter.isspace() else next(following, -1)
            if before < 0:
                return []
            places.append(before)
        return places

    def _content(self) -> tuple[int, str]:
        start, end = self.start, self.end
        if self.style in {"'", '"'}:
            start, end = start + 1, end - 1
        elif self.style in {"|", ">"}:
            line = _LINE_END.search(self.source.text, start, end)
            start = line.end() if line else end
        return start, self.source.text[start:end]


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the keys and values of one tree were written."""

    whole: Mark
    keys: dict[Keys, Mark] = field(default_factory=dict)
    values: dict[Keys, Mark] = field(default_factory=dict)

    def key(self, keys: Keys) -> Mark:
        """Return where a key was written; for an item of a list, the item; else what would hold it."""
        while keys:
            found = self.keys.get(keys) or self.values.get(keys)
            if found is not None:
                return found
            keys = keys[:-1]
        return self.whole

    def value(self, keys: Keys) -> Mark:
        """Return where a value was written: a scalar itself, a mapping or list by the key that holds it."""
        found = self.values.get(keys)
        if found is None or found.end <= found.start or found.style in {"block", "flow"}:
            return self.key(keys)
        return found

    def put(self, keys: Keys, mark: Mark) -> None:
        """Say that a value, and all below it, comes from elsewhere (an override)."""
        for table in (self.keys, self.values):
            for known in [known for known in table if known[: len(keys)] == keys]:
                del table[known]
        self.keys[keys] = self.values[keys] = mark
