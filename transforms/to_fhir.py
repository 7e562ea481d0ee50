"""This module writes canonical events as FHIR R4: single resources by name, or all of an event as one transaction.

``links`` decide how resources point at each other (`transforms.to_fhir_links`). Local names of assigning authorities
and code systems stay what they are; known ones become their URIs (`broker.canonical.systems`).
"""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final

import orjson

from broker.canonical.model import Event
from broker.errors import StepError
from broker.fhir.search import search_of
from transforms import to_fhir_care as care
from transforms import to_fhir_people as people
from transforms import to_fhir_results as results
from transforms import to_fhir_visits as visits
from transforms.to_fhir_links import Links, address_of
from transforms.to_fhir_types import Json

Write = Callable[[Links], list[Json]]

# In the order in which a Bundle has them: what is pointed at comes before what points at it.
RESOURCES: Final[dict[str, Write]] = {
    "Patient": people.patients,
    "Practitioner": people.practitioners,
    "PractitionerRole": people.practitioner_roles,
    "RelatedPerson": people.related_people,
    "Coverage": people.coverages,
    "Encounter": visits.encounters,
    "Appointment": visits.appointments,
    "ServiceRequest": visits.requests,
    "Observation": results.observations,
    "DiagnosticReport": results.reports,
    "Condition": care.conditions,
    "AllergyIntolerance": care.allergies,
    "MedicationRequest": partial(care.medications, kind="request"),
    "MedicationStatement": partial(care.medications, kind="statement"),
    "MedicationDispense": partial(care.medications, kind="dispense"),
    "MedicationAdministration": partial(care.medications, kind="administration"),
    "Immunization": care.immunizations,
    "DocumentReference": visits.documents,
    "Consent": visits.consents,
    "Communication": visits.communications,
}
BUNDLE: Final = "Bundle"
NAMES: Final = (*RESOURCES, BUNDLE)  # what `fhir_of` knows


def to_fhir(event: Event, zone: str | None = None) -> list[Json]:
    """Return every resource that an event gives, each complete in itself.

    ``zone`` is the IANA time zone of times without an offset; without it only their day is written. Raises `StepError`
    where FHIR needs what the event does not say.
    """
    links = Links(event, zone)
    return [resource for write in RESOURCES.values() for resource in write(links)]


def fhir_of(event: Event, name: str, zone: str | None = None) -> Json:
    """Return the one resource of a name of `NAMES`, or the transaction of all of them.

    Raises `StepError` where the event gives none or several of that name.
    """
    if name == BUNDLE:
        return to_bundle(event, zone)
    found = RESOURCES[name](Links(event, zone))
    if len(found) == 1:
        return found[0]
    if not found:
        raise StepError(f"fhir: the event gives no {name}; let `when:` choose the events that do", location=name)
    raise StepError(f"fhir: the event gives {len(found)} of {name}; write resource: {BUNDLE} for all of them")


def to_bundle(event: Event, zone: str | None = None) -> Json:
    """Return a transaction that creates or updates everything that an event gives, by identifier.

    Whoever repeats it writes the same again and nothing twice. Those who treat are created where they are missing, and
    left alone where they are there.
    """
    links = Links(event, zone, bundled=True)
    entries: dict[str, Json] = {}
    for name, write in RESOURCES.items():
        for resource in write(links):
            _put(entries, links, name, resource)
    told = {entry["fullUrl"] for entry in entries.values()}
    for address, who in links.people.items():
        if address not in told:
            resource = people.practitioner(links, who)
            request = {"method": "POST", "url": "Practitioner", "ifNoneExist": _search(resource)}
            entries[address] = {"fullUrl": address, "resource": resource, "request": request}
    return {"resourceType": BUNDLE, "type": "transaction", "entry": list(entries.values())}


def _put(entries: dict[str, Json], links: Links, name: str, resource: Json) -> None:
    """Add a conditional update; two of the same identifier would make a server refuse all, so a second gets its own."""
    url = f"{name}?{_search(resource)}"
    if url in entries:
        own = links.own(name, None, url, len(entries))
        resource = resource | {"identifier": [own, *resource["identifier"]]}
        url = f"{name}?{_search(resource)}"
    address = address_of(name, resource["identifier"][0])
    entries[url] = {"fullUrl": address, "resource": resource, "request": {"method": "PUT", "url": url}}


def _search(resource: Json) -> str:
    found = search_of(resource)
    if not found:
        raise StepError(f"fhir: {resource['resourceType']} has no identifier to find it again by")
    return found


def as_text(value: Any) -> str:
    """Return a resource as JSON; decimals keep the digits that they were sent with."""
    return orjson.dumps(value, default=_decimal).decode()


def _decimal(value: Any) -> orjson.Fragment:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError
