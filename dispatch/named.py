"""This module finds what a channel names in ``handoff.yaml``, and says what is there instead where it is not."""

from collections.abc import Mapping
from typing import Any, TypeVar

from broker.errors import ConfigError

T = TypeVar("T")


def find_named(declared: Mapping[str, T], name: str, where: str, kind: str, section: str) -> T:
    """Return what ``section`` of ``handoff.yaml`` declares under a name; raise `ConfigError` where it does not."""
    if name not in declared:
        text = f"{kind} {name!r} is not in handoff.yaml under `{section}:` (there: {_told(declared)})"
        raise ConfigError(f"{where}: {text}")
    return declared[name]


def find_place(places: Mapping[str, Any], name: str, where: str, protocol: str, kind: str) -> Any:
    """Return what a place says of a protocol; raise `ConfigError` where there is none that speaks it."""
    found = getattr(places.get(name), protocol, None)
    if found is None:
        known = _told([each for each, place in places.items() if getattr(place, protocol) is not None])
        raise ConfigError(f"{where}: {name!r} is no {kind} of handoff.yaml, under `places:` (there: {known})")
    return found


def _told(names: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(sorted(names)) or "none"
