"""This module finds what a FHIR reference points to: in the resource itself, in its Bundle, or on a server."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from broker.canonical.model import Identifier, Location, Organization, Patient, Practitioner, Reference
from transforms.fhir_types import (
    NOTHING,
    Node,
    addresses,
    concept,
    first_identifier,
    identifier,
    identifiers,
    main_name,
    names,
    node,
    nodes,
    telecom,
    text,
    worded,
)
from transforms.fhir_types import flag as said

LOGICAL: Final = "RI"  # HL7 table 0203: the id that a server gave a resource
_RESTFUL: Final = re.compile(r"(?:(.+)/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?(.+)")
_STEPS_UP: Final = 5  # from a bed to its hospital
# Location.physicalType -> the part of the canonical location.
_PLACES: Final = {
    "bd": "bed", "ro": "room", "wa": "point_of_care", "wi": "point_of_care", "lvl": "point_of_care", "bu": "building",
    "si": "facility",
}  # fmt: skip


class Target(NamedTuple):
    """What a reference says of the thing that it points to."""

    kind: str  # Patient, or nothing where it is not said
    resource: Node  # empty where it is elsewhere
    known: Identifier | None  # by what it can be known


class Pool:
    """The resources that came together; ``base`` is the address of the sender's server, where that is known."""

    def __init__(self, base: str = "") -> None:
        self.base = base.rstrip("/")
        self._by_url: dict[str, Node] = {}
        self._by_name: dict[str, Node] = {}
        self._urls: dict[str, str] = {}
        self._bases: dict[int, str] = {}
        self._created: set[int] = set()
        self.patients: dict[int, Patient] = {}  # those that were mapped already

    def add(self, resource: Node, url: str = "", *, created: bool = False) -> None:
        """Take a resource in, by the ``fullUrl`` of its entry, if it has one.

        One that is being ``created`` has no id of a server yet, whatever it calls itself.
        """
        if created:
            self._created.add(id(resource))
        name = f"{resource.get('resourceType')}/{resource.get('id')}"
        found = _RESTFUL.fullmatch(url)
        if found and found[1] and not url.startswith("urn:"):
            self._bases[id(resource)] = found[1]
        if url:
            self._by_url[url] = resource
        if "id" not in resource:
            return
        if self._urls.setdefault(name, url) == url:
            self._by_name[name] = resource
        else:  # two servers use the same id: only a whole URL can tell them apart
            self._by_name[name] = NOTHING

    def base_of(self, resource: Node) -> str:
        """Return the address of the server that a resource is from, as far as it is known."""
        return self._bases.get(id(resource), self.base)

    def named(self, resource: Node) -> Identifier | None:
        """Return the id that its server gave a resource."""
        name = text(resource, "id")
        if name is None or id(resource) in self._created:
            return None
        return logical(self.base_of(resource), str(resource.get("resourceType")), name)

    def find(self, link: Node, within: Node) -> Target:
        """Return what a Reference points to; ``within`` is the resource that it stands in."""
        reference, own = text(link, "reference") or "", identifier(node(link, "identifier"))
        kind = text(link, "type") or ""
        if reference.startswith("#"):
            there = next((each for each in nodes(within, "contained") if each.get("id") == reference[1:]), NOTHING)
            return Target(str(there.get("resourceType") or kind), there, own)
        if conditional := _CONDITIONAL.fullmatch(reference):
            return Target(conditional[1], NOTHING, own or searched(conditional[2]))
        found = _RESTFUL.fullmatch(reference)
        there = self._there(reference, found, within)
        kind = str(there.get("resourceType") or (found[2] if found else kind))
        return Target(kind, there, own or (self._logical(found, within) if found else None))

    def _there(self, reference: str, found: re.Match[str] | None, within: Node) -> Node:
        if there := self._by_url.get(reference):
            return there
        if found is None:
            return NOTHING
        base, name = found[1] or self.base_of(within), f"{found[2]}/{found[3]}"
        if there := self._by_url.get(f"{base}/{name}" if base else name):
            return there
        there = self._by_name.get(name, NOTHING)
        mine, theirs = found[1] or self._bases.get(id(within)), self._bases.get(id(there))
        return NOTHING if mine and theirs and mine != theirs else there

    def _logical(self, found: re.Match[str], within: Node) -> Identifier | None:
        return logical(found[1] or self.base_of(within), found[2], found[3])


def logical(base: str, kind: str, name: str) -> Identifier | None:
    """Return a server's id of a resource as identifier, whose system is the server's address of that type.

    Without the address the id could be any server's: it identifies nothing, and is kept for patients alone.
    """
    if base:
        return Identifier(value=name, system=f"{base}/{kind}", type=LOGICAL)
    return Identifier(value=name, type=LOGICAL) if kind == "Patient" else None


