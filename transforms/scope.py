"""This module looks up what a name in an expression or template stands for in a document."""

from collections.abc import Callable
from typing import Any, Final

from broker.canonical.model import Event
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Location

Getter = Callable[[Document], Any]
NULL: Final = '""'  # HL7's explicit null


def at(location: Location) -> Getter:
    """Return the look-up of a location: None when it is absent or empty, "" when it was sent as explicit null."""

    def get(document: Document) -> str | None:
        value = document.message.get(location)
        return "" if value == NULL else value

    return get


def named(name: str, missing: Callable[..., Any]) -> Getter:
    """Return the look-up of a name; ``missing(name=…)`` makes what a `set` that did not run left behind."""
    if name in _ROOTS:
        return _ROOTS[name]

    def get(document: Document) -> Any:
        values = document.values
        return values[name] if name in values else missing(name=name)

    return get


def event_of(document: Document) -> Event:
    """Return the canonical event, or raise `StepError` when no step made one."""
    event = document.event
    if event is None:
        raise StepError(
            "there is no event yet: put a canonical step before what uses event, patient, encounter and the like"
        )
    return event


_ROOTS: Final[dict[str, Getter]] = {
    "event": event_of,
    "patient": lambda document: event_of(document).patient,
    "encounter": lambda document: event_of(document).encounter,
    "appointment": lambda document: event_of(document).appointment,
    "referral": lambda document: event_of(document).referral,
    "document": lambda document: event_of(document).document,
    "account": lambda document: event_of(document).account,
}
