"""This module words what a dispatcher tells: how sends ended, and that its circuit opened or closed."""

from collections.abc import Iterable, Iterator, Sequence

from broker.gate import Change
from broker.notices import (
    CircuitClosed,
    CircuitOpened,
    CircuitReopened,
    DeliveriesEnded,
    DeliveryFailed,
    DestinationBusy,
    Notice,
)
from broker.units import Recorded


def ends_told(ends: Iterable[tuple[Sequence[Recorded], float]], channel: str, destination: str) -> Iterator[Notice]:
    """Yield what is told of sends that ended: the records of each, and the seconds that it took."""
    counts: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    for records, took in ends:
        for unit in records:
            if unit.state not in {"delivered", "suppressed"}:
                yield DeliveryFailed(
                    channel=channel,
                    destination=destination,
                    delivery=unit.id,
                    attempt=unit.number,
                    state=unit.state,
                    reason=unit.reason or "",
                )
            counts[unit.state] = counts.get(unit.state, 0) + 1
        for state in {unit.state for unit in records}:
            seconds.setdefault(state, []).append(took)
    for state, count in counts.items():
        yield DeliveriesEnded(
            channel=channel, destination=destination, state=state, count=count, seconds=tuple(seconds[state])
        )


def change_told(change: Change, channel: str, destination: str) -> Notice:
    """Return what is told of a gate that changed."""
    where, seconds = {"channel": channel, "destination": destination}, round(change.seconds, 3)
    if change.what == "closed":
        return CircuitClosed(**where)
    if change.what == "opened":
        return CircuitOpened(**where, seconds=seconds)
    if change.what == "reopened":
        return CircuitReopened(**where, seconds=seconds)
    return DestinationBusy(**where, seconds=seconds)
