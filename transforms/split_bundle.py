"""This module takes a FHIR Bundle about several patients apart, into one Bundle about each.

What belongs to whom is in the references. A resource is its subject's; one without a subject (Organization,
Practitioner, Location, Binary …) goes with each that refers to it, and one that only refers to others (Provenance,
List) with each of those. Where a resource goes with several patients, what it says of one is left out for the others.
Records that are merged (Patient.link) are one part, as they are one event.
"""

import dataclasses
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any, Final

from broker.errors import StepError
from broker.formats.tree import planted
from broker.message import Document
from transforms.fhir_pool import Reader, addressed
from transforms.fhir_types import Node, node, nodes, text
from transforms.map_fhir import Entry, entries_of, key_of, pool_of
from transforms.map_fhir_events import PARTS, WITHOUT_PATIENT, Told, Untold, subjects_of
from transforms.map_fhir_people import referred_patient
from transforms.several import called, too_many
from transforms.to_fhir import as_text

_SUBJECTS: Final = ("subject", "patient", "beneficiary", "for")  # of resources that have no meaning here
_SAID_TO_ALL: Final = frozenset({"MessageHeader", "OperationOutcome"})
# What is nobody's: it may stand there without anybody who refers to it, and is then said to all.
_NOBODYS: Final = frozenset({
    "", "ActivityDefinition", "CodeSystem", "Endpoint", "HealthcareService", "InsurancePlan", "Location", "Measure",
    "Medication", "Organization", "OrganizationAffiliation", "PlanDefinition", "Practitioner", "PractitionerRole",
    "Questionnaire", "Schedule", "Slot", "StructureDefinition", "Substance", "ValueSet",
})  # fmt: skip
_OF_THE_WHOLE: Final = frozenset({"link", "total", "signature"})  # not true of a part, or about others
_READ: Final = frozenset({"GET", "HEAD"})
_MERGED: Final = frozenset({"replaces", "replaced-by"})
_PLACE: Final = re.compile(r"\bBundle\.entry(?:\[(\d+)\])?")

Owners = set[int]  # numbers of patients, from 0


class BundlePart:
    """What a Bundle says of one patient: part ``number`` (from 1) of ``count``."""

    __slots__ = ("_places", "_sorting", "number")

    def __init__(self, sorting: "_Sorting", number: int) -> None:
        """Take what was sorted, and which patient this is."""
        self._sorting = sorting
        self._places = sorting.places(number - 1)
        self.number = number

    def __str__(self) -> str:
        """Return what people call the part."""
        return called(self.number, self._sorting.count)

    @property
    def place(self) -> str:
        """Where the patient stands in the whole Bundle: the Patient, else the first that is about them."""
        return self._sorting.place(self.number - 1)

    def message(self) -> Node:
        """Return the part as a Bundle of its own; made anew every time, so that not all of them are in memory."""
        return self._sorting.bundle_of(self.number - 1, self._places)

    def document(self, whole: Document) -> Document:
        """Return the part as what the steps get."""
        bundle = self.message()
        tree = planted(bundle)
        values = whole.values | {"resource": tree, "Bundle": tree}
        return dataclasses.replace(whole, message=bundle, values=values, body=as_text(bundle).encode())

    def located(self, text: str) -> str:
        """Return a text with the places of entries as they are in the whole Bundle."""
        return _PLACE.sub(self._moved, text)

    def _moved(self, found: re.Match[str]) -> str:
        place = int(found[1] or 0)
        return f"Bundle.entry[{self._places[place]}]" if place < len(self._places) else found[0]


def split_bundle(resource: Node, most: int) -> list[BundlePart]:
    """Return the parts of a Bundle about several patients, each where it is named first; none where it is about one.

    A Bundle of type ``document`` is one document about one patient. Raises `StepError` where there are more than
    ``most``, and where nobody can say which patient an entry is about.
    """
    if resource.get("resourceType") != "Bundle" or text(resource, "type") == "document":
        return []
    sorting = _Sorting(resource)
    if sorting.count < 2:  # noqa: PLR2004
        return []
    if sorting.count > most:
        raise too_many(sorting.count, most, "Bundle.entry")
    sorting.sort()
    return [BundlePart(sorting, number) for number in range(1, sorting.count + 1)]


