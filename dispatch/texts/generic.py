"""This module speaks to any HTTP gateway that a site describes as data: what to send, and what the answers mean.

Holes such as ``{{ to }}`` in the description take the values of one text. They are no expressions: a hole is one of
`HOLES`, its value is escaped for where it stands, and there is nothing else to compute.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

import orjson

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from broker.places import reveal
from dispatch.auth import basic
from dispatch.http import Answer, by_status, retry_after
from dispatch.texts.gateway import FORM, JSON, Request, Text, usable_reference

# What a hole may name. In headers only those that hold nothing which came with a message.
HOLES: Final = {
    "to": "the recipient's number in E.164",
    "digits": "the recipient's number without +",
    "text": "the text",
    "key": "the delivery's idempotency key",
    "from": "the sender, from `from:`",
    "account": "the account, from `account:`",
    "secret": "the secret that `secret:` refers to",
}
HEADER_HOLES: Final = frozenset({"key", "from", "account", "secret"})
HOLE: Final = re.compile(r"\{\{\s*(.*?)\s*\}\}")

_OUTCOMES: Final = {"reject": Rejected, "suppress": Suppressed, "unknown": Unknown}
_TYPES: Final = {"form": FORM, "json": JSON, "xml": "application/xml; charset=utf-8"}
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_READ: Final = 65_536  # bytes of an answer that a pattern is looked for in


def holes(value: Any) -> list[str]:
    """Return the names in the holes of a text, or of all texts in a structure."""
    if isinstance(value, str):
        return HOLE.findall(value)
    if isinstance(value, Mapping):
        return [name for inner in value.values() for name in holes(inner)]
    return [name for inner in value for name in holes(inner)] if isinstance(value, list | tuple) else []


@dataclass(frozen=True, slots=True)
class Rule:
    """What an answer has to be: all of the conditions that are given hold. ``field`` is a path into a JSON answer."""

    status: frozenset[int] = frozenset()
    field: str = ""
    equals: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    def holds(self, seen: "Seen") -> bool:
        """Say whether an answer is what the rule describes."""
        if self.status and seen.status not in self.status:
            return False
        if self.field and seen.at(self.field) not in (self.equals or {seen.at(self.field) or None}):
            return False
        return self.pattern is None or self.pattern.search(seen.text) is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows where a rule holds; ``after`` in seconds, for ``retry``."""

    rule: Rule
    then: Literal["retry", "reject", "suppress", "unknown"]
    reason: str = ""
    after: float | None = None


@dataclass(slots=True)
class Seen:
    """An answer as rules look at it."""

    status: int
    text: str = field(repr=False)
    tree: Any = field(repr=False)

    @classmethod
    def of(cls, answer: Answer) -> "Seen":
        """Read an answer, whatever it is."""
        try:
            tree = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            tree = None
        return cls(answer.status, answer.body[:_READ].decode("utf-8", "replace"), tree)

    def at(self, path: str) -> str:
        """Return the value at a path such as ``messages.0.status`` as text; nothing where there is none."""
        value = self.tree
        for part in path.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, str | int | float) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generic:
    """One gateway as a site describes it."""

    name: str
    base: str
    method: str = "POST"
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: str = "json"
    body: Any = None
    authorization: str = "none"
    sender: str = ""
    account: str = ""
    secret: Any = None
    success: Rule = field(default_factory=Rule)
    reference: str = ""
    reference_pattern: re.Pattern[str] | None = None
    errors: Sequence[Verdict] = ()

    def request(self, text: Text) -> Request:
        """Return the request; its bytes are the same for every attempt, but for the secret."""
        values = {
            "to": text.to,
            "digits": text.to.removeprefix("+"),
            "text": text.body,
            "key": text.key,
            "from": self.sender,
            "account": self.account,
            "secret": reveal(self.secret),
        }
        query = urlencode({name: _fill(value, values) for name, value in self.query.items()})
        url = f"{self.base}{_fill(self.path, values, _for_path)}" + (f"?{query}" if query else "")
        headers = {"X-Request-Id": text.key, **{name: _fill(value, values) for name, value in self.headers.items()}}
        if self.authorization == "bearer":
            headers["Authorization"] = f"Bearer {values['secret']}"
        elif self.authorization == "basic":
            headers["Authorization"] = basic(self.account, values["secret"])
        if self.body is None:
            return Request(url, headers, None, self.method)
        return Request(url, {"Content-Type": _TYPES[self.content], **headers}, self._content(values), self.method)

    def _content(self, values: Mapping[str, str]) -> bytes:
        if self.content == "form":
            return urlencode({name: _fill(value, values) for name, value in self.body.items()}).encode("ascii")
        if self.content == "xml":
            return _fill(self.body, values, _for_xml).encode()
        return orjson.dumps(_filled(self.body, values))

    def outcome(self, answer: Answer, now: float) -> Outcome:
        """Class an answer: errors that the site described come first, then success, then the status alone."""
        seen = Seen.of(answer)
        reason = f"HTTP {answer.status} from gateway {self.name}"
        for verdict in self.errors:
            if verdict.rule.holds(seen):
                return _decided(verdict, answer, reason, retry_after(answer.headers, now))
        good = 200 <= answer.status < 300  # noqa: PLR2004 - the class of success, RFC 9110 15.3
        if self.success.holds(seen) and (good or self.success.status):
            return self._delivered(seen, answer, reason)
        if good:
            return Unknown(f"{reason}: the answer is neither a success nor an error that we know", response=answer.body)
        return by_status(answer, f"gateway {self.name}", now)

    def _delivered(self, seen: Seen, answer: Answer, reason: str) -> Outcome:
        reference = seen.at(self.reference) if self.reference else ""
        if self.reference_pattern is not None:
            found = self.reference_pattern.search(seen.text)
            reference = found[1] if found else ""
        usable = usable_reference(reference, 128)
        if (self.reference or self.reference_pattern) and not usable:
            return Unknown(f"{reason}: success without a reference of the text", response=answer.body)
        return Delivered(reference=usable, response=answer.body)


def _decided(verdict: Verdict, answer: Answer, reason: str, asked: float | None) -> Outcome:
    text = f"{reason}: {verdict.reason}" if verdict.reason else reason
    if verdict.then == "retry":
        return Retry(text, after=verdict.after if asked is None else asked, response=answer.body)
    kind: type[Rejected | Suppressed | Unknown] = _OUTCOMES[verdict.then]
    return kind(reason=text, response=answer.body)


def _fill(text: str, values: Mapping[str, str], escaped: Callable[[str], str] = str) -> str:
    return HOLE.sub(lambda hole: escaped(values[hole[1]]), text)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _fill(value, values)
    if isinstance(value, Mapping):
        return {name: _filled(inner, values) for name, inner in value.items()}
    return [_filled(inner, values) for inner in value] if isinstance(value, list | tuple) else value


def _for_path(value: str) -> str:
    return quote(value, safe="")


def _for_xml(value: str) -> str:
    return escape(_NOT_XML.sub(" ", value), {'"': "&quot;"})
