"""This module reads a flat file (CSV, fixed width, lines of JSON) as a channel does, and says what becomes of each row.

Rows are read, and the channel's steps run over them, as in a worker process; nothing is rendered, stored or sent.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from broker.errors import MessageError, StepError
from broker.formats.reading import Format, Piece
from broker.message import Document
from config.build import build_viewer
from config.channel import ChannelPlan
from console.inspection import Asked, Seen, refusal_of, tell_event, told, written
from listeners.unpacking import UnpackSpec, check_packed, is_packed, split_unpacked

SELF_EVIDENT: Final = frozenset({"hl7", "fhir", "cda"})  # formats of files that say themselves what is in them


class SeenRow(NamedTuple):
    """What a row is to a channel, the file that it is in, and its line; no line for what is wrong with the file."""

    file: str
    line: int | None
    seen: Seen


class Rows:
    """Reads files for one channel. Raises `ConfigError` or `ExpressionError` where that cannot be built."""

    def __init__(self, plan: ChannelPlan, folder: Path, asked: Asked) -> None:
        self._form: Format = plan.format.spec.build(plan.listen.charset)
        self._limits = getattr(plan.listen.spec, "unpack", None) or UnpackSpec()
        self._asked = asked
        self._program, self._wanted = build_viewer(plan, folder, asked.at)

    def read(self, path: Path) -> Iterator[SeenRow]:
        """Yield every row of a file, one by one; raise `OSError` where it cannot be opened."""
        called = path.name
        with path.open("rb") as file:
            try:
                if is_packed(path.name):
                    check_packed(file, path.name, path.stat().st_size, self._limits)
                for called, piece in split_unpacked(file, path.name, self._form.split):
                    yield SeenRow(_below(path, called), piece.line, self._row(piece))
            except MessageError as error:
                yield SeenRow(_below(path, called), None, refusal_of(self._form.kind, error))

    def _row(self, piece: Piece) -> Seen:
        if piece.reason:
            return refusal_of(self._form.kind, MessageError(piece.reason, location=f"line {piece.line}"))
        (state, step, location, reason, _), document = self._program.follow(piece.body, time.time())
        seen = Seen(kind=self._form.kind)
        if state == "failed":
            seen.acknowledgment = "AE"
            seen.errors.append(told(location or f"line {piece.line}", 0, "error", f"{step}: {reason}"))
        elif state == "filtered":
            seen.errors.append(told(f"line {piece.line}", 0, "information", f"filtered by {step}: {reason}"))
        seen.values = {text: _value(expression, document) for text, expression in self._wanted.items()}
        if document is not None:
            seen.source = document.message
            if (event := document.event) is not None:
                tell_event(seen, lambda: event, self._asked)
        return seen


def _below(path: Path, called: str) -> str:
    """Return a file as it was named, with the entry where it is an archive."""
    entry = called.partition(f"{path.name}/")[2]
    return f"{path}/{entry}" if entry else str(path)


def _value(expression: Callable[[Document], Any], document: Document | None) -> str | None:
    """Return what an expression gives, as text; nothing where the row, or this in it, is not there."""
    if document is not None:
        with suppress(StepError):
            return written(expression(document))
    return None
