"""This module holds every fact that the engine reports, one dataclass each, and nothing else reports anything.

`console` makes a log line, a metric and a live update of it. It never carries a body, name or identifier of a patient.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """The base: ``level`` is the log level."""

    level: ClassVar[str] = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStarted(Notice):
    """The engine accepts messages."""

    channels: int
    store: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStopping(Notice):
    """The engine refuses new work and finishes what it holds."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopCutShort(Notice):
    """The process ends at once, before everything was finished; the next start goes on with what is left."""

    level: ClassVar[str] = "error"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFailed(Notice):
    """The engine stops because it could not keep its promise otherwise."""

    level: ClassVar[str] = "critical"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerStarted(Notice):
    """A listener accepts traffic."""

    channel: str
    endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOpened(Notice):
    """A peer connected."""

    level: ClassVar[str] = "debug"
    channel: str
    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionClosed(Notice):
    """A peer's connection ended; ``reason`` says who ended it and why."""

    level: ClassVar[str] = "debug"
    channel: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused(Notice):
    """A peer was turned away because the listener's connection limit was reached."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused(Notice):
    """A peer was turned away, or a message of it, for who it is; ``reason`` says which rule of the listener did it."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeFailed(Notice):
    """A peer and we could not agree on TLS; ``reason`` says which of us refused the other, and why."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTrouble(Notice):
    """A certificate of ours needs somebody's attention."""

    level: ClassVar[str] = "warning"
    channel: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesAccepted(Notice):
    """Messages were committed in one transaction."""

    level: ClassVar[str] = "debug"
    channel: str
    count: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRefused(Notice):
    """A message was answered AE or AR, or could not be answered; nothing was stored for it but in quarantine."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    code: str
    condition: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFaulty(Notice):
    """A batch is not what its trailer says, or holds segments without a message; its messages were taken one by one."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    messages: int
    faults: int
    reason: str  # of the first


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlIdReused(Notice):
    """A sender used a control id again for other content; both messages were kept."""

    level: ClassVar[str] = "warning"
    channel: str
    message: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined(Notice):
    """Bytes came that never became a message; they are kept for an operator to see, while there is room for such."""

    level: ClassVar[str] = "warning"
    channel: str
    peer: str
    reason: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead(Notice):
    """Every message of a file is committed; ``duplicates`` of them were before."""

    channel: str
    file: str
    messages: int
    duplicates: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFailed(Notice):
    """A file could not be read, or not all of it; ``messages`` of it are committed, and it is kept."""

    level: ClassVar[str] = "error"
    channel: str
    file: str
    messages: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesProcessed(Notice):
    """Steps ran over messages of a channel; counts by how they ended."""

    level: ClassVar[str] = "debug"
    channel: str
    processed: int
    filtered: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationWarned(Notice):
    """Validation let messages pass and has something against them: so many warnings of a code of HL7 table 0357."""

    level: ClassVar[str] = "debug"
    channel: str
    code: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFailed(Notice):
    """A step could not do its work on a message; it waits as a dead letter."""

    level: ClassVar[str] = "error"
    channel: str
    message: int
    step: str
    location: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied(Notice):
    """A worker process ended or was killed while it ran steps; it is started again."""

    level: ClassVar[str] = "error"
    reason: str
    batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesEnded(Notice):
    """Attempts of a destination ended in ``state``: delivered, waiting, held, dead; ``seconds`` of each send."""

    level: ClassVar[str] = "debug"
    channel: str
    destination: str
    state: str
    count: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed(Notice):
    """An attempt did not deliver; ``state`` says what happens next."""

    level: ClassVar[str] = "warning"
    channel: str
    destination: str
    delivery: int
    attempt: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveriesExpired(Notice):
    """Deliveries were past their age when they would have been sent; they were not."""

    level: ClassVar[str] = "warning"
    channel: str
    destination: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitOpened(Notice):
    """A destination failed again and again; it is left alone for ``seconds``, then one delivery tries."""

    level: ClassVar[str] = "warning"
    channel: str
    destination: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitProbed(Notice):
    """One delivery tries whether a destination that was left alone is back."""

    level: ClassVar[str] = "debug"
    channel: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitReopened(Notice):
    """It is not back; it is left alone for another ``seconds``."""

    level: ClassVar[str] = "debug"
    channel: str
    destination: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitClosed(Notice):
    """A destination that was left alone answers again."""

    channel: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationBusy(Notice):
    """A destination asked for time (``Retry-After``); nothing is sent to it for ``seconds``."""

    level: ClassVar[str] = "warning"
    channel: str
    destination: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Notice):
    """An operator stopped what goes to a destination, or with an empty ``destination`` what comes in."""

    level: ClassVar[str] = "warning"
    channel: str
    destination: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Notice):
    """An operator let it go on."""

    channel: str
    destination: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Notice):
    """The store committed a group of units of work."""

    level: ClassVar[str] = "debug"
    units: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered(Notice):
    """After a start, work was found that an earlier run had not finished."""

    messages: int
    deliveries: int
    sending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded(Notice):
    """New channel files took effect."""

    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationRefused(Notice):
    """New channel files have errors; the running revision stays."""

    level: ClassVar[str] = "error"
    findings: int
    report: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed(Notice):
    """An operator ran dead letters again."""

    count: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Discarded(Notice):
    """An operator gave dead letters up."""

    count: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(Notice):
    """An operator cancelled deliveries that waited."""

    count: int
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug(Notice):
    """Something raised that should not have; the type and the place, never the text, which may hold patient data."""

    level: ClassVar[str] = "error"
    where: str
    error: str
