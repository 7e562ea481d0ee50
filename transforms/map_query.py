"""This module tells of messages that are about nobody's care: queries, their answers, and acknowledgments."""

from broker.canonical.model import Event, Patient
from broker.wire.er7 import Message
from transforms.map_subject import occurred_at, source_of


def map_question(message: Message, without: frozenset[str] = frozenset()) -> Event:  # noqa: ARG001 - no patient
    """Return the event of a query."""
    return _event(message, "query.asked")


def map_answer(message: Message, without: frozenset[str] = frozenset()) -> Event:  # noqa: ARG001 - no patient
    """Return the event of an answer to a query; whom it names may be many, so it is about none of them."""
    return _event(message, "query.answered")


def map_acknowledgment(message: Message, without: frozenset[str] = frozenset()) -> Event:  # noqa: ARG001 - no patient
    """Return the event of an acknowledgment that came as a message."""
    return _event(message, "acknowledgment.received")


def _event(message: Message, kind: str) -> Event:
    return Event(kind=kind, occurred_at=occurred_at(message), source=source_of(message), patient=Patient())
