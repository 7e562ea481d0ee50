"""This module delivers to the patient-relationship (PRM) store, where every delivery takes effect at most once.

The request is the canonical event as JSON, with a head to recognise it by. A batch goes through one transaction,
together with a row per delivery that says that it was applied; so an unknown outcome is safe to try again.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker.canonical.codec import as_json
from broker.delivery import Delivery, Outcome
from broker.errors import StepError
from broker.spec import DestinationSpec
from dispatch.patients.consents import frame_consent
from dispatch.patients.said import NoRecordNumber, frame
from dispatch.patients.writer import Writer, share

if TYPE_CHECKING:
    from broker.canonical.model import Event
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

_NUL: Final = rb"\u0000"  # as JSON writes it: a document may bring one, or an escape sequence of HL7 or a step make it


class PrmSpec(DestinationSpec):
    """The patient store of ``handoff.yaml`` (`patients:`); it needs no options."""

    batch: ClassVar[int] = 256
    unknown: ClassVar[str] = "retry"
    discloses: ClassVar[bool] = False  # it is our own

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half."""
        return PatientStore(str(tools.settings.patients), tools.channel)

    def build_renderer(self, kit: Any) -> "Renderer":  # noqa: ARG002 - nothing of an event needs compiling
        """Build the pure half: the event, frozen as JSON."""
        return render


def render(document: "Document") -> bytes:
    """Return the document's event as a request; raise `StepError` when there is none, or nobody it is about."""
    from broker.canonical.model import WITHOUT_PATIENT  # noqa: PLC0415 - only needed in a worker

    if document.event is None:
        message = "prm: the message has no event to store; add a `canonical` step before"
        raise StepError(message)
    if document.event.kind in WITHOUT_PATIENT:
        message = f"prm: {document.event.kind} is about no patient; keep it out with `when: patient.mrn`"
        raise StepError(message, location="MSH-9")
    request = frame_consent(document.event)
    if request is None:
        request = _framed(document.event)
    if _NUL in request and (place := _nul_in(as_json(document.event))):
        message = f"prm: {place} has a NUL character, which no database keeps; leave it out in the `canonical` step"
        raise StepError(message, location=place)
    return request


def _framed(event: "Event") -> bytes:
    try:
        return frame(event)
    except NoRecordNumber as error:
        place = str(error)
        location = "MRG-1" if place == "merge.mrn" else "PID-3"
        message = f"prm: the event has no {place}, so nobody can say whose it is; map it in the `canonical` step"
        raise StepError(message, location=location) from None


def _nul_in(value: Any, place: str = "") -> str:
    """Return where in an event a text has a NUL, such as ``patient.names[0].family``; "" where none has."""
    if isinstance(value, str):
        return place if "\0" in value else ""
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inner = ((f"{place}.{name}" if place else name, each) for name, each in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{place}[{number}]", each) for number, each in enumerate(value))
    return next(filter(None, (_nul_in(each, name) for name, each in inner)), "")


class PatientStore:
    """The sending half; all channels that deliver to one store share its writer."""

    def __init__(self, url: str, channel: str) -> None:
        self._url = url
        self._channel = channel
        self._writer: Writer | None = None

    async def open(self) -> None:
        """Connect, and bring the store to its present form; raises `NotReady` when it is newer than the code."""
        self._writer = share(self._url)
        try:
            await self._writer.open()
        except BaseException:
            await self.close()
            raise

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Apply the deliveries; one that was applied before is delivered without effect."""
        if self._writer is None:
            message = "prm: send was called before open"
            raise RuntimeError(message)
        return await self._writer.send(self._channel, deliveries)

    async def close(self) -> None:
        """Let go of the store."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.close()
