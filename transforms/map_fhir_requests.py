"""This module maps FHIR ServiceRequest to a canonical order or referral."""

from typing import Final

from broker.canonical.model import Concept, Identifier, Order, Organization, Practitioner, Referral
from transforms.fhir_pool import Reader
from transforms.fhir_types import (
    Node,
    codes,
    concept,
    concepts,
    first_identifier,
    identifier,
    moment,
    node,
    nodes,
    notes,
    text,
)

# SNOMED CT: patient referral, referral to service, referral to establish care; and what people write instead.
_REFERRALS: Final = frozenset({"3457005", "306206005", "308292007", "103696004", "referral", "REF"})


def is_referral(request: Node) -> bool:
    """Say whether a ServiceRequest sends the patient on: by its category, or by its code."""
    found = {*codes(request, "category"), *codes(request, "code")}
    words = " ".join(str(each.get("text", "")) for each in nodes(request, "category")).lower()
    return bool(found & _REFERRALS) or "referral" in words


def map_order(reader: Reader, request: Node) -> Order:
    """Return a ServiceRequest as order."""
    placer, filler = first_identifier(request, "PLAC"), first_identifier(request, "FILL")
    first = first_identifier(request)
    return Order(
        identifier=placer or (first if first != filler else None) or reader.named(request),
        filler=filler,
        group=identifier(node(request, "requisition")),
        status=text(request, "status"),
        intent=text(request, "intent"),
        priority=text(request, "priority"),
        code=concept(node(request, "code")),
        ordered_at=text(request, "authoredOn"),
        starts_at=moment(request, "occurrence") or _bounds(request),
        orderer=reader.practitioner(node(request, "requester")),
        reason=_reason(reader, request),
        specimen=_specimen(reader, request),
        notes=_notes(request),
    )


def map_referral(reader: Reader, request: Node) -> Referral:
    """Return a ServiceRequest as referral: from its requester to its first performer."""
    receiver, organization = _receiver(reader, request)
    period = node(request, "occurrencePeriod")
    return Referral(
        identifier=first_identifier(request) or reader.named(request),
        status=text(request, "status"),
        priority=text(request, "priority"),
        type=concept(node(request, "code")) or concept(node(request, "performerType")),
        category=concept(node(request, "category")),
        reason=_reason(reader, request),
        sender=reader.practitioner(node(request, "requester")),
        receiver=receiver,
        receiving_organization=organization,
        effective_at=moment(request, "occurrence") or text(request, "authoredOn"),
        expires_at=text(period, "end"),
        authorization=_authorization(reader, request),
        notes=_notes(request),
    )


def _receiver(reader: Reader, request: Node) -> tuple[Practitioner | None, Organization | None]:
    person = organization = None
    for link in nodes(request, "performer"):
        if reader.find(link).kind == "Organization":
            organization = organization or reader.organization(link)
        else:
            person = person or reader.practitioner(link)
    return person, organization


def _authorization(reader: Reader, request: Node) -> Identifier | None:
    """Return by what the payer's answer is known, where the request names one."""
    for link in nodes(request, "insurance"):
        if reader.find(link).kind == "ClaimResponse":
            return reader.identifier(link)
    return None


def _reason(reader: Reader, request: Node) -> Concept | None:
    if found := concept(node(request, "reasonCode")):
        return found
    told = (concept(node(each, "code")) for each in reader.each(request, "reasonReference"))
    return next((each for each in told if each), None)


def _specimen(reader: Reader, request: Node) -> Concept | None:
    told = (concept(node(each, "type")) for each in reader.each(request, "specimen"))
    return next((each for each in told if each), None)


def _bounds(request: Node) -> str | None:
    return text(node(node(node(request, "occurrenceTiming"), "repeat"), "boundsPeriod"), "start")


def _notes(request: Node) -> tuple[str, ...]:
    instruction = text(request, "patientInstruction")
    details = [each.text for each in concepts(request, "orderDetail") if each.text]
    return (*notes(request), *details, *((instruction,) if instruction else ()))
