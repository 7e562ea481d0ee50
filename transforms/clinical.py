"""This module groups the segments of a clinical message: an order with the request, results and notes that follow it.

It walks the segments once, in order, and takes what comes: groups need not be complete nor in the standard's order.
"""

from collections.abc import Callable, Iterator
from typing import Final

from broker.wire.er7 import Message

Fields = list[str]

BLANK: Final = [""] * 60  # more fields than any segment of the standard has that is read here
# What is ordered or was done, one kind of order each.
_REQUESTS: Final = frozenset({"OBR", "RQD", "RQ1", "ODS", "ODT"})
_TREATMENTS: Final = frozenset({"RXO", "RXE", "RXD", "RXG", "RXA"})
_LISTED: Final = ("PRB", "GOL", "PTH", "IN1", "GT1", "NK1")  # read elsewhere, with the notes below them


def walk(message: Message) -> Iterator[Fields]:
    """Yield every segment but MSH as its fields, as sent and padded; ``fields[0]`` is its name."""
    separator = message.separators.field
    lines = message.lines()
    lines.reverse()
    while lines:
        fields = lines.pop().split(separator)  # the text of a large segment is let go here
        if fields[0] != "MSH":
            yield fields + BLANK[len(fields) :]


class Treatment:
    """One RXO, RXE, RXD, RXG or RXA with what belongs to it."""

    __slots__ = ("components", "fields", "first", "notes", "routes", "timings")

    def __init__(self, fields: Fields, first: int) -> None:
        self.fields = fields
        self.first = first  # the number of its first observation among those of the group
        self.timings: list[Fields] = []  # TQ1
        self.routes: list[Fields] = []  # RXR
        self.components: list[Fields] = []  # RXC
        self.notes: list[Fields] = []


class Group:
    """One order: ORC, what is asked for, and everything below it."""

    __slots__ = (
        "diagnoses",
        "notes",
        "observations",
        "order",
        "prior",
        "request",
        "specimens",
        "timings",
        "treatments",
    )

    def __init__(self) -> None:
        self.prior = False  # it stands below a PID of its own: an earlier order, told for the sake of the new one
        self.order: Fields | None = None  # ORC
        self.request: Fields | None = None  # OBR, RQD …
        self.timings: list[Fields] = []  # TQ1
        self.specimens: list[Fields] = []  # SPM
        self.treatments: list[Treatment] = []
        self.diagnoses: list[Fields] = []  # DG1
        self.observations: list[tuple[Fields, list[Fields]]] = []  # OBX with its NTE
        self.notes: list[Fields] = []


class Chart:
    """A clinical message: its groups, and what stands before the first of them."""

    def __init__(self, message: Message, *, request_first: bool = False) -> None:
        """Read a message; ``request_first`` where OBR comes before its ORC, as in OUL R22 to R24."""
        self.groups: list[Group] = []
        self.head = Group()  # what is said of the patient or visit
        self.diagnoses: list[str] = []  # DG1 as sent; searching for them again costs more in a large message
        self.allergies: list[str] = []  # AL1 and IAM
        self._separator = message.separators.field
        self._request_first = request_first
        self._now = self.head
        self._pending: list[Fields] = []  # specimens that come before their orders
        self._notes: list[Fields] | None = self.head.notes
        self._patients = 0
        taken = self._taken()
        for fields in walk(message):
            name = fields[0]
            if name == "OBX":
                notes: list[Fields] = []
                self._now.observations.append((fields, notes))
                self._notes = notes
            elif name in taken:
                taken[name](fields)

    def _taken(self) -> dict[str, Callable[[Fields], None]]:
        return {
            "ORC": self._order,
            **dict.fromkeys(_REQUESTS, self._request),
            **dict.fromkeys(_TREATMENTS, self._treatment),
            "RXR": self._route,
            "RXC": self._component,
            "TQ1": self._timing,
            "SPM": self._specimen,
            "DG1": self._diagnosis,
            "AL1": self._allergy,
            "IAM": self._allergy,
            "NTE": self._note,
            "PID": self._patient,
            "PV1": self._visit,
            **dict.fromkeys(_LISTED, self._listed),
        }

    def _open(self) -> Group:
        group = Group()
        group.specimens.extend(self._pending)
        group.prior = self._patients > 1
        self.groups.append(group)
        self._now, self._notes = group, group.notes
        return group

    def _order(self, fields: Fields) -> None:
        if self._request_first and self._now is not self.head and self._now.order is None:
            self._now.order = fields
            self._notes = self._now.notes
        else:
            self._open().order = fields

    def _request(self, fields: Fields) -> None:
        if self._is_awaiting():
            self._now.request = fields
            self._notes = self._now.notes
        else:
            self._open().request = fields

    def _is_awaiting(self) -> bool:
        """Tell whether the last ORC has not got its request yet."""
        now = self._now
        return now.order is not None and now.request is None and not now.treatments and not now.observations

    def _treatment(self, fields: Fields) -> None:
        # RXO, RXE and what was dispensed or given stand below one ORC; without any, each is an order of its own.
        group = self._now if self._now.order is not None and self._now.request is None else self._open()
        treatment = Treatment(fields, len(group.observations))
        group.treatments.append(treatment)
        self._notes = treatment.notes

    def _route(self, fields: Fields) -> None:
        if self._now.treatments:
            self._now.treatments[-1].routes.append(fields)

    def _component(self, fields: Fields) -> None:
        if self._now.treatments:
            self._now.treatments[-1].components.append(fields)

    def _timing(self, fields: Fields) -> None:
        now = self._now
        (now.treatments[-1].timings if now.treatments else now.timings).append(fields)

    def _specimen(self, fields: Fields) -> None:
        if self._now is self.head or self._pending:  # specimens come first in this message, each with its orders
            if self._now is not self.head:
                self._pending = []
                self._now = self.head
            self._pending.append(fields)
        else:
            self._now.specimens.append(fields)
        self._notes = self._now.notes

    def _diagnosis(self, fields: Fields) -> None:
        self.diagnoses.append(self._text(fields))
        self._now.diagnoses.append(fields)
        self._notes = None

    def _allergy(self, fields: Fields) -> None:
        self.allergies.append(self._text(fields))
        self._notes = None

    def _text(self, fields: Fields) -> str:
        return self._separator.join(fields).rstrip(self._separator)

    def _note(self, fields: Fields) -> None:
        if self._notes is not None:
            self._notes.append(fields)

    def _patient(self, _fields: Fields) -> None:
        self._patients += 1
        self._notes = self.head.notes

    def _visit(self, _fields: Fields) -> None:
        self._notes = self.head.notes

    def _listed(self, _fields: Fields) -> None:
        """Pass over a segment that somebody else reads, with the notes below it."""
        self._notes = None
