"""This module takes a CDA document that belongs into several charts apart, into one document for each.

What names the patient (recordTarget) is each one's own. Everything else is said of all of them: that is what several
record targets mean (CDA R2, 4.2.2.11).
"""

import dataclasses
from typing import Final
from xml.etree.ElementTree import Element, tostring

from broker.message import Document
from transforms.cda_types import each, identifiers
from transforms.several import called, too_many

_PLACE: Final = "ClinicalDocument.recordTarget"
_TAG: Final = "{urn:hl7-org:v3}recordTarget"


class Chart:
    """A document as one chart has it: part ``number`` (from 1) of ``count``."""

    __slots__ = ("_at", "_root", "_target", "count", "number")

    def __init__(self, root: Element, target: tuple[int, Element], number: int, count: int) -> None:
        """Take the whole document, and whose chart it is: the how-manieth record target (from 0)."""
        self._root = root
        self._at, self._target = target
        self.number = number
        self.count = count

    def __str__(self) -> str:
        """Return what people call the part."""
        return called(self.number, self.count)

    @property
    def place(self) -> str:
        """Where the patient stands in the whole document."""
        return f"{_PLACE}[{self._at}]"

    def message(self) -> Element:
        """Return the part as a document of its own, which shares with the whole what is the same."""
        root = Element(self._root.tag, self._root.attrib)
        root.text = self._root.text
        root.extend(item for item in self._root if item.tag != _TAG or item is self._target)
        return root

    def document(self, whole: Document) -> Document:
        """Return the part as what the steps get."""
        root = self.message()
        values = dict(whole.values)
        return dataclasses.replace(whole, message=root, values=values, body=tostring(root, encoding="utf-8"))

    def located(self, text: str) -> str:
        """Return a location in the part as one in the whole document; but for the patient they are the same."""
        return text.replace(_PLACE, self.place)


def split_cda(root: Element, most: int) -> list[Chart]:
    """Return the parts of a document about several patients, in its order; none where it is about one.

    Record targets with the same identifiers are one patient. Raises `StepError` where there are more than ``most``.
    """
    targets = each(root, "recordTarget")
    found: dict[object, tuple[int, Element]] = {}
    for at, target in enumerate(targets):
        for role in each(target, "patientRole"):
            known = [(number.system, number.value) for number in identifiers(role)]
            found.setdefault(frozenset(known) or at, (at, target))
    count = len(found)
    if count > most:
        raise too_many(count, most, _PLACE)
    if len(targets) < 2:  # noqa: PLR2004
        return []
    return [Chart(root, target, number, count) for number, target in enumerate(found.values(), 1)]
