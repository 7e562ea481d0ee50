"""This module reads answers: which rows took effect, which did not and why, by what a preset says of them.

Messages of other systems hold patient data; reasons are made of statuses and codes only, never of messages.
"""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from dispatch.http import LONGEST_WAIT, Answer, by_status, retry_after
from dispatch.web.preset import FailuresSpec, OperationSpec, PresetSpec, RuleSpec, WaitSpec

_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,63}|-?[0-9]{1,9}|0x[0-9A-Fa-f]{1,16}")
_REFERENCE: Final = re.compile(r"[\x21-\x7e]{1,200}")
_HEADER: Final = "header."
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Refresh:
    """The other side did not take the token: it had no effect, and a new token may help."""

    reason: str
    response: bytes = field(default=b"", repr=False)


Verdict = Outcome | Refresh


def look(value: Any, path: str) -> Any:
    """Return what a path such as ``errors.0.code`` leads to in JSON, or None; with ``*`` a list of all that it does."""
    if path.isidentifier():  # the usual one is a single name
        return value.get(path) if isinstance(value, dict) else None
    first, star, rest = path.partition("*")
    if star:
        items = look(value, first.rstrip("."))
        return [look(item, rest.lstrip(".")) for item in items] if isinstance(items, list) else []
    for part in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def fits(status: int, wanted: Iterable[int | str]) -> bool:
    """Say whether a status is one of those that are wanted: ``201``, ``5xx``."""
    return any(status == each or f"{status // 100}xx" == each for each in wanted)


class Reader:
    """Reads the answers of one system to one operation; ``peer`` is what reasons call the system."""

    def __init__(self, peer: str, preset: PresetSpec, operation: OperationSpec) -> None:
        self._peer = peer
        self._errors = preset.errors
        self._success = operation.success
        self._rules = [*operation.rules, *preset.errors.rules]
        # Asked of every answer, so worked out once.
        self._good = frozenset(status for status in range(100, 600) if fits(status, operation.success.status))
        self._needs_json = operation.success.needs_json
        self._is = [(path, good, "*" in path) for path, good in operation.success.is_.items()]
        self._is_in_rows = operation.success.rows is not None or operation.success.failures is not None

    def read(self, answer: Answer, rows: Sequence[bytes]) -> list[Verdict]:
        """Return what an answer means for each of the rows that were sent (JSON; one, where nothing is in rows)."""
        if answer.status not in self._good:
            return [self.failed(answer)] * len(rows)
        said = parsed(answer.body)
        if self._needs_json and said is _NOTHING and answer.status != 204:  # noqa: PLR2004 - no content
            reason = f"HTTP {answer.status} from {self._peer} with something else than the JSON that was expected"
            return [Unknown(reason, response=answer.body)] * len(rows)
        if not self._is_in_rows:
            return [self._row(answer, said, whole=True)] * len(rows)
        return list(self._rows(answer, said, rows))

    def failed(self, answer: Answer) -> Verdict:
        """Return what an answer without success means."""
        said = parsed(answer.body)
        code = first_code(said, self._errors.codes, self._errors.passed_over)
        message = _messages(said, self._errors.messages)
        rule = self._rule(self._rules, answer.status, code, message)
        if rule is not None:
            return self._by_rule(rule, answer, code, _place(said, self._errors.places))
        if answer.status == 401:  # noqa: PLR2004 - RFC 9110 15.5.2
            return Refresh(self._reason(answer.status, code), answer.body)
        outcome = by_status(answer, self._peer, time.time(), f"code {code}" if code else "")
        if isinstance(outcome, Delivered):  # a 2xx that is none of the good ones
            return Unknown(self._reason(answer.status, code), response=answer.body)
        if isinstance(outcome, Retry):
            return Retry(outcome.reason, after=asked(answer.headers, self._errors.waits), response=answer.body)
        if isinstance(outcome, Rejected) and (place := _place(said, self._errors.places)):
            return Rejected(outcome.reason, location=place, response=answer.body)
        return outcome

    def _rows(self, answer: Answer, said: Any, rows: Sequence[bytes]) -> Iterable[Verdict]:
        success = self._success
        listed = look(said, success.rows) if success.rows is not None else None
        found = listed if isinstance(listed, list) else []
        sent = [orjson.loads(row) for row in rows] if success.sent else []
        failures = _Failures(success.failures, said) if success.failures else None
        by_key = {key: item for item in found for key in _keys(item, success.got)}
        for number in range(len(rows)):
            keys = list(_keys(sent[number], success.sent)) if sent else []
            code = failures.code(keys) if failures else None
            if code is not None:
                yield self.failed_row(answer, code)
            elif success.rows is None:
                yield Delivered(response=answer.body)
            elif success.got:
                yield self._row(answer, next((by_key[key] for key in keys if key in by_key), _NOTHING))
            else:
                yield self._row(answer, found[number] if number < len(found) else _NOTHING)

    def _row(self, answer: Answer, item: Any, *, whole: bool = False) -> Verdict:
        """Return what one row of the answer, or all of it, says."""
        success = self._success
        if item is _NOTHING and not whole:
            return Unknown(f"HTTP {answer.status} from {self._peer} that does not tell about it", response=answer.body)
        if answer.status == 204 and whole:  # noqa: PLR2004 - success without a word, RFC 9110 15.3.5
            return Delivered(reference=_reference(answer, item, success.references))
        if self._is_done(item):
            return Delivered(_reference(answer, item, success.references), answer.body, answer.via)
        codes, messages = (success.codes, success.messages) if success.codes else self._own_codes(whole=whole)
        code = first_code(item, codes, self._errors.passed_over)
        return self.failed_row(answer, code or "", _messages(item, messages), _place(item, success.places))

    def _is_done(self, item: Any) -> bool:
        for path, good, every in self._is:  # noqa: SIM110 - as in `_is`
            if not _are(look(item, path), good, every=every):
                return False
        return True

    def _own_codes(self, *, whole: bool) -> tuple[list[str], list[str]]:
        return (self._errors.codes, self._errors.messages) if whole else ([], [])

    def failed_row(self, answer: Answer, code: str, message: str = "", place: str = "") -> Verdict:
        """Return what the code of a row that failed means."""
        rules = [*self._success.rules, *(rule for rule in self._rules if not rule.status)]
        rule = self._rule(rules, answer.status, code, message)
        if rule is not None:
            return self._by_rule(rule, answer, code, place)
        reason = f"{self._reason(answer.status, code)}: it says that this was not done"
        return Rejected(reason, location=place, response=answer.body)

    def _rule(self, rules: Iterable[RuleSpec], status: int, code: str, message: str) -> RuleSpec | None:
        for rule in rules:
            if rule.status and not fits(status, rule.status):
                continue
            if rule.code and code not in map(str, rule.code):
                continue
            if rule.says and not any(word.lower() in message for word in rule.says):
                continue
            return rule
        return None

    def _by_rule(self, rule: RuleSpec, answer: Answer, code: str, place: str) -> Verdict:
        reason = self._reason(answer.status, code) + (f": {rule.why}" if rule.why else "")
        if rule.then == "retry":
            after = asked(answer.headers, self._errors.waits)
            return Retry(reason, after=rule.wait if after is None else after, response=answer.body)
        if rule.then == "refresh":
            return Refresh(reason, answer.body)
        if rule.then == "unknown":
            return Unknown(reason, response=answer.body)
        if rule.then == "done":
            return Delivered(response=answer.body)
        return Rejected(reason, location=place, response=answer.body)

    def _reason(self, status: int, code: str) -> str:
        return f"HTTP {status} from {self._peer}" + (f" (code {code})" if code else "")


