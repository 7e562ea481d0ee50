"""This module shows one message's journey as JSON, the same for the command line and the pages."""

import re
from typing import Any

import orjson

from broker.ids import show
from broker.queries import Journey
from console.plain import to_json


def as_json(journey: Journey) -> dict[str, Any]:
    """Return the message's own keys, ``steps`` (each with ``name`` and ``state``), and ``deliveries`` with attempts.

    Of a message about several patients each delivery has a ``patient``: the how-manieth it is for, from 1.
    """
    channel = _channel(journey.content)
    shown: dict[str, Any] = to_json(journey.message)
    shown["came_from_id"] = None if journey.came_from_id is None else show(journey.came_from_id)
    shown["steps"] = _steps(_step_names(channel), journey.message.state, journey.message.step)
    shown["deliveries"] = to_json(journey.deliveries)
    ways = channel.get("deliver")
    if isinstance(ways, dict) and any(each.id - journey.message.id > len(ways) for each in journey.deliveries):
        for each, delivery in zip(shown["deliveries"], journey.deliveries, strict=True):
            each["patient"] = 1 + (delivery.id - journey.message.id - 1) // len(ways)
    return shown


def _channel(content: str | None) -> dict[str, Any]:
    """Return the channel that a revision's content holds; empty when it cannot be read."""
    try:
        found = orjson.loads(content or "{}")
    except orjson.JSONDecodeError:
        return {}
    channel = found.get("channel") if isinstance(found, dict) else None
    return channel if isinstance(channel, dict) else {}


def _step_names(channel: dict[str, Any]) -> list[str]:
    """Return the names of a channel's steps, in order."""
    steps = channel.get("steps")
    return [str(next(iter(step), "")) for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _steps(names: list[str], state: str, stopped: str | None) -> list[dict[str, str]]:
    """Say how far the message came; what stopped it may be no step but what comes after them."""
    if state == "received":
        return [{"name": name, "state": "waiting"} for name in names]
    place = _place(names, stopped) if stopped else len(names)
    ended = "filtered" if state == "filtered" else "failed"
    shown = [{"name": name, "state": "done"} for name in names[:place]]
    if place < len(names):
        shown.append({"name": names[place], "state": ended})
    return shown + [{"name": name, "state": "skipped"} for name in names[place + 1 :]]


def _place(names: list[str], stopped: str) -> int:
    """Return which step ``steps.2.canonical`` is, from 0; their number where it was none of them."""
    found = re.fullmatch(r"steps\.(\d+)\..*", stopped)
    return min(int(found[1]) - 1, len(names)) if found else len(names)
