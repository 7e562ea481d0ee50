"""This module holds a channel as it runs: what `config.build` made of one revision of a channel file."""

from dataclasses import dataclass, field

from broker.breaker import BreakerPolicy
from broker.formats.reading import Format, Index
from broker.parts import Destination, Listener
from broker.rate import Rate
from broker.retry import RetryPolicy
from broker.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """One destination of a channel, and how it is treated."""

    name: str
    destination: Destination
    policy: RetryPolicy
    after: str | None = None
    on_dead: str = "step_over"  # or block: the lane waits for an operator
    unknown: str = "retry"  # or hold
    batch: int = 1
    concurrency: int = 1
    rate: Rate | None = None
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    fallback: str | None = None  # the destination that gets what this one cannot have
    held: bool = False  # by its file: deliveries wait
    quiet: Schedule | None = None  # while its active hours hold, deliveries wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One revision of a channel, built and ready to start. ``content`` is what a worker process builds it from."""

    name: str
    revision: str
    content: str = field(repr=False)
    format: Format
    listens: str  # how the listener and its format are declared: the same text means that its sockets may stay
    listener: Listener
    index: Index
    routes: tuple[RoutePlan, ...]
