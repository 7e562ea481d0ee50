"""This module words what a dispatcher tells: how sends ended, and that its circuit opened or closed."""

from collections.abc import Iterator, Sequence

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


def ends_told(records: Sequence[Recorded], channel: str, destination: str, seconds: float) -> Iterator[Notice]:
    """Yield what is told of the ends of one send, which took so many seconds."""
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
    states = [unit.state for unit in records]
    for state in dict.fromkeys(states):
        yield DeliveriesEnded(
            channel=channel, destination=destination, state=state, count=states.count(state), seconds=seconds
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
