"""This module finds the groups of a message, such as an order with its results, by the levels of its segments.

The structures of HL7 nest: a patient has visits and orders, an order has observations. Which segments open a group and
how deep they stand is the same in nearly every structure, so one table of levels serves all messages, those of no
known structure included. A group ends at the next segment of its own level or a higher one. Segments without a level
(NTE, PV2, TQ1, Z segments) belong to whatever is before them.
"""

from collections.abc import Iterator
from typing import Final

from broker.wire.location import Location
from broker.wire.segment import Segment

# 0 is the highest. What stands side by side in all structures has the same number.
_LEVELS: Final[dict[str, int]] = {
    **dict.fromkeys(("MSH", "BHS", "FHS", "BTS", "FTS", "DSC"), 0),
    **dict.fromkeys(("PID", "SCH", "RGS", "MFE", "QAK", "QPD", "RF1"), 1),
    **dict.fromkeys(("PV1", "TXA"), 2),
    **dict.fromkeys(("FT1", "PRB", "PTH"), 3),
    "GOL": 4,
    "ORC": 7,
    **dict.fromkeys(("OBR", "RXO", "RXE", "RXD", "RXG", "RXA", "RQD", "ODS", "ODT", "BPO", "BPX", "BTX"), 8),
    **dict.fromkeys(("AIS", "AIG", "AIL", "AIP"), 8),
    "SPM": 9,
    "SAC": 10,
    **dict.fromkeys(("OBX", "NK1", "AL1", "IAM", "DG1", "PR1", "GT1", "IN1", "ACC"), 11),
}
_NONE: Final = 99
_SPECIMENS: Final = {"SPM": 5, "SAC": 6}  # where they are above the orders
_ORDERS: Final = frozenset({"ORC", "OBR"})


def level_of(name: str) -> int:
    """Return how deep segments of a name stand: 1 is the level of PID; those without a level are the deepest."""
    return _LEVELS.get(name, _NONE)


class Group:
    """Segments that belong together, in the order of the message; the first one opened the group.

    The message itself is the outermost group. Values are read as from a message.
    """

    __slots__ = ("_all", "_groups", "_levels", "_named")

    def __init__(self, segments: list[Segment], levels: dict[str, int] | None = None) -> None:
        self._all = segments
        self._levels = _levels_of(segments) if levels is None else levels
        self._named: dict[str, list[Segment]] | None = None
        self._groups: dict[str, list[Group]] | None = None

    def get(self, location: Location | str) -> str | None:
        """Return the value at a location; see `Message.get`."""
        if isinstance(location, str):
            location = Location.parse(location)
        segment = self.segment_at(location)
        return None if segment is None else segment.at(location)

    def segment_at(self, location: Location) -> Segment | None:
        """Return the segment that a location is in; where it names no number, the first is meant."""
        group = self if location.within is None else self._group(location.within)
        return None if group is None else next(_chosen(group.named(location.segment), location), None)

    def all(self, location: Location | str) -> list[str]:
        """Return every value at a location; see `Message.all`."""
        if isinstance(location, str):
            location = Location.parse(location)
        groups = (self,) if location.within is None else self._every(location.within)
        return [
            value
            for group in groups
            for segment in _chosen(group.named(location.segment), location)
            for value in segment.every(location)
        ]

    def first(self, name: str) -> Segment | None:
        """Return the first segment of a name, or None."""
        return next(iter(self.named(name)), None)

    def segments(self, name: str = "") -> list[Segment]:
        """Return the segments of a name, or all of them, in the order of the message."""
        return list(self.named(name) if name else self._all)

    def groups(self, name: str) -> list["Group"]:
        """Return the groups that segments of a name open, each up to the next segment of its level or a higher one."""
        if self._groups is None:
            self._groups = {}
        if name not in self._groups:
            self._groups[name] = [Group(part, self._levels) for part in self._parts(name)]
        return self._groups[name]

    def named(self, name: str) -> list[Segment]:
        """Return the segments of a name; the list is not a copy."""
        if self._named is None:
            self._named = {}
            for segment in self._all:
                self._named.setdefault(segment.name, []).append(segment)
        return self._named.get(name, [])

    def _parts(self, name: str) -> Iterator[list[Segment]]:
        level = self._levels.get(name, _NONE - 1)
        part: list[Segment] | None = None
        for segment in self._all:
            if segment.name == name:
                if part is not None:
                    yield part
                part = [segment]
            elif part is not None:
                if self._levels.get(segment.name, _NONE) <= level:
                    yield part
                    part = None
                else:
                    part.append(segment)
        if part is not None:
            yield part

    def _group(self, location: Location) -> "Group | None":
        """Return the first group at a location, where every part of it that names no number means the first."""
        outer = self if location.within is None else self._group(location.within)
        if outer is None:
            return None
        chosen = next(_chosen(outer.named(location.segment), location), None)
        return None if chosen is None else next((g for g in outer.groups(location.segment) if g.opens(chosen)), None)

    def _every(self, location: Location) -> Iterator["Group"]:
        for outer in (self,) if location.within is None else self._every(location.within):
            chosen = {id(segment) for segment in _chosen(outer.named(location.segment), location)}
            yield from (group for group in outer.groups(location.segment) if id(group.opener) in chosen)

    @property
    def opener(self) -> Segment:
        """The segment that opened the group."""
        return self._all[0]

    def opens(self, segment: Segment) -> bool:
        """Tell whether a segment opened the group."""
        return self._all[0] is segment


def _chosen(segments: list[Segment], location: Location) -> Iterator[Segment]:
    which = location.which
    if which is None:
        number = location.occurrence
        yield from segments[number - 1 : number] if number else segments
        return
    for segment in segments:
        if segment.get(which.first, which.second or 1) == which.value:
            yield segment


def _levels_of(segments: list[Segment]) -> dict[str, int]:
    """Return the levels in one message: where specimens come before the orders (OUL, OML^O33), they stand above."""
    names = [segment.name for segment in segments]
    order = next((place for place, name in enumerate(names) if name in _ORDERS), None)
    if order is None:
        return _LEVELS
    levels = _LEVELS
    if any(name in _SPECIMENS for name in names[:order]):
        levels = {**levels, **_SPECIMENS}
    if names[order] == "OBR" and names[order + 1 : order + 2] == ["ORC"]:
        # OUL: each OBR is followed by its own ORC.
        levels = {name: level for name, level in levels.items() if name != "ORC"}
    return levels