class _Sorting:
    """The entries of a Bundle, each with the patients that it is about."""

    def __init__(self, bundle: Node) -> None:
        self._bundle = bundle
        self._entries = entries_of(bundle)
        self._pool = pool_of(self._entries, text(bundle, "type") or "")
        self._numbers = {id(entry.resource): place for place, entry in enumerate(self._entries) if entry.resource}
        self._keys: list[list[Hashable] | StepError | None] = [self._keys_of(entry) for entry in self._entries]
        self._patients = self._found()
        self.count = len(set(self._patients.values()))
        self._owners: list[Owners] = []

    def _keys_of(self, entry: Entry) -> list[Hashable] | StepError | None:
        """Return whom an entry is about: keys of patients, none where it has no subject, or why that is a mistake."""
        if not entry.resource:
            target = addressed(entry.target, "")
            return [key_of(referred_patient(target.known))] if target.kind == "Patient" else None
        reader = Reader(self._pool, entry.resource)
        if entry.kind in WITHOUT_PATIENT:
            return None
        try:
            if entry.kind in PARTS:
                return [key_of(patient) for patient in subjects_of(reader, entry.resource, _told(entry))] or None
        except Untold:
            return None
        except StepError as error:
            return error
        links = [link for name in _SUBJECTS for link in nodes(entry.resource, name)]
        return [self._key_of(reader, link) for link in links if reader.find(link).kind == "Patient"] or None

    def _key_of(self, reader: Reader, link: Node) -> Hashable:
        target = reader.find(link)
        if target.resource:
            (patient,) = subjects_of(Reader(self._pool, target.resource), target.resource, Told())
            return key_of(patient)
        return key_of(referred_patient(target.known))

    def _found(self) -> dict[Hashable, int]:
        """Return the number of each patient of whom something is told that makes an event."""
        found: dict[Hashable, int] = {}
        for entry, keys in zip(self._entries, self._keys, strict=True):
            if isinstance(keys, list) and _tells(entry):
                for key in keys:
                    found.setdefault(key, len(found))
        for entry in self._entries:
            for one, other in self._merged(entry):
                if one in found and other in found:
                    kept, gone = sorted((found[one], found[other]))
                    found = {key: kept if number == gone else number for key, number in found.items()}
        numbers = {number: place for place, number in enumerate(dict.fromkeys(found.values()))}
        return {key: numbers[number] for key, number in found.items()}

    def _merged(self, entry: Entry) -> Iterator[tuple[Hashable, Hashable]]:
        """Give the pairs of records that a Patient says are one."""
        if entry.kind == "Patient" and entry.resource:
            reader = Reader(self._pool, entry.resource)
            (patient,) = subjects_of(reader, entry.resource, Told())
            for link in nodes(entry.resource, "link"):
                if link.get("type") in _MERGED:
                    yield key_of(patient), self._key_of(reader, node(link, "other"))

    def sort(self) -> None:
        """Find out whose each entry is; raise `StepError` where nobody can say."""
        self._owners = [self._owners_of(place) for place in range(len(self._entries))]
        for place, owners in enumerate(self._owners):
            if self._is_own(place):
                self._carry(place, owners)
        for place, owners in enumerate(self._owners):
            if not owners and self._keys[place] is None:
                owners |= {one for other in self._links[place] for one in self._owners[other]}
                self._carry(place, owners)
        for place, owners in enumerate(self._owners):
            if not owners:
                self._left(place, owners)

    def _is_own(self, place: int) -> bool:
        return isinstance(self._keys[place], list) or self._entries[place].kind in _SAID_TO_ALL

    def _owners_of(self, place: int) -> Owners:
        if self._entries[place].kind in _SAID_TO_ALL:
            return set(range(self.count))
        keys = self._keys[place]
        return {self._patients[key] for key in keys if key in self._patients} if isinstance(keys, list) else set()

    @cached_property
    def _links(self) -> list[list[int]]:
        """Of each entry, which others it refers to."""
        return [list(self._referred(entry)) for entry in self._entries]

    def _referred(self, entry: Entry) -> Iterator[int]:
        for link in _references(entry.resource):
            place = self._numbers.get(id(self._pool.find(link, entry.resource).resource))
            if place is not None:
                yield place

    def _carry(self, place: int, owners: Owners) -> None:
        """Let what an entry refers to go with it, where that is nobody's own."""
        waiting = [place]
        while waiting:
            for other in self._links[waiting.pop()]:
                if not self._is_own(other) and not owners <= self._owners[other]:
                    self._owners[other] |= owners
                    waiting.append(other)

    def _left(self, place: int, owners: Owners) -> None:
        """Decide on an entry that is nobody's: what cannot be a patient's is said to all."""
        entry, keys = self._entries[place], self._keys[place]
        if isinstance(keys, StepError):
            raise keys
        if isinstance(keys, list) or (entry.kind in PARTS and entry.kind not in _NOBODYS):
            return  # about somebody of whom nothing is told, or about no patient
        if entry.kind not in _NOBODYS and entry.resource:
            where = f"{entry.place}.resource"
            what = f"{where} names no patient, and nothing refers to it, so nobody can say which one it is about"
            raise StepError(what, step="canonical", location=where)
        if entry.method not in _READ:
            owners.update(range(self.count))

    def places(self, patient: int) -> list[int]:
        """Return the places of the entries that go with a patient."""
        return [place for place, owners in enumerate(self._owners) if patient in owners]

    def place(self, patient: int) -> str:
        """Return the place of a Patient, else of the first entry that is about them."""
        own = [place for place in self.places(patient) if self._owners[place] == {patient}]
        shown = min(own or self.places(patient), key=lambda place: self._entries[place].kind != "Patient")
        return self._entries[shown].place

    def bundle_of(self, patient: int, places: Iterable[int]) -> Node:
        """Return the Bundle of one patient."""
        entries = nodes(self._bundle, "entry")
        bundle = {name: value for name, value in self._bundle.items() if name not in _OF_THE_WHOLE}
        return bundle | {"entry": [self._entry_of(entries[place], place, patient) for place in places]}

    def _entry_of(self, entry: Node, place: int, patient: int) -> Node:
        if len(self._owners[place]) < 2:  # noqa: PLR2004
            return entry
        resource = node(entry, "resource")

        def is_foreign(link: Node) -> bool:
            target = self._pool.find(link, resource)
            there = self._numbers.get(id(target.resource))
            if there is not None:
                return patient not in self._owners[there]
            known = self._patients.get(key_of(referred_patient(target.known)))
            return target.kind == "Patient" and known != patient

        kept = {name: _without(value, is_foreign) for name, value in resource.items()}
        return entry | {"resource": {name: value for name, value in kept.items() if value not in (None, [])}}


