"""This module shows what a channel's steps make of a message, to who is outside of the worker process that runs them.

What was seen goes back as the requests of deliveries would: at place `VALUES` what was asked for, and at `EVENT` the
canonical event, where there is one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from broker.canonical.codec import encode
from broker.errors import Breach
from broker.message import Document
from config.program import Compiled, Program, Result

VALUES: Final = 0
EVENT: Final = 1


class Viewer:
    """Runs the steps of a program, and renders nothing; ``wanted`` is what is asked of the document that they leave."""

    warned: Mapping[int, int] = {}  # what validation let pass: nobody counts it here
    breaches: tuple[Breach, ...] = ()  # nor does anybody tell a sender

    def __init__(self, program: Program, wanted: Mapping[str, Compiled]) -> None:
        self._program = program
        self._wanted = wanted

    def process(self, body: bytes, received_at: float) -> tuple[Result, list[bytes]]:
        """Run the steps over one message that is about one patient; where they fail, what they had until then is seen.

        The values that are wanted are JSON: text by expression, null where the message has no such thing.
        """
        (state, step, location, reason, _), document = self._program.follow(body, received_at)
        try:
            parts = list(self._seen(document))
        except Exception as error:  # noqa: BLE001 - a script can leave anything; its text may hold patient data
            return ("failed", "view", None, f"what the steps left cannot be shown ({type(error).__name__})", []), []
        return (state, step, location, reason, [(place, "", len(part)) for place, part in enumerate(parts)]), parts

    def _seen(self, document: Document | None) -> Iterator[bytes]:
        yield orjson.dumps({text: _value(expression, document) for text, expression in self._wanted.items()})
        if document is not None and document.event is not None:
            yield encode(document.event)


def _value(expression: Compiled, document: Document | None) -> str | None:
    if document is not None:
        try:
            return written(expression(document))
        except Exception:  # noqa: BLE001 - nothing, or nothing of that kind, is there
            return None
    return None


def written(value: Any) -> str | None:
    """Return one value as text; nothing for what holds several."""
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None or isinstance(value, dict | list) else str(value)
