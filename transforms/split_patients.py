"""This module takes an HL7 v2 message about several patients apart, into one message about each.

A patient's part begins with its PID and ends before the next one, or before what is above patients (RGS). What stands
in front of the first PID, and what is above patients, belongs to all of them. Where records are merged, moved or
renumbered, each pair of PID and MRG is a part. Whatever asks for a value then asks one patient's part, so that nothing
of one chart can be told of another.
"""

import dataclasses
from typing import Final

from broker.message import Document
from broker.wire.er7 import Location, Message
from broker.wire.groups import level_of
from transforms.clinical import BLANK
from transforms.hl7_types import reader_of
from transforms.map_adt import TRIGGERS, WITH_MRG, WITH_TWO
from transforms.map_message import MAPPERS
from transforms.map_observation import upper_code
from transforms.map_order import PREVIOUS, map_order
from transforms.map_query import map_acknowledgment, map_answer, map_question
from transforms.map_subject import fail, refuse_excess, type_of
from transforms.several import called, too_many

_PID_3: Final = 3
_FIRST: Final = "PID"
_OF_PATIENTS: Final = level_of("PID")
_WITHOUT_LEVEL: Final = level_of("")
_PERSONAL: Final = frozenset({"PD1", "PV2", "MRG"})  # without a level, and a patient's all the same
_NOBODYS: Final = frozenset({map_acknowledgment, map_answer, map_question})  # an answer may list a hundred patients
# As in MSH-9; nothing stands for a trigger that only EVN-1 says.
_PAIRED: Final = frozenset({b"", *(trigger.encode() for trigger, kind in TRIGGERS.items() if kind in WITH_MRG)})
_RESOURCES: Final = frozenset({"AIS", "AIG", "AIL", "AIP"})  # of an appointment, mostly below RGS
_ORDERS: Final = frozenset({"ORC", "OBR"})

Places = list[int]  # of lines of the message, from 0


class Part:
    """What a message says of one patient: part ``number`` (from 1) of ``count``."""

    __slots__ = ("_own", "_shared", "_whole", "count", "number")

    def __init__(self, whole: Message, places: tuple[Places, Places], number: int, count: int) -> None:
        """Take the places in ``whole`` that all parts share, and the part's own."""
        self._whole = whole
        self._shared, self._own = places
        self.number = number
        self.count = count

    def __str__(self) -> str:
        """Return what people call the part."""
        return called(self.number, self.count)

    @property
    def place(self) -> str:
        """Where the patient stands in the whole message."""
        return self.located("PID")

    def message(self) -> Message:
        """Return the part as a message of its own; made anew every time, so that not all of them are in memory."""
        lines = self._whole.lines()
        return self._whole.with_lines(lines[place] for place in sorted(self._shared + self._own))

    def document(self, whole: Document) -> Document:
        """Return the part as what the steps get."""
        return dataclasses.replace(whole, message=self.message(), values=dict(whole.values))

    def located(self, text: str) -> str:
        """Return a location in the part as one in the whole message; what is none stays as it is."""
        try:
            return str(self._moved(Location.parse(text)))
        except ValueError:
            return text

    def _moved(self, location: Location) -> Location:
        if location.within is not None:
            return dataclasses.replace(location, within=self._moved(location.within))
        if location.which is not None:
            return dataclasses.replace(location, within=self._moved(Location("PID")))
        occurrence = self._occurrence(location.segment, location.occurrence or 1)
        return dataclasses.replace(location, occurrence=occurrence) if occurrence > 1 else location

    def _occurrence(self, name: str, number: int) -> int:
        """Return the how-manieth in the whole message a segment of the part is; 0 where the part has none such."""
        names = [line[:3] for line in self._whole.lines()]
        found = [place for place in sorted(self._shared + self._own) if names[place] == name][number - 1 : number]
        return names[: found[0] + 1].count(name) if found else 0


def split_patients(message: Message, most: int) -> list[Part]:
    """Return the parts of a message about several patients, in its order; none where it is about one.

    Raises `StepError` where there are more than ``most``, and where nobody can say which patient a segment is about.
    """
    refuse_excess(message)
    if not (message.has_several("PID") or (message.header.trigger in _PAIRED and message.has_several("MRG"))):
        return []
    code, trigger = type_of(message)
    mapper = MAPPERS.get(code)
    kind = TRIGGERS.get(trigger) if code == "ADT" else None
    if mapper is None or mapper in _NOBODYS or kind in WITH_TWO:
        return []
    if kind in WITH_MRG and len(message.texts("MRG")) > most:
        raise too_many(len(message.texts("MRG")), most, _FIRST)
    shared, groups = _groups(message, earlier=mapper is map_order)
    if kind in WITH_MRG:
        lines = message.lines()
        groups = [pair for group in groups for pair in _pairs(lines, group)]
    elif code != "ADT":
        groups = _joined(message, groups)
    count = len(groups)
    if count > most:
        raise too_many(count, most, _FIRST)
    return [Part(message, (shared, own), number, count) for number, own in enumerate(groups, 1)] if count > 1 else []


def _groups(message: Message, *, earlier: bool) -> tuple[Places, list[Places]]:
    """Return what all patients share, and what is each one's; ``earlier`` where earlier orders may have a PID."""
    lines = message.lines()
    shared: Places = []
    groups: list[Places] = []
    now, opener, ordered = shared, 0, False
    for place, line in enumerate(lines):
        name = line[:3]
        level = level_of(name)
        if name == "PID":
            if not (earlier and ordered and _is_earlier(message, lines, place)):
                groups.append([])
            now = groups[-1]
        elif level <= _OF_PATIENTS or name in _RESOURCES:
            now, opener = shared, level
        elif not groups and not opener and (level < _WITHOUT_LEVEL or name in _PERSONAL):
            fail(name, f"{name} stands before the first of several PID, so nobody can say which patient it is about")
        ordered = ordered or name in _ORDERS
        now.append(place)
    return shared, groups


def _is_earlier(message: Message, lines: list[str], place: int) -> bool:
    """Tell whether what stands below a PID is told for the sake of the order above: it may be the same patient's.

    Then it stays with that, and is refused there if its PID-3 is another one.
    """
    for below in range(place + 1, len(lines)):
        line = lines[below]
        if line.startswith("ORC"):
            return upper_code(reader_of(message), _field(message, line, 1)) in PREVIOUS
        if line.startswith(("OBR", "PID")):
            break
    return True


def _pairs(lines: list[str], group: Places) -> list[Places]:
    """Return each MRG of a group with what follows it, and in front of it what stands before the first one."""
    begins = [number for number, place in enumerate(group) if lines[place].startswith("MRG")]
    if len(begins) < 2:  # noqa: PLR2004
        return [group]
    ends = [*begins[1:], len(group)]
    return [group[: begins[0]] + group[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _joined(message: Message, groups: list[Places]) -> list[Places]:
    """Return the groups with those in one whose PID-3 is the same: each result of a patient may have a PID."""
    lines = message.lines()
    found: dict[str, Places] = {}
    for group in groups:
        identifiers = _field(message, lines[group[0]], _PID_3)
        found.setdefault(identifiers or f"none in line {group[0]}", []).extend(group)
    return list(found.values())


def _field(message: Message, line: str, number: int) -> str:
    return (line.split(message.separators.field, number + 1) + BLANK)[number]
