"""This module holds the interfaces that an edge implements; they are short on purpose."""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from broker.delivery import Delivery, Outcome, Report
from broker.formats.hl7 import Hl7
from broker.formats.reading import Format
from broker.message import Conclusion, Document, Filtered, Inbound, Receipt
from broker.notices import Notice
from broker.pressure import Pressure
from broker.units import Commit


class Listener(Protocol):
    """A way in. Turns outside traffic into calls of `Intake.accept`."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Where traffic can arrive now, as people would write it (``host:port``, a folder); empty while stopped."""

    @property
    def connections(self) -> int:
        """How many peers are connected now."""

    async def start(self) -> None:
        """Return once traffic can arrive; raise `NotReady` when it cannot (a port taken)."""

    async def stop(self) -> None:
        """Refuse new work, then finish what it holds."""


@runtime_checkable
class Reaching(Protocol):
    """A listener that goes to a peer itself, and may find it away."""

    @property
    def away(self) -> str:
        """Why nothing can come from there now; empty where it can, and while stopped."""


class Intake(Protocol):
    """The only door into the engine."""

    def accept(self, inbound: Inbound) -> Future[Receipt]:
        """Resolve after the commit that holds the message, or fail with `NotAccepted`."""

    def pass_on(self, inbound: Inbound) -> Commit:
        """Read a message that a delivery is to become, and return what commits both together.

        Raises `NotAccepted`, and `KeyError` where its channel does not run.
        """

    async def conclude(self, channel: str, message: int, destination: str = "") -> Conclusion:
        """Return how the steps of a committed message ended or, with a destination, its delivery there.

        That may take for ever; who does not want to wait so long cancels it. Raises `StoreError`.
        """

    def report(self, report: Report) -> Future[None]:
        """Resolve after the commit that holds what another side said of a delivery, or fail with `StoreError`."""

    def quarantine(self, channel: str, peer: str, reason: str, data: bytes) -> None:
        """Keep bytes that never became a message, for an operator to see, as long as there is room for such."""


class Transform(Protocol):
    """One step, pure: no clock, no files, no sockets. Whatever can fail early failed when it was built."""

    def __call__(self, document: Document) -> Document | Filtered:
        """Return the document to pass on, or the decision to stop; raise `StepError` (or anything) on failure."""


class Renderer(Protocol):
    """The pure half of a destination: turns a processed document into the bytes that every attempt will send."""

    def __call__(self, document: Document) -> bytes:
        """Return the request bytes; raise `StepError` when the document lacks what the destination needs."""


class Destination(Protocol):
    """A way out. May be called again with the same ``delivery.id``: pass ``delivery.key`` on as idempotency key."""

    async def open(self) -> None:
        """Get ready to send; called once before the first `send`. Must not fail because the other side is down."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Attempt up to `batch` deliveries of different lanes; return one outcome each, in the same order.

        Anything raised counts as `Unknown` for all of them and is reported as a bug.
        """

    async def close(self) -> None:
        """Let go of connections."""


class Marks(Protocol):
    """What the store remembers for ways in: up to where each has read what it does not change."""

    async def read(self, name: str) -> bytes | None:
        """Return the mark of this name, None where there is none yet. Raises `StoreError`."""

    async def write(self, name: str, value: bytes) -> None:
        """Return once the mark is committed; raise `StoreError`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the engine lends to a part when it is built. Nothing else of the engine is within a part's reach."""

    channel: str
    intake: Intake
    notify: Callable[[Notice], None]
    settings: Any  # config.settings.Settings: named gateways and servers, the patient store's URL, the data folder
    format: Format = field(default_factory=Hl7)  # reads messages, takes files apart
    presets: Mapping[str, Any] = field(default_factory=dict)  # what is known of systems, by the names in handoff.yaml
    pressure: Pressure = field(default_factory=Pressure)  # whether more may be read
    marks: Marks | None = None  # none where there is no store, as in a check
