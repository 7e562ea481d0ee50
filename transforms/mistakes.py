"""This module holds the error for what somebody wrote wrong in an expression, a template or a script's name."""

import difflib
from collections.abc import Iterable

from broker.errors import HandoffError


class ExpressionError(HandoffError):
    """An expression or template cannot be compiled.

    ``position`` and ``length`` (characters) mark the place in ``source``, the text as written; ``hint`` says what to
    write instead, if that is known. ``file`` is set where the text came from a file of its own.
    """

    def __init__(self, text: str, *, source: str = "", position: int = 0, length: int = 0, hint: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.source = source
        self.position = position
        self.length = length
        self.hint = hint
        self.file = ""

    @property
    def line(self) -> int:
        """The line of ``position`` in ``source``, from 1."""
        return self.source.count("\n", 0, self.position) + 1

    @property
    def column(self) -> int:
        """The column of ``position`` in its line, from 1."""
        return self.position - self.source.rfind("\n", 0, self.position)

    def __str__(self) -> str:
        """Write it in one sentence, with the place in a file and the hint."""
        place = f"{self.file}:{self.line}:{self.column}: " if self.file else ""
        return f"{place}{self.text}" + (f"; {self.hint}" if self.hint else "")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the nearest right word, or the right words where there are few, or nothing."""
    known = sorted(words)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(known)}" if known else ""