class _Failures:
    """The rows that an answer lists as failed."""

    def __init__(self, spec: FailuresSpec, said: Any) -> None:
        self._codes: dict[str, str] = {}
        for path in spec.lists:
            items = look(said, path)
            for item in items if isinstance(items, list) else ():
                code = first_code(item, spec.codes) if spec.codes else path.rpartition(".")[2]
                for key in _keys(item, spec.keys):
                    self._codes[key] = code

    def code(self, keys: Iterable[str]) -> str | None:
        """Return the code of a row that failed, by any of its keys, or None."""
        return next((self._codes[key] for key in keys if key in self._codes), None)


def parsed(body: bytes) -> Any:
    """Return what a body says as JSON, or a value that is equal to none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOTHING


def asked(headers: Mapping[str, str], waits: Sequence[WaitSpec]) -> float | None:
    """Return the seconds that the other side asks to wait, by Retry-After or by one of ``waits``."""
    now = time.time()
    after = retry_after(headers, now)
    if after is not None:
        return after
    for wait in waits:
        seconds = _seconds(headers.get(wait.header.lower(), "").strip(), wait.unit, now)
        if seconds is not None:
            return min(max(seconds, 0.0), LONGEST_WAIT)
    return None


def _seconds(text: str, unit: str, now: float) -> float | None:
    try:
        if unit == "time":
            moment = datetime.fromisoformat(text)
            return moment.timestamp() - now if moment.tzinfo else None
        number = float(text)
    except ValueError:
        return None
    if unit == "epoch":
        return number - now
    return number / 1000 if unit == "milliseconds" else number


def first_code(value: Any, paths: Sequence[str], passed_over: Sequence[str] = ()) -> str:
    """Return the first code that a path leads to; what does not look like a code is none, whatever it says."""
    for path in paths:
        found = look(value, path)
        for each in found if isinstance(found, list) else [found]:
            text = str(each) if isinstance(each, str | int) and not isinstance(each, bool) else ""
            if _CODE.fullmatch(text) and text not in passed_over:
                return text
    return ""


def _messages(value: Any, paths: Sequence[str]) -> str:
    found = [look(value, path) for path in paths]
    return " ".join(each for each in found if isinstance(each, str)).lower()


def _place(value: Any, paths: Sequence[str]) -> str:
    return first_code(value, paths)


def _reference(answer: Answer, item: Any, paths: Sequence[str]) -> str:
    for path in paths:
        if path.startswith(_HEADER):
            found: Any = answer.headers.get(path.removeprefix(_HEADER))
        else:
            found = look(item, path)
        text = str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""
        if _REFERENCE.fullmatch(text):
            return text
    return ""


def _are(value: Any, good: Sequence[Any], *, every: bool) -> bool:
    return bool(value) and all(_is(each, good) for each in value) if every else _is(value, good)


def _is(value: Any, good: Sequence[Any]) -> bool:
    """Say whether a value is one of the good ones; true is not 1."""
    for each in good:  # noqa: SIM110 - for a single one, as mostly, half the time
        if type(value) is type(each) and value == each:
            return True
    return False


def _keys(item: Any, paths: Sequence[str]) -> Iterable[str]:
    for path in paths:
        found = look(item, path)
        for each in found if isinstance(found, list) else [found]:
            if isinstance(each, str | int) and not isinstance(each, bool):
                yield str(each)
