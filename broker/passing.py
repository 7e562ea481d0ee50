"""This module names what one channel passes on to another: there, whom it came from; here, what it became."""

from typing import Final

from broker.delivery import evidence
from broker.ids import message_of, read_or_none, show
from broker.units import Recorded

_PREFIX: Final = "channel:"


def passed_by(channel: str, delivery: int) -> str:
    """Return the peer of a message that a channel passed on: ``channel:west-adt/0F3Z…``, with its own message's id."""
    return f"{_PREFIX}{channel}/{show(message_of(delivery))}"


def passer_of(peer: str) -> str:
    """Return the channel that a peer names; nothing where no channel of ours passed the message on."""
    return peer.removeprefix(_PREFIX).rpartition("/")[0] if peer.startswith(_PREFIX) else ""


def origin_of(peer: str) -> int | None:
    """Return the id of the message that a peer names, where another channel of ours passed it on."""
    return read_or_none(peer.rpartition("/")[2]) if peer.startswith(_PREFIX) else None


def named_after(recorded: Recorded, message: int) -> Recorded:
    """Return the record of a delivery with the message that it became as the other channel's name for it."""
    return recorded._replace(detail=evidence(show(message)))