def searched(query: str) -> Identifier | None:
    """Return the identifier that a conditional reference (``Patient?identifier=system|value``) asks for."""
    for name, value in parse_qsl(query):
        if name == "identifier":
            system, bar, number = value.rpartition("|")
            if number:
                return Identifier(value=number, system=system if bar else "")
    return None


def addressed(url: str, base: str) -> Target:
    """Return what the address of a request is about: ``Patient/123`` or ``Patient?identifier=system|value``."""
    if found := _CONDITIONAL.fullmatch(url):
        return Target(found[1], NOTHING, searched(found[2]))
    if parts := _RESTFUL.fullmatch(url):
        return Target(parts[2], NOTHING, logical(parts[1] or base, parts[2], parts[3]))
    return Target("", NOTHING, None)


class Reader:
    """Follows the references of one resource."""

    def __init__(self, pool: Pool, resource: Node) -> None:
        self.pool = pool
        self.resource = resource

    def find(self, link: Node) -> Target:
        """Return what a Reference points to."""
        return self.pool.find(link, self.resource)

    def of(self, resource: Node) -> "Reader":
        """Return the reader of another resource; what is contained in this one stays within reach."""
        return self if self._contains(resource) else Reader(self.pool, resource)

    def named(self, resource: Node) -> Identifier | None:
        """Return the id that its server gave a resource; that of a contained one means nothing outside."""
        return None if self._contains(resource) else self.pool.named(resource)

    def _contains(self, resource: Node) -> bool:
        return any(each is resource for each in nodes(self.resource, "contained"))

    def each(self, parent: Node, name: str) -> Iterator[Node]:
        """Give the resources that came along and that a list of References points to."""
        for link in nodes(parent, name):
            if there := self.find(link).resource:
                yield there

    def practitioner(self, link: Node) -> Practitioner | None:
        """Return the person that a Reference points to; what it calls them is the family name where that is all."""
        target = self.find(link)
        if target.kind in {"Organization", "Patient", "RelatedPerson", "Device", "CareTeam"}:
            return None
        if target.resource:
            return self.of(target.resource).person(target.resource)
        words = text(link, "display")
        if target.known is None and words is None:
            return None
        return Practitioner(identifier=target.known, family=words)

    def person(self, resource: Node) -> Practitioner | None:
        """Return a Practitioner, or a PractitionerRole with whom it is about."""
        if resource.get("resourceType") == "PractitionerRole":
            return self._role(resource)
        if resource.get("resourceType") != "Practitioner":
            return None
        known, told = identifiers(resource), names(resource)
        main = main_name(told)
        return Practitioner(
            identifier=next((each for each in known if each.type == "NPI"), known[0] if known else None)
            or self.named(resource),
            family=main.family if main else None,
            given=main.given[0] if main and main.given else None,
            identifiers=known,
            prefix=main.prefix if main else None,
            suffix=main.suffix if main else None,
            telecom=telecom(resource),
            addresses=addresses(resource),
            active=said(resource, "active"),
        )

    def _role(self, role: Node) -> Practitioner | None:
        who = self.practitioner(node(role, "practitioner"))
        if who is None:
            return None
        return replace(
            who,
            role=worded(concept(node(role, "code"))),
            specialty=concept(node(role, "specialty")),
            telecom=who.telecom or telecom(role),
        )

    def organization(self, link: Node) -> Organization | None:
        """Return the organization that a Reference points to."""
        target = self.find(link)
        words = text(target.resource, "name") or text(link, "display")
        known = first_identifier(target.resource) or target.known
        return Organization(name=words, identifier=known) if words or known else None

    def location(self, link: Node) -> Location | None:
        """Return the place that a Reference points to, with the larger places that it is part of."""
        parts: dict[str, str] = {}
        reader: Reader = self
        for _ in range(_STEPS_UP):
            there = reader.find(link).resource
            words = text(there, "name") or text(link, "display")
            form = next((text(each, "code") for each in nodes(node(there, "physicalType"), "coding")), None)
            if words:
                parts.setdefault(_PLACES.get(form or "", "point_of_care"), words)
            link = node(there, "partOf")
            if not link:
                break
            reader = reader.of(there)
        return Location(**parts) if parts else None

    def reference(self, link: Node) -> Reference:
        """Return a Reference as such."""
        target = self.find(link)
        return Reference(
            type=target.kind,
            id=text(link, "reference") or "",
            identifier=first_identifier(target.resource) or target.known,
            display=text(link, "display"),
        )

    def identifier(self, link: Node) -> Identifier | None:
        """Return by what the thing that a Reference points to is known."""
        target = self.find(link)
        return first_identifier(target.resource) or target.known
