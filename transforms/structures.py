"""This module knows HL7 v2's message structures: which one a message has, and where in it a segment may follow."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from transforms.dictionary import ANY_SEGMENT, Dictionary, Group, dictionary

# HL7 table 0354 where it is no identity: which events share the structure that is called after another one.
_SHARED: Final[dict[str, str]] = {
    "ADT_A01": "A04 A08 A13 A14 A28 A31",  # A14, A28 and A31 before 2.4; later they share ADT_A05
    "ADT_A05": "A14 A28 A31",
    "ADT_A06": "A07",
    "ADT_A09": "A10 A11 A12 A15",
    "ADT_A16": "A25 A26 A27",
    "ADT_A21": "A22 A23 A25 A26 A27 A29 A32 A33",
    "ADT_A30": "A34 A35 A36 A46 A47 A48 A49",
    "ADT_A39": "A40 A41 A42",
    "ADT_A43": "A44",
    "ADT_A50": "A51",
    "ADT_A52": "A53 A55",
    "ADT_A54": "A55",
    "ADT_A61": "A62",
    "ADT_A02": "A21 A22 A23 A25 A26 A27 A29 A32 A33",  # before 2.4
    "BAR_P01": "P05",
    "CRM_C01": "C02 C03 C04 C05 C06 C07 C08",
    "CSU_C09": "C10 C11 C12",
    "LSU_U12": "U13",
    "MDM_T01": "T03 T05 T07 T09 T11",
    "MDM_T02": "T04 T06 T08 T10",
    "MFK_M01": "M02 M03 M04 M05 M06 M07 M08 M09 M10 M11 M12 M13 M15",
    "MFN_M01": "M02 M03 M14",
    "MFR_M01": "M02 M03",
    "OML_O21": "O33 O35",
    "ORU_R30": "R31 R32",
    "ORU_R01": "R30 R31 R32 W01",
    "OUL_R21": "R22 R23 R24",
    "PEX_P07": "P08",
    "PGL_PC6": "PC7 PC8",
    "PMU_B01": "B02",
    "PMU_B04": "B05 B06",
    "PPG_PCG": "PCH PCJ",
    "PPP_PCB": "PCC PCD",
    "PPR_PC1": "PC2 PC3",
    "QBP_Q11": "Q13 Q15",
    "QBP_Q21": "Q22 Q23 Q24 Q25",
    "QRY_PC4": "PC9 PCE PCK",
    "RDE_O11": "O25",
    "RDE_O01": "O11 O25",
    "REF_I12": "I13 I14 I15",
    "RPA_I08": "I09 I10 I11",
    "RPI_I01": "I04",
    "RQA_I08": "I09 I10 I11",
    "RQC_I05": "I06",
    "RQI_I01": "I02 I03",
    "RRI_I12": "I13 I14 I15",
    "RSP_K11": "K13 K15",
    "RSP_K21": "K22",
    "RSP_K23": "K24",
    "SIU_S12": "S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S26 S27",
    "SRM_S01": "S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "SRR_S01": "S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "TCU_U10": "U11",
}
_STRUCTURES: Final[dict[tuple[str, str], list[str]]] = {}
for _name, _events in _SHARED.items():
    for _event in _events.split():
        _STRUCTURES.setdefault((_name.partition("_")[0], _event), []).append(_name)


def structure_of(known: Dictionary, code: str, trigger: str, declared: str) -> str:
    """Return the name of the structure of a message by MSH-9's three components; empty where there is none.

    What the sender declares counts, then what the standard says of the event.
    """
    own = f"{code}_{trigger}"
    later = [name for name in _STRUCTURES.get((code, trigger), ()) if name in known.structures]
    # Of two the later version's comes first, which the tables of an older version do not have.
    candidates = [declared, own, *sorted(later, reverse=True), code]
    return next((name for name in candidates if name and name in known.structures), "")


class Move(NamedTuple):
    """Where a segment stands in the structure, and what should have come before it and did not."""

    position: int
    missing: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class _Node:
    group: Group
    parent: "_Node | None"
    index: int
    children: "list[_Node]"
    position: int = -1  # of a segment among all segments of the structure


START: Final = -1


class Structure:
    """A message structure, compiled: moves are worked out once each and kept."""

    def __init__(self, tree: Group) -> None:
        self.name = tree.name
        self.tree = tree
        self._leaves: list[_Node] = []
        self._root = self._planted(tree, None, 0)
        self.names = frozenset(leaf.group.name for leaf in self._leaves)
        self.takes_any = ANY_SEGMENT in self.names
        self.single = frozenset(name for name in self.names if self._is_single(name))
        # What must be there whatever else is: no optional group stands around it.
        self.needed = frozenset(_needed(tree))
        self._moves: dict[tuple[int, str], tuple[Move, ...]] = {}

    def moves(self, position: int, name: str) -> tuple[Move, ...]:
        """Return where a segment can go that comes after a position: all places that need the fewest others before it.

        None of them where it may not come.
        """
        if name not in self.names:
            if not self.takes_any:
                return ()
            name = ANY_SEGMENT
        key = (position, name)
        if key not in self._moves:
            found = self._best(position, name)
            if not found and self.takes_any:
                found = self._best(position, ANY_SEGMENT)
            self._moves[key] = found
        return self._moves[key]

    def missing_after(self, position: int) -> tuple[str, ...]:
        """Return what must still come when a message ends after a position."""
        missing: list[str] = []
        node = self._leaves[position] if position >= 0 else None
        if node is None:
            return tuple(_required(self._root.group))
        while node.parent is not None:
            if not node.parent.group.one_of:
                for sibling in node.parent.children[node.index + 1 :]:
                    missing += _required(sibling.group)
            node = node.parent
        return tuple(missing)

    def _planted(self, group: Group, parent: _Node | None, index: int) -> _Node:
        node = _Node(group, parent, index, [])
        if group.children:
            node.children = [self._planted(child, node, number) for number, child in enumerate(group.children)]
        else:
            node.position = len(self._leaves)
            self._leaves.append(node)
        return node

    def _is_single(self, name: str) -> bool:
        """Tell whether a segment may occur once in a message of this structure."""
        leaves = [leaf for leaf in self._leaves if leaf.group.name == name]
        node: _Node | None = leaves[0]
        while node is not None and node.group.most == 1:
            node = node.parent
        return len(leaves) == 1 and node is None

    def _best(self, position: int, name: str) -> tuple[Move, ...]:
        moves = _entries(self._root, name, ()) if position == START else _following(self._leaves[position], name)
        by_place: dict[int, Move] = {}
        for move in moves:
            known = by_place.get(move.position)
            if known is None or len(move.missing) < len(known.missing):
                by_place[move.position] = move
        fewest = min((len(move.missing) for move in by_place.values()), default=0)
        return tuple(move for move in by_place.values() if len(move.missing) == fewest)


# What was found missing on one way through a structure, the last first: before that, names, and before which segment.
_Trail = tuple[Any, tuple[str, ...], tuple[str, int]] | None


class Walk:
    """One message's way through a structure.

    Structures are ambiguous: an ORC may begin a new order or a prior result, and what follows decides. So every way is
    followed that misses the fewest segments so far.
    """

    def __init__(self, tree: Structure) -> None:
        self._tree = tree
        self._ways: dict[int, _Trail] = {START: None}

    def take(self, name: str, occurrence: int) -> bool:
        """Go on to the next segment, the so manieth of its name; False, and nothing changes, where it may not come."""
        if len(self._ways) == 1:
            ((position, trail),) = self._ways.items()
            moves = self._tree.moves(position, name)
            if len(moves) == 1 and not moves[0].missing:  # the usual case
                self._ways = {moves[0].position: trail}
                return True
        fewest, ways = sys.maxsize, dict[int, _Trail]()
        for position, trail in self._ways.items():
            for move in self._tree.moves(position, name):
                if len(move.missing) < fewest:
                    fewest, ways = len(move.missing), {}
                if len(move.missing) == fewest:
                    ways.setdefault(move.position, (trail, move.missing, (name, occurrence)) if move.missing else trail)
        if ways:
            self._ways = ways
        return bool(ways)

    def missing(self) -> list[tuple[str, tuple[str, int] | None]]:
        """Return the segments that are missing, each with that before which (its name and number), None for the end."""
        ends = ((self._tree.missing_after(position), trail) for position, trail in self._ways.items())
        rest, trail = min(ends, key=lambda end: len(end[0]))
        found: list[tuple[str, tuple[str, int] | None]] = [(name, None) for name in reversed(rest)]
        while trail is not None:
            trail, names, following = trail
            found += [(name, following) for name in reversed(names)]
        return found[::-1]


def _following(leaf: _Node, name: str) -> Iterator[Move]:
    """Give every place where a segment can come next, the nearest first."""
    if leaf.group.name == name and leaf.group.most != 1:
        yield Move(leaf.position)
    node, missing = leaf, tuple[str, ...]()
    while node.parent is not None:
        parent = node.parent
        if not parent.group.one_of:
            for sibling in parent.children[node.index + 1 :]:
                yield from _entries(sibling, name, missing)
                missing += _required(sibling.group)
        if parent.group.most != 1:
            yield from _entries(parent, name, missing)
        node = parent


def _entries(node: _Node, name: str, missing: tuple[str, ...]) -> Iterator[Move]:
    """Give every place in a group, from its beginning, where a segment can stand."""
    if not node.children:
        if node.group.name == name:
            yield Move(node.position, missing)
        return
    for child in node.children:
        yield from _entries(child, name, missing)
        if not node.group.one_of:
            missing += _required(child.group)


def _required(group: Group) -> tuple[str, ...]:
    """Return the segments that a group cannot be without; of a choice, all of them in one text."""
    if not group.least:
        return ()
    if not group.children:
        return (group.name,)
    if group.one_of:
        return (" or ".join(child.name for child in group.children),)
    return tuple(name for child in group.children for name in _required(child))


def _needed(group: Group) -> tuple[str, ...]:
    return tuple(name for child in group.children for name in _required(child))


@cache
def structure(version: str, name: str) -> Structure:
    """Return a compiled structure of a version; raise KeyError where it has none of that name."""
    tree = dictionary(version).structure(name)
    if tree is None:
        raise KeyError(name)
    return Structure(tree)
