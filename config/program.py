"""This module runs one revision of a channel over one message: its steps, its conditions, and the bytes to send.

A message about several patients runs as one document for each of them. It ends as one: if one document fails, the
message fails, and nothing of it is delivered; if all are filtered, it is filtered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from broker.errors import MOST_BREACHES, Breach, MessageError, StepError
from broker.ids import DELIVERIES
from broker.message import Document, Filtered
from broker.parts import Renderer, Transform
from broker.wire.ack import TABLE_0357
from transforms.other_record import other_record
from transforms.several import Part, Split

if TYPE_CHECKING:
    from config.viewing import Viewer

Compiled = Callable[[Document], Any]
# Destination by place (and so on, for every further patient), order key, size of the request; and the order key of the
# other record, where the event is about two.
Way = tuple[int, str, int] | tuple[int, str, int, str]
# state, step, location, reason, deliveries
Result = tuple[str, str | None, str | None, str | None, list[Way]]

_SHARED_LANE: Final = ""  # of messages without an order key
_INTERNAL: Final = 207  # HL7 table 0357: application error
_LONGEST: Final = 400  # characters of the place, and of the text, of a breach: a sender is told fewer


@dataclass(frozen=True, slots=True)
class Exit:
    """One destination, as far as the pure half goes; ``name`` as errors call it: ``deliver.ehr``.

    ``instead`` holds the places of the destinations that it stands by for: with none of them it is not wanted.
    """

    name: str
    when: Compiled | None
    render: Renderer
    instead: frozenset[int] = frozenset()


class Program:
    """What a worker process runs for one revision of a channel.

    ``split`` takes messages about several patients apart; the steps named in ``of_whole`` look at the whole message.
    """

    def __init__(
        self,
        steps: list[tuple[str, Transform]],
        order: Compiled | None,
        exits: list[Exit],
        document: Callable[[bytes, float], Document],
        split: Split | None = None,
        of_whole: frozenset[str] = frozenset(),
    ) -> None:
        self._steps = steps
        self._order = order
        self._exits = _stand_ins_last(exits)
        self._document = document  # reads a message: `Format.document`
        self._split = split
        self._of_whole = of_whole
        self._most = DELIVERIES // max(len(exits), 1)  # patients of one message
        self._at = ""  # what is being done
        self._values: dict[str, Any] = {}  # of the message that it is done with
        self.warned: Mapping[int, int] = {}  # what validation let pass of it: see `Document`
        self.breaches: tuple[Breach, ...] = ()  # what is wrong with it, where that is known by its code
        self._part: Part | None = None  # and of which of its patients

    @classmethod
    def load(cls, content: bytes) -> "Program | Viewer":
        """Build what `content_of` wrote; if that fails (a script that raises), every message fails with the reason."""
        from config.build import build_program, build_viewer  # noqa: PLC0415 - the builder imports this module

        found = orjson.loads(content)
        pure = found["channel"], Path(found["folder"]), found.get("presets")
        try:
            return build_program(*pure) if found.get("wanted") is None else build_viewer(*pure, found["wanted"])
        except Exception as error:  # noqa: BLE001 - analysts' code; there is no message yet whose data it could show
            return cls([], None, [], _broken(str(error)))

    def process(self, body: bytes, received_at: float) -> tuple[Result, list[bytes]]:
        """Run everything over one message; whatever fails, fails this message alone and says where."""
        return self._guarded(lambda: self._through(body, received_at))

    def follow(self, body: bytes, received_at: float) -> tuple[Result, Document | None]:
        """Run the steps alone over one message that is about one patient, for who wants to see what they make of it.

        Returns how that ended, and the document as it was then; None where the message could not be read.
        """
        seen: list[Document] = []
        result, _ = self._guarded(lambda: self._followed(body, received_at, seen))
        return result, seen[-1] if seen else None

    def _guarded(self, run: Callable[[], tuple[Result, list[bytes]]]) -> tuple[Result, list[bytes]]:
        self._at, self._values, self._part, self.warned, self.breaches = "read", {}, None, {}, ()
        try:
            return run()
        except StepError as error:
            # The name that the channel gives a step says more than what the step calls itself.
            step = self._at if self._at.startswith("steps.") else error.step or self._at
            self._note(error.breaches or (_breach(error),))
            return self._failed(step, error.location or self._line(), str(error))
        except MessageError as error:
            self._note((_breach(error),))
            return self._failed(self._at, error.location or None, str(error))
        except Exception as error:  # noqa: BLE001 - a step's mistake; its text may hold patient data, its type does not
            return self._failed(self._at, self._line(), f"raised {type(error).__name__}")

    def _note(self, found: tuple[Breach, ...]) -> None:
        """Keep what is wrong with the message; what only says that a step failed is said by that."""
        located = self._part.located if self._part is not None else str
        told = [
            # A script can raise with anything; the engine takes only so much.
            Breach(located(place or "")[:_LONGEST], code if code in TABLE_0357 else _INTERNAL, located(text)[:_LONGEST])
            for place, code, text in found[:MOST_BREACHES]
        ]
        if any(breach.condition != _INTERNAL for breach in told):
            self.breaches = tuple(told)

    def _failed(self, step: str, location: str | None, reason: str) -> tuple[Result, list[bytes]]:
        if self._part is not None:
            location = self._part.located(location) if location else self._part.place
            reason = f"{self._part}: {self._part.located(reason)}"
        return ("failed", step, location, reason, []), []

    def _line(self) -> str | None:
        """Return where a row was in its file, as a location; None for a message that is no row."""
        line = self._values.get("line")
        return f"line {line}" if line and isinstance(line, int) else None

    def _through(self, body: bytes, received_at: float) -> tuple[Result, list[bytes]]:
        document = self._document(body, received_at)
        self._values = document.values
        if self._split is not None and (parts := self._split(document.message, self._most)):
            return self._through_each(document, parts)
        outcome = self._stepped(document, self._steps)
        if isinstance(outcome, Filtered):
            return ("filtered", self._at, None, outcome.reason, []), []
        deliveries, requests = self._rendered(outcome, 0)
        return ("processed", None, None, None, deliveries), requests

    def _followed(self, body: bytes, received_at: float, seen: list[Document]) -> tuple[Result, list[bytes]]:
        seen.append(self._document(body, received_at))
        self._values = seen[0].values
        for step in self._steps:
            outcome = self._stepped(seen[-1], [step])
            if isinstance(outcome, Filtered):
                return ("filtered", self._at, None, outcome.reason, []), []
            seen.append(outcome)
        return ("processed", None, None, None, []), []

    def _through_each(self, whole: Document, parts: Sequence[Part]) -> tuple[Result, list[bytes]]:
        steps = [(name, self._once(step, whole) if name in self._of_whole else step) for name, step in self._steps]
        deliveries: list[Way] = []
        requests = []
        stopped: list[tuple[str, str, str]] = []
        for number, part in enumerate(parts):
            self._part = part
            outcome = self._stepped(part.document(whole), steps)
            if isinstance(outcome, Filtered):
                stopped.append((self._at, part.place, f"{part}: {outcome.reason}"))
            else:
                ways, rendered = self._rendered(outcome, number * len(self._exits))
                deliveries += ways
                requests += rendered
        if len(stopped) == len(parts):
            return ("filtered", *stopped[0], []), []
        if not stopped:
            return ("processed", None, None, None, deliveries), requests
        step, location, reason = stopped[0]
        reason = f"{len(stopped)} filtered, the first at {step}: {reason}"
        return ("processed", None, location, reason, deliveries), requests

    def _once(self, step: Transform, whole: Document) -> Transform:
        """Return a step that looks at the whole message, once for all of its parts."""
        seen: list[Document | Filtered] = []

        def look(document: Document) -> Document | Filtered:
            if not seen:
                part, self._part = self._part, None  # what fails here is of no patient
                seen.append(step(whole))
                self._part = part
            found = seen[0]
            if isinstance(found, Filtered):
                return found
            added = {name: value for name, value in found.values.items() if name not in whole.values}
            return replace(document, values=document.values | added, warned=found.warned)

        return look

    def _stepped(self, document: Document, steps: Sequence[tuple[str, Transform]]) -> Document | Filtered:
        for name, step in steps:
            self._at = name
            outcome = step(document)
            if isinstance(outcome, Filtered):
                return outcome
            document = outcome
            self.warned = document.warned or self.warned
        return document

    def _rendered(self, document: Document, first: int) -> tuple[list[Way], list[bytes]]:
        """Return where a document goes, and the bytes; ``first`` is the place of the first destination."""
        self._at = "order"
        lane = self._lane(document)
        another = other_record(document)
        other = self._lane(another) if another is not None else lane
        deliveries: list[Way] = []
        requests: list[bytes] = []
        for number, way in self._exits:
            place = first + number
            self._at = way.name
            if way.instead and way.instead.isdisjoint(done[0] - first for done in deliveries):
                continue
            if way.when is None or way.when(document):
                request = way.render(document)
                size = len(request)
                deliveries.append((place, lane, size) if other == lane else (place, lane, size, other))
                requests.append(request)
        return deliveries, requests

    def _lane(self, document: Document) -> str:
        if self._order is not None:
            value = self._order(document)
            return _SHARED_LANE if value is None else str(value)
        mrn = document.event.patient.mrn if document.event is not None else None
        return _SHARED_LANE if mrn is None else f"{mrn.system}|{mrn.value}"


def _breach(error: StepError | MessageError) -> Breach:
    return Breach(error.location, error.condition, str(error))


def _stand_ins_last(exits: list[Exit]) -> list[tuple[int, Exit]]:
    """Return destinations with their places, each after those that it stands by for (a check found no circle)."""
    ordered: list[tuple[int, Exit]] = []
    left = list(enumerate(exits))
    while left:
        known = {place for place, _ in ordered}
        ready = [(place, way) for place, way in left if way.instead <= known] or left
        ordered += ready
        left = [each for each in left if each not in ready]
    return ordered


def _broken(reason: str) -> Callable[[bytes, float], Document]:
    """Return what reads the messages of a channel that could not be built: it fails each of them."""

    def document(_body: bytes, _received_at: float) -> Document:
        raise StepError(f"the channel could not be built: {reason}", step="build")

    return document
