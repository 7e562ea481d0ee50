"""This module finds the places that channels name in ``handoff.yaml``, and opens the secrets that stand there."""

from collections.abc import Mapping
from typing import Any

from broker.errors import ConfigError


def find_place(places: Mapping[str, Any], name: str, where: str, protocol: str, kind: str) -> Any:
    """Return what a place says of a protocol; raise `ConfigError` where there is none that speaks it."""
    found = getattr(places.get(name), protocol, None)
    if found is None:
        known = sorted(each for each, place in places.items() if getattr(place, protocol) is not None)
        there = ", ".join(known) or "none"
        raise ConfigError(f"{where}: {name!r} is no {kind} of handoff.yaml, under `places:` (there: {there})")
    return found


def reveal(secret: object) -> str:
    """Return a secret's text, whether it is wrapped (anything with ``reveal()``) or plain."""
    opened = getattr(secret, "reveal", None)
    return str(opened() if callable(opened) else secret or "")
