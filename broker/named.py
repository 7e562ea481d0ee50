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


def _told(names: Mapping[str, Any]) -> str:
    return ", ".join(sorted(names)) or "none"
