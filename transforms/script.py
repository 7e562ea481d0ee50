"""This module runs a channel's own Python as a step."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import hl7
from pydantic import Field

from broker.canonical.model import Event
from broker.errors import StepError
from broker.message import Document, Filtered
from broker.spec import StepSpec
from broker.wire.er7 import Message
from transforms.mistakes import ExpressionError

if TYPE_CHECKING:
    from broker.parts import Transform


class ScriptSpec(StepSpec):
    """Calls a Python function of a script: document in, document or Filtered out, and nothing else touched."""

    short_form: ClassVar[str] = "function"

    function: str = Field(description="Path below the channels folder and function: `scripts/mercy.py:house_rules`.")

    def build(self, kit: Any) -> "Transform":
        """Build the step; raise `ScriptError` when file or function are missing, or the file cannot be run."""
        return Script(self.function, kit.script(self.function))


class ScriptError(ExpressionError):
    """A script cannot be loaded."""


class View:
    """What a script sees of a document.

    ``message`` reads the message by location (``message.get("PID-5.1")``), ``hl7`` is the same as python-hl7 parses
    it. ``event`` (frozen: use `dataclasses.replace`) and ``values`` are the script's own to change.
    """

    __slots__ = ("_body", "_hl7", "event", "message", "received_at", "values")

    def __init__(self, document: Document) -> None:
        self.message: Any = document.message  # of HL7 a `broker.wire.er7.Message`, else what the format makes of it
        self.received_at: float = document.received_at
        self.event: Event | None = document.event
        self.values: dict[str, Any] = dict(document.values)
        self._body = document.body
        self._hl7: Any = None

    @property
    def hl7(self) -> Any:
        """The message as python-hl7 parses it, parsed when first asked for."""
        if self._hl7 is None:
            if not isinstance(self.message, Message):
                raise StepError("the message is no HL7; read document.message", step="script")
            text = self.message.raw.decode(self.message.encoding, "replace").strip("\ufeff\x0b\x1c\r\n")
            self._hl7 = hl7.parse(text.replace("\r\n", "\r").replace("\n", "\r"))
        return self._hl7

    def document(self) -> Document:
        """Return it as a document again."""
        return Document(
            message=self.message,
            received_at=self.received_at,
            event=self.event,
            values=self.values,
            body=self._body,
        )


class Script:
    """The step."""

    __slots__ = ("_call", "_name", "_path")

    def __init__(self, name: str, call: Callable[[View], Any]) -> None:
        self._name = name
        self._path = call.__code__.co_filename
        self._call = call

    def __call__(self, document: Document) -> Document | Filtered:
        """Return what the function decided; raise `StepError` with type and line of what it raised, not the text."""
        view = View(document)
        try:
            result = self._call(view)
        except StepError as error:
            raise StepError(str(error), step=error.step or "script", location=error.location) from None
        except Exception as error:  # noqa: BLE001 - its text may hold patient data, its type and line do not
            line = _line(error.__traceback__, self._path)
            raise StepError(f"{self._name} raised {type(error).__name__} at line {line}", step="script") from None
        return self._taken(result, view)

    def _taken(self, result: Any, view: View) -> Document | Filtered:
        if isinstance(result, Filtered):
            return result
        if isinstance(result, Event):
            view.event = result
        elif result is not view:
            found = "nothing" if result is None else f"a {type(result).__name__}"
            text = f"{self._name} returned {found}; it must return the document, an event or Filtered(reason)"
            raise StepError(text, step="script")
        if not _is_sound(view.event, view.values):
            text = f"{self._name} put something else in the place of document.event or document.values"
            raise StepError(text, step="script")
        return view.document()


def _is_sound(event: object, values: object) -> bool:
    """Whether a script left in a view what belongs there."""
    return isinstance(event, Event | None) and isinstance(values, dict)


def _line(traceback: TracebackType | None, path: str) -> int:
    """Return the innermost line of the script itself."""
    line = 0
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == path:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
