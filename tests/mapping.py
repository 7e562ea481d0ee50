"""This module maps messages that tests write segment by segment."""

from broker.canonical.codec import decode, encode
from broker.canonical.model import Event
from broker.wire.er7 import Message
from transforms.map_message import map_message

PID = "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F"
PV1 = "PV1|1|O|CLINIC^1||||||||||||||||V001^^^MERCY^VN"


def parsed(kind: str, *segments: str) -> Message:
    """Return a message of a type (``SIU^S12``) with segments after its MSH."""
    header = f"MSH|^~\\&|APP|MERCY|HANDOFF|PRM|20240501103000||{kind}|MSG1|P|2.5.1"
    return Message.parse("\r".join([header, *segments]).encode(), "utf-8")


def mapped(kind: str, *segments: str) -> Event:
    """Return the event of such a message; it comes back from JSON as it was."""
    event = map_message(parsed(kind, *segments))
    assert decode(encode(event)) == event
    return event


def segment(name: str, **fields: str) -> str:
    """Write a segment; ``f5="…"`` is its field 5."""
    values = {int(number[1:]): value for number, value in fields.items()}
    return "|".join([name, *(values.get(number, "") for number in range(1, max(values, default=0) + 1))])
