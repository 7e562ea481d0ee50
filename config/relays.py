"""This module checks how channels pass messages on to each other: to whom, in what format, and never in a circle."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from config.channel import DeliverPlan, Draft
from config.findings import Finding, did_you_mean
from config.marks import Keys, Marks, show

_KIND: Final = "channel"


class Relaying(NamedTuple):
    """One channel: its name, what was read of it, and where that stands."""

    name: str
    draft: Draft
    marks: Marks


def check_relays(channels: Sequence[Relaying]) -> Iterator[Finding]:
    """Yield what is wrong with the channels that channels name."""
    known = {each.name: each for each in channels if each.name}
    ways = {name: [str(_to(plan)) for plan in _relays(each)] for name, each in known.items()}
    told: set[frozenset[str]] = set()
    for each in channels:
        for plan in _relays(each):
            to = str(_to(plan))
            keys: Keys = ("deliver", plan.name, _KIND, "to")
            mark = each.marks.value(keys)
            if to not in known:
                hint = did_you_mean(to, known)
                yield mark.finding("E311", f'{show(keys)} names "{to}", which is no channel', hint)
                continue
            if wrong := _mismatch(plan, each.draft, known[to].draft):
                yield mark.finding("E311", f"{show(keys)}: {wrong}", "write what it takes in `message`")
            circle = _circle(each.name, to, ways)
            if circle and frozenset(circle) not in told:
                told.add(frozenset(circle))
                text = f"channels pass messages in a circle: {' → '.join([*circle, circle[0]])}"
                yield mark.finding("E312", text, "remove one of these destinations")


def _relays(each: Relaying) -> list[DeliverPlan]:
    return [plan for plan in each.draft.deliver if plan.kind == _KIND]


def _to(plan: DeliverPlan) -> Any:
    return getattr(plan.spec, "to", "")


def _mismatch(plan: DeliverPlan, own: Draft, other: Draft) -> str:
    """Say what is wrong where messages are passed on as received, and the other channel reads another format."""
    if not getattr(plan.spec, "passes_original", False) or own.format is None or other.format is None:
        return ""
    if own.format.kind == other.format.kind:
        return ""
    return f"messages of this channel are {own.format.kind}, and that channel takes {other.format.kind}"


def _circle(own: str, to: str, ways: dict[str, list[str]]) -> list[str]:
    """Return the channels on a way from ``to`` back to ``own``, or nothing."""
    found = {to: [own]}  # how each channel was reached
    waiting = [to]
    while waiting:
        name = waiting.pop()
        if name == own:
            return found[name]
        for following in ways.get(name, ()):
            if following not in found:
                found[following] = [*found[name], name]
                waiting.append(following)
    return []
