"""This module maps FHIR DocumentReference, Composition, Consent and Communication to the canonical model."""

from typing import Final

from broker.canonical.model import Attachment, ClinicalDocument, Communication, Consent, Identifier
from transforms.fhir_pool import Reader
from transforms.fhir_types import (
    Node,
    attachment,
    code,
    codes,
    concept,
    first_identifier,
    identifier,
    node,
    nodes,
    text,
    worded,
)
from transforms.map_fhir_results import first_person

# v3-ActReason -> the word that a channel's `consent:` uses; any other purpose stays as it was sent.
_PURPOSES: Final = {"TREAT": "treatment", "HMARKT": "marketing", "HRESCH": "research", "HPAYMT": "payment"}
# What a consent that names no purpose is of by its scope; only one about privacy in general is about all of them.
_SCOPES: Final = {"treatment": "treatment", "research": "research", "adr": "advance-directive"}


def map_document(reader: Reader, document: Node) -> ClinicalDocument:
    """Return a DocumentReference with its content, as it came or by where it is."""
    master = identifier(node(document, "masterIdentifier"))
    contents = [attachment(node(each, "attachment")) for each in nodes(document, "content")]
    return ClinicalDocument(
        identifier=master or first_identifier(document) or reader.named(document),
        replaces=_replaced(reader, document, "target"),
        type=concept(node(document, "type")),
        category=concept(node(document, "category")),
        status=text(document, "status"),
        completion=text(document, "docStatus"),
        title=text(document, "description") or next((each.title for each in contents if each and each.title), None),
        created_at=text(document, "date"),
        author=first_person(reader, document, "author"),
        authenticator=reader.practitioner(node(document, "authenticator")),
        confidentiality=next(iter(codes(document, "securityLabel")), None),
        attachments=tuple([each for each in contents if each]),
    )


def map_composition(reader: Reader, composition: Node) -> ClinicalDocument:
    """Return a Composition, the head of a document."""
    signatures = nodes(composition, "attester")
    legal = next((each for each in signatures if each.get("mode") in {"legal", "official"}), {})
    return ClinicalDocument(
        identifier=identifier(node(composition, "identifier")) or reader.named(composition),
        replaces=_replaced(reader, composition, "targetReference", "targetIdentifier"),
        type=concept(node(composition, "type")),
        category=concept(node(composition, "category")),
        status="entered-in-error" if text(composition, "status") == "entered-in-error" else "current",
        completion=text(composition, "status"),
        title=text(composition, "title"),
        created_at=text(composition, "date"),
        signed_at=text(legal, "time"),
        author=first_person(reader, composition, "author"),
        authenticator=reader.practitioner(node(legal, "party")),
        confidentiality=text(composition, "confidentiality"),
        attachments=_sections(composition),
    )


def _sections(composition: Node) -> tuple[Attachment, ...]:
    """Return where each section is written, by its path in the Composition; the words stay in the message."""
    return tuple(
        [
            Attachment(
                content_type="text/html",
                title=text(each, "title") or worded(concept(node(each, "code"))),
                url=f"Composition.section[{index}].text",
            )
            for index, each in enumerate(nodes(composition, "section"))
            if node(each, "text")
        ]
    )


def _replaced(reader: Reader, document: Node, link: str, named: str = "") -> Identifier | None:
    for each in nodes(document, "relatesTo"):
        if each.get("code") == "replaces":
            return identifier(node(each, named)) or reader.identifier(node(each, link))
    return None


def map_consent(reader: Reader, consent: Node) -> Consent:
    """Return a Consent; what it says beyond its first rule (nested provisions) stays in the message."""
    rule = node(consent, "provision")
    period = node(rule, "period")
    purpose = text(node(rule, "purpose"), "code")
    return Consent(
        identifier=first_identifier(consent) or reader.named(consent),
        status=text(consent, "status"),
        decision=text(rule, "type") or _decision(consent),
        scope=concept(node(consent, "scope")),
        category=concept(node(consent, "category")),
        purpose=_PURPOSES.get(purpose, purpose) if purpose else _SCOPES.get(code(node(consent, "scope")) or ""),
        given_at=text(consent, "dateTime"),
        starts_at=text(period, "start"),
        ends_at=text(period, "end"),
        policy=text(node(consent, "policy"), "uri") or code(node(consent, "policyRule")),
    )


def _decision(consent: Node) -> str | None:
    """Return what the rule of v3-ActCode says that a consent is based on."""
    return {"OPTIN": "permit", "OPTINR": "permit", "OPTOUT": "deny", "OPTOUTE": "deny"}.get(
        code(node(consent, "policyRule"), "v3-ActCode") or ""
    )


def map_communication(reader: Reader, communication: Node) -> Communication:
    """Return a Communication with what was written in it."""
    words = [text(each, "contentString") for each in nodes(communication, "payload")]
    return Communication(
        identifier=first_identifier(communication) or reader.named(communication),
        status=text(communication, "status"),
        category=concept(node(communication, "category")),
        medium=concept(node(communication, "medium")),
        topic=concept(node(communication, "topic")) or concept(node(communication, "reasonCode")),
        text="\n".join(each for each in words if each) or None,
        sent_at=text(communication, "sent"),
        received_at=text(communication, "received"),
        sender=reader.reference(sender) if (sender := node(communication, "sender")) else None,
        recipients=tuple([reader.reference(each) for each in nodes(communication, "recipient")]),
    )