def _told(entry: Entry) -> Told:
    return Told(place=f"{entry.place}.resource")


def _tells(entry: Entry) -> bool:
    """Whether an entry leads to an event."""
    return entry.kind in PARTS and not entry.beside and (bool(entry.resource) or entry.method == "DELETE")


def _references(value: Any) -> Iterator[Node]:
    """Give every Reference in a resource, and every address of an attachment as if it were one."""
    if type(value) is list:
        for item in value:
            yield from _references(item)
    elif type(value) is dict:
        if _is_reference(value):
            yield value
        elif type(value.get("url")) is str:
            yield {"reference": value["url"]}
        for item in value.values():
            yield from _references(item)


def _is_reference(value: Node) -> bool:
    return type(value.get("reference")) is str or ("identifier" in value and value.get("type") == "Patient")


def _without(value: Any, is_foreign: Callable[[Node], bool]) -> Any:
    """Return a value without the items of its lists that refer to somebody else; None where it does so itself."""
    if type(value) is list:
        return [kept for item in value if (kept := _without(item, is_foreign)) is not None]
    if type(value) is not dict:
        return value
    if _is_reference(value) and is_foreign(value):
        return None
    found = {name: _without(item, is_foreign) for name, item in value.items()}
    if any(kept is None and value[name] is not None for name, kept in found.items()):
        return None
    return {name: kept for name, kept in found.items() if kept != [] or value[name] == []}
