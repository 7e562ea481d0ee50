"""This module writes references between the FHIR resources of one event, and gives each resource its own identity.

Inside a Bundle a reference is the ``urn:uuid:`` of an entry; in a resource that travels alone it is a logical reference
by identifier, which needs no knowledge of the server's ids. Everything is worked out from the event alone, so the same
event gives the same bytes.
"""

import uuid
from typing import Any, Final

from broker.canonical.model import Event, Identifier, Organization, Patient, Practitioner, Reference
from broker.canonical.systems import URIS
from transforms.to_fhir_types import Json, identifier, instant, moment, tidied

# What our derived uuids are made below (RFC 9562, 5.5).
_OURS: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:handoff:canonical")


class Links:
    """The references of one event; ``bundled`` where all resources go into one Bundle.

    ``zone`` is the IANA time zone of times that came without an offset.
    """

    __slots__ = ("_seed", "bundled", "event", "people", "zone")

    def __init__(self, event: Event, zone: str | None = None, *, bundled: bool = False) -> None:
        self.event = event
        self.zone = zone
        self.bundled = bundled
        self.people: dict[str, Practitioner] = {}  # those that a Bundle has to bring along, by address
        mrn = record_number(event.patient)
        self._seed = f"{mrn.system}\x1f{mrn.value}" if mrn else f"{event.source.facility}\x1f{event.source.control_id}"

    def moment(self, text: str | None) -> str | None:
        """Return a dateTime."""
        return moment(text, self.zone) if text else None

    def instant(self, text: str | None) -> str | None:
        """Return an instant, or None where it is not known that exactly."""
        return instant(text, self.zone) if text else None

    def period(self, start: str | None, end: str | None) -> Json | None:
        """Return a Period, or None."""
        return {"start": self.moment(start), "end": self.moment(end)} if start or end else None

    def own(self, kind: str, given: Identifier | None, *key: Any) -> Json:
        """Return what identifies a resource: its identifier, else one that is derived from the patient and ``key``.

        Without any, a second attempt to write it could not find what the first one did.
        """
        if given is not None:
            return identifier(given)
        return {"system": URIS, "value": _derived(kind, self._seed, *key)}

    def patient(self) -> Json:
        """Return a reference to the patient."""
        patient = self.event.patient
        mrn = record_number(patient)
        if self.bundled and mrn is not None:
            return {"reference": address_of("Patient", identifier(mrn))}
        display = " ".join(filter(None, (patient.given, patient.family)))
        return _logical("Patient", mrn, display or ("" if mrn else "unknown"))

    def encounter(self) -> Json | None:
        """Return a reference to the event's encounter, or None where there is none that could be found again."""
        found = self.event.encounter
        if found is None or found.identifier is None:
            return None
        if self.bundled:
            return {"reference": address_of("Encounter", identifier(found.identifier))}
        return _logical("Encounter", found.identifier, "")

    def practitioner(self, given: Practitioner | None) -> Json | None:
        """Return a reference to somebody who works here; a Bundle brings them along."""
        if given is None:
            return None
        if self.bundled and given.identifier is not None:
            address = address_of("Practitioner", identifier(given.identifier))
            self.people.setdefault(address, given)
            return {"reference": address}
        return _logical("Practitioner", given.identifier, display_of(given))

    def organization(self, given: Organization | None) -> Json | None:
        """Return a reference to a company, clinic or laboratory."""
        return _logical("Organization", given.identifier, given.name or "") if given is not None else None

    def order(self, given: Identifier | None) -> list[Json]:
        """Return a reference to an order by the placer's number: it may be of this Bundle or of long ago."""
        return [{"type": "ServiceRequest", "identifier": identifier(given)}] if given else []

    def pointer(self, given: Reference | None) -> Json | None:
        """Return a Reference as sent."""
        if given is None:
            return None
        return {
            "reference": given.id if "/" in given.id or ":" in given.id else None,
            "type": given.type if given.type.isascii() and given.type.isalpha() else None,
            "identifier": identifier(given.identifier) if given.identifier else None,
            "display": given.display,
        }

    def finished(self, kind: str, resource: Json) -> Json:
        """Return a resource with its type in front and without what is empty."""
        tidy: Json = tidied(resource) or {}
        return {"resourceType": kind, **tidy}


def record_number(patient: Patient) -> Identifier | None:
    """Return what names the patient's record: the record number, else any identifier."""
    return patient.mrn or (patient.identifiers[0] if patient.identifiers else None)


def display_of(given: Practitioner) -> str:
    """Return a name as people write it."""
    return " ".join(filter(None, (given.prefix, given.given, given.family, given.suffix)))


def address_of(kind: str, first: Json) -> str:
    """Return the ``urn:uuid:`` of a resource by its first identifier."""
    tidy = tidied(first) or {}
    return _derived(kind, tidy.get("system"), tidy.get("value"))


def _logical(kind: str, given: Identifier | None, display: str) -> Json:
    return {"type": kind, "identifier": identifier(given) if given else None, "display": display}


def _derived(*key: Any) -> str:
    parts = (f"{part.system}\x1e{part.value}" if isinstance(part, Identifier) else str(part or "") for part in key)
    return uuid.uuid5(_OURS, "\x1f".join(parts)).urn
