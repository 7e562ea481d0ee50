"""This module holds what is found wrong in the configuration, and shows it: place, sentence, line, caret and hint."""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# What each code means; documentation and `handoff check --json` name findings by it.
CODES: Final = {
    "E101": "The file cannot be read as YAML.",
    "E102": "A key is there twice.",
    "E103": "An anchor, alias or merge key: every value is written where it is used.",
    "E104": "A key that is not known here.",
    "E105": "A key that must be there is missing.",
    "E106": "A value of the wrong type.",
    "E107": "A value that is not allowed here.",
    "E108": "A YAML tag: values are plain.",
    "E109": "A file that is missing, too large, too deep or not UTF-8.",
    "E110": "Exactly one of several keys is needed.",
    "E111": "A word that may not be used as a name.",
    "E201": "An expression that cannot be compiled.",
    "E202": "A template that cannot be compiled.",
    "E203": "A location that HL7 does not know.",
    "E204": "A file of the channel is missing or outside the channels folder.",
    "E205": "A script that cannot be used.",
    "E206": "A part that cannot be built as it is written.",
    "E207": "A profile that says what HL7 does not have.",
    "E221": "A preset that cannot be used as it is written.",
    "E301": "Something that is not there: of handoff.yaml, a preset, or a channel for replies.",
    "E302": "`after` or `fallback` names a destination that is not there.",
    "E303": "Destinations that wait for each other, or fall back on each other.",
    "E304": "An endpoint or folder that is used twice.",
    "E305": "A channel name that is used twice.",
    "E306": "A channel whose name differs from its file's.",
    "E307": "A channel that delivers to nobody.",
    "E309": "A write that the FHIR server does not take.",
    "E310": "A destination that waits for another, or is waited for, and stands by for a third.",
    "E311": "A channel that messages are passed to, and that is not there or takes another format.",
    "E312": "Channels that pass messages in a circle.",
    "E321": "An operation or a value that a preset does not have.",
    "E401": "A secret written out.",
    "E402": "A secret whose environment variable is not set.",
    "E403": "A secret whose file cannot be read, or can be read by others.",
    "E404": "A secret that is in a keyring.",
    "E405": "A reference to a secret that is not written as one.",
    "E406": "A private key that cannot sign.",
    "E407": "No key of the engine's own signs for this.",
    "E408": "A certificate or a key of TLS that cannot be used.",
    "E409": "Something that is left open to others: a port, or the data folder.",
    "E501": "A variable of the environment that cannot be used.",
    "E502": "A variable of the environment that is not known.",
    "E503": "An override that matches nothing.",
    "E601": "A machine that cannot confine the scripts of channels.",
}

_LONGEST_LINE: Final = 200  # characters of a source line that are shown
_SUGGESTED_KEYS: Final = 16


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where: ``line`` and ``column`` from 1 (line 0: the file as a whole).

    ``end`` is the column after the last character at fault, on the same line. ``source`` is that line as written, or
    with stars where it holds a secret.
    """

    path: str
    line: int
    column: int
    end: int
    code: str
    text: str
    hint: str = ""
    severity: str = "error"  # or warning
    source: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Write the finding with its line, a caret and the hint."""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        head = f"{place}: {self.severity}[{self.code}]: {self.text}"
        if not self.line or not self.source:
            return f"{head}\n      = {self.hint}" if self.hint else head
        shown, skipped = _window(self.source, self.column)
        indent = "".join("\t" if letter == "\t" else " " for letter in shown[: self.column - 1 - skipped])
        carets = "^" * max(1, min(self.end, skipped + len(shown) + 1) - self.column)
        return f"{head}\n{self.line:5} | {shown}\n      | {indent}{carets} {self.hint}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON takes it, with stable keys."""
        return {
            "file": self.path,
            "line": self.line,
            "column": self.column,
            "end_column": self.end,
            "code": self.code,
            "severity": self.severity,
            "message": self.text,
            "hint": self.hint,
        }


def _window(line: str, column: int) -> tuple[str, int]:
    """Return what is shown of a long line, and how many characters of its beginning are left out."""
    if len(line) <= _LONGEST_LINE:
        return line, 0
    start = max(0, min(column - 1 - _LONGEST_LINE // 2, len(line) - _LONGEST_LINE))
    return line[start : start + _LONGEST_LINE], start


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings by file and place, each once."""
    return sorted(set(findings), key=lambda found: (found.path, found.line, found.column, found.code, found.text))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Say whether anything found keeps the configuration from being used; warnings do not."""
    return any(found.severity == "error" for found in findings)


def report(findings: Iterable[Finding]) -> str:
    """Return everything that was found as one text, the summary last; empty when there is nothing."""
    ordered = in_order(findings)
    return "\n".join([*map(str, ordered), summary(ordered)]) if ordered else ""


def summary(findings: Sequence[Finding]) -> str:
    """Return how much was found: ``2 errors, 1 warning in 1 file``."""
    counts = [(sum(found.severity == word for found in findings), word) for word in ("error", "warning")]
    parts = [counted(number, word) for number, word in counts if number]
    return f"{', '.join(parts) or 'nothing'} in {counted(len({found.path for found in findings}), 'file')}"


def counted(number: int, word: str) -> str:
    """Return a number with its noun: ``1 error``, ``2 errors``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def shown(path: Path) -> str:
    """Return a path as people see it: relative to where they are if it lies below, else in full."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a hint with the nearest right word, and the right words where they are few."""
    known = sorted(allowed)
    close = nearest(word, known)
    parts = [close] if close else []
    if known and (len(known) <= _SUGGESTED_KEYS or not close):
        parts.append(f"allowed: {', '.join(known)}")
    return " ".join(parts)


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a hint with the nearest right word, or nothing when none is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else ""
