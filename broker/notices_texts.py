"""This module holds the facts that the engine reports about texts and their gateways; see `broker.notices`."""

from dataclasses import dataclass
from typing import ClassVar

from broker.notices import Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReported(Notice):
    """Another side said what became of something that it took; ``by`` is the gateway's name, ``code`` its own."""

    level: ClassVar[str] = "debug"
    by: str
    state: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyRefused(Notice):
    """A gateway brought a reply, or that somebody opted out, and no channel takes it: see `replies:`."""

    level: ClassVar[str] = "warning"
    gateway: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSent(Notice):
    """A gateway took a text; ``segments`` short messages, for an estimated ``cost`` (none without a price)."""

    level: ClassVar[str] = "debug"
    gateway: str
    segments: int
    cost: float
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayUnbound(Notice):
    """No session with a gateway can be had for now; it is tried again and again, and said once."""

    level: ClassVar[str] = "warning"
    gateway: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayBound(Notice):
    """A session with a gateway began; texts can leave, reports and replies can come."""

    gateway: str
