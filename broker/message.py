"""This module says what came in (`Inbound`), what we promise (`Receipt`) and what the steps pass along (`Document`)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker.wire.header import Header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker.canonical.model import Event
    from broker.errors import Breach


@dataclass(slots=True, kw_only=True)  # not frozen: those take five times as long to make
class Inbound:
    """One message as a listener hands it in; ``body`` is the payload without framing, byte for byte."""

    channel: str
    body: bytes = field(repr=False)
    peer: str = ""
    received_at: float = 0.0  # POSIX seconds
    header: Header | None = field(default=None, repr=False)  # MSH, where the listener knows it: of this message alone
    waits: bool = False  # the receipt is due when the steps have ended, not at the commit
    on_stored: "Callable[[Receipt], None] | None" = field(default=None, repr=False)  # where it waits: at the commit
    key: bytes = b""  # what makes it the same as one that came before, where the listener knows that better
    key_decides: bool = False  # what has this key is the same, even if its bytes are not: a sender counts its attempts


@dataclass(frozen=True, slots=True)
class Ended:
    """How the steps of a message ended: its state, and where and why where that is not ``processed``.

    ``breaches`` is all that is wrong with it, where that is known: just after they ended, and not from the store.
    """

    state: str
    step: str | None = None
    location: str | None = None
    reason: str | None = None
    breaches: "tuple[Breach, ...]" = ()

    @property
    def is_good(self) -> bool:
        """Whether the message was taken: filtered is not rejected."""
        return self.state in {"processed", "filtered"}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What became of a message or of one of its deliveries: a state, and why where that is not a good one.

    A delivery that was delivered has the other side's name for it and what the other side said. One that never came to
    be, because a filter stopped the message or nothing was to be sent there, is ``absent``.
    """

    state: str
    reason: str = ""
    location: str = ""
    reference: str = ""
    response: bytes = field(default=b"", repr=False)


@dataclass(slots=True, kw_only=True)
class Receipt:
    """The promise that a message is committed; ``duplicate`` means that it was before, and nothing happened twice.

    ``ended`` says what the steps made of it, where the listener waits for that.
    """

    message_id: int
    duplicate: bool = False
    ended: Ended | None = None


@dataclass(slots=True, kw_only=True)
class Document:
    """The working view that steps pass along: the message, the canonical event once it exists, and named values.

    ``message`` is what the channel's format makes of the bytes: a `broker.wire.er7.Message`, a row, a FHIR resource.
    ``body`` is the bytes themselves, where ``message`` does not keep them. ``warned`` is what validation has against
    the message and let pass: how often, by code of HL7 table 0357.
    """

    message: Any = field(repr=False)
    received_at: float
    event: "Event | None" = field(default=None, repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    warned: "Mapping[int, int]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filtered:
    """A step's decision to stop here on purpose; not an error, and the message is acknowledged as accepted."""

    reason: str
