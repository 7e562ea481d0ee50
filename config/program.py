"""This module runs one revision of a channel over one message: its steps, its conditions, and the bytes to send."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from broker.errors import MessageError, StepError
from broker.message import Document, Filtered
from broker.parts import Renderer, Transform

Compiled = Callable[[Document], Any]
# state, step, location, reason, deliveries as (destination by place, order key, size of the request)
Result = tuple[str, str | None, str | None, str | None, list[tuple[int, str, int]]]

_SHARED_LANE: Final = ""  # of messages without an order key


@dataclass(frozen=True, slots=True)
class Exit:
    """One destination, as far as the pure half goes; ``name`` as errors call it: ``deliver.ehr``."""

    name: str
    when: Compiled | None
    render: Renderer


class Program:
    """What a worker process runs for one revision of a channel."""

    def __init__(
        self,
        steps: list[tuple[str, Transform]],
        order: Compiled | None,
        exits: list[Exit],
        document: Callable[[bytes, float], Document],
    ) -> None:
        self._steps = steps
        self._order = order
        self._exits = exits
        self._document = document  # reads a message: `Format.document`
        self._at = ""  # what is being done
        self._values: dict[str, Any] = {}  # of the message that it is done with

    @classmethod
    def load(cls, content: bytes) -> "Program":
        """Build what `content` wrote; if that fails (a script that raises), every message fails with the reason."""
        from config.build import build_program  # noqa: PLC0415 - the builder imports this module

        found = orjson.loads(content)
        try:
            return build_program(found["channel"], Path(found["folder"]))
        except Exception as error:  # noqa: BLE001 - analysts' code; there is no message yet whose data it could show
            return cls([], None, [], _broken(str(error)))

    def process(self, body: bytes, received_at: float) -> tuple[Result, list[bytes]]:
        """Run everything over one message; whatever fails, fails this message alone and says where."""
        self._at, self._values = "read", {}
        try:
            return self._through(body, received_at)
        except StepError as error:
            return ("failed", error.step or self._at, error.location or self._line(), str(error), []), []
        except MessageError as error:
            return ("failed", self._at, error.location or None, str(error), []), []
        except Exception as error:  # noqa: BLE001 - a step's mistake; its text may hold patient data, its type does not
            return ("failed", self._at, self._line(), f"raised {type(error).__name__}", []), []

    def _line(self) -> str | None:
        """Return where a row was in its file, as a location; None for a message that is no row."""
        line = self._values.get("line")
        return f"line {line}" if line and isinstance(line, int) else None

    def _through(self, body: bytes, received_at: float) -> tuple[Result, list[bytes]]:
        document = self._document(body, received_at)
        self._values = document.values
        for name, step in self._steps:
            self._at = name
            outcome = step(document)
            if isinstance(outcome, Filtered):
                return ("filtered", name, None, outcome.reason, []), []
            document = outcome
        self._at = "order"
        lane = self._lane(document)
        deliveries, requests = [], []
        for place, way in enumerate(self._exits):
            self._at = way.name
            if way.when is None or way.when(document):
                request = way.render(document)
                deliveries.append((place, lane, len(request)))
                requests.append(request)
        return ("processed", None, None, None, deliveries), requests

    def _lane(self, document: Document) -> str:
        if self._order is not None:
            value = self._order(document)
            return _SHARED_LANE if value is None else str(value)
        mrn = document.event.patient.mrn if document.event is not None else None
        return _SHARED_LANE if mrn is None else f"{mrn.system}|{mrn.value}"


def _broken(reason: str) -> Callable[[bytes, float], Document]:
    """Return what reads the messages of a channel that could not be built: it fails each of them."""

    def document(_body: bytes, _received_at: float) -> Document:
        raise StepError(f"the channel could not be built: {reason}", step="build")

    return document
