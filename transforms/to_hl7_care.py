"""This module writes the segments about what was arranged and found: SCH, AIS, OBR, TXA, RF1, AL1, DG1."""

from typing import Final

from broker.canonical.model import (
    Allergy,
    Appointment,
    ClinicalDocument,
    Condition,
    Event,
    Observation,
    Organization,
    Practitioner,
    Referral,
    Result,
)
from transforms.to_hl7_types import (
    address,
    code,
    concept,
    entity,
    identifier,
    joined,
    location,
    nested_practitioner,
    organization,
    practitioner,
    repeated,
    row,
    stamp,
    telecoms,
    text,
)
from transforms.to_hl7_values import attached, nte, obx

# FHIR AppointmentStatus -> HL7 table 0278.
_FILLER_STATUSES: Final = {
    "proposed": "Pending", "pending": "Pending", "waitlist": "Waitlist", "booked": "Booked", "arrived": "Started",
    "checked-in": "Started", "fulfilled": "Complete", "cancelled": "Cancelled", "noshow": "Noshow",
    "entered-in-error": "Deleted",
}  # fmt: skip
# FHIR DiagnosticReportStatus -> HL7 table 0123.
_REPORT_STATUSES: Final = {
    "registered": "I", "partial": "A", "preliminary": "P", "final": "F", "amended": "C", "corrected": "C",
    "appended": "C", "cancelled": "X", "entered-in-error": "X",
}  # fmt: skip
# FHIR -> HL7 tables 0271 (completion) and 0273 (availability) of a document.
_COMPLETIONS: Final = {"preliminary": "IP", "final": "AU", "amended": "AU"}
_AVAILABILITIES: Final = {"current": "AV", "superseded": "OB", "entered-in-error": "CA"}
# FHIR's codes of ServiceRequest -> HL7 tables 0283 and 0280.
_REFERRAL_STATUSES: Final = {"active": "A", "draft": "P", "on-hold": "P", "revoked": "R", "completed": "E"}
_PRIORITIES: Final = {"stat": "S", "asap": "A", "routine": "R", "urgent": "U"}
# HL7 tables 0127 and 0128 of an allergy.
_ALLERGENS: Final = {"medication": "DA", "food": "FA", "environment": "EA"}
_SEVERITIES: Final = {"severe": "SV", "moderate": "MO", "mild": "MI"}


def schedule(given: Appointment, application: str) -> list[str]:
    """Return SCH with its TQ1 and NTE; ``application`` stands in where HL7 wants to know who entered it."""
    own = given.identifier if given.identifier != given.filler else None
    minutes = str(given.minutes) if given.minutes and given.minutes > 0 else ""
    start, end = stamp(given.starts_at), stamp(given.ends_at)
    contact = practitioner(given.practitioners[0]) if given.practitioners else application
    fields = {
        1: entity(own),
        2: entity(given.filler),
        6: concept(given.event_reason),
        7: concept(given.reason),
        8: concept(given.type),
        9: minutes,
        10: "MIN" if minutes else "",
        11: joined("", "", f"M{minutes}" if minutes else "", start, end),
        16: contact,
        20: application,
        25: _FILLER_STATUSES.get(given.status or "", ""),
    }
    timing = {
        1: "1",
        6: f"{minutes}^min" if minutes else "",
        7: start,
        8: end,
        9: text(given.priority),
    }
    return [row("SCH", fields), row("TQ1", timing), *nte((given.comment,) if given.comment else ())]


def booked(given: Appointment) -> list[str]:
    """Return RGS with what and who is booked: AIS, AIG, AIL, AIP."""
    start, lines = stamp(given.starts_at), ["RGS|1"]
    for number, service in enumerate(given.services, 1):
        lines.append(row("AIS", {1: str(number), 3: concept(service), 4: start}))
    for number, thing in enumerate(given.resources, 1):
        lines.append(row("AIG", {1: str(number), 3: concept(thing), 4: "^resource", 8: start}))
    for number, where in enumerate(given.locations, 1):
        lines.append(row("AIL", {1: str(number), 3: location(where), 6: start}))
    for number, who in enumerate(given.practitioners, 1):
        role = f"^{text(who.role)}" if who.role else ""
        lines.append(row("AIP", {1: str(number), 3: practitioner(who), 4: role, 6: start}))
    return lines


def reports(event: Event, version: tuple[int, ...]) -> list[str]:
    """Return OBR with its NTE and OBX for each report; what belongs to no report stands below one of its own."""
    lines: list[str] = []
    for number, given in enumerate(event.results, 1):
        lines += _report(number, given, version)
    if event.observations:
        lines += _loose(len(event.results) + 1, event.observations, version)
    return lines


def _report(number: int, given: Result, version: tuple[int, ...]) -> list[str]:
    fields = {
        1: str(number),
        2: entity(given.order),
        3: entity(given.identifier),
        4: concept(given.code),
        7: stamp(given.observed_at),
        15: concept(given.specimen).replace("^", "&") if version < _SPM else "",
        16: practitioner(given.orderer),
        22: stamp(given.issued_at),
        24: text(given.category),
        25: _REPORT_STATUSES.get(given.status or "", ""),
        26: joined(concept(given.parent_code).replace("^", "&"), text(given.parent_sub_id)),
        29: joined("", entity(given.parent).replace("^", "&")),
        32: nested_practitioner(given.interpreter),
    }
    lines = [row("OBR", fields), *nte(given.notes), *obx(given.observations, version, status=given.status)]
    count = len(lines)
    files = enumerate(given.attachments, count)
    lines += [attached(number, each, each.title or "report", given.status) for number, each in files]
    if given.specimen is not None and version >= _SPM:
        lines.append(row("SPM", {1: "1", 4: concept(given.specimen)}))
    return lines


_SPM: Final = (2, 5)
_PRD_10: Final = (2, 6)


def _loose(number: int, given: tuple[Observation, ...], version: tuple[int, ...]) -> list[str]:
    first = given[0]
    fields = {1: str(number), 4: concept(first.code), 7: stamp(first.observed_at)}
    return [row("OBR", fields), *obx(given, version)]


def document(given: ClinicalDocument, control_id: str) -> str:
    """Return TXA; a document without a number gets the message's, because it must have one."""
    files = given.attachments
    presentation = "TX" if files and files[0].encoding is None else "AP" if files else ""
    fields = {
        1: "1",
        2: code(given.type),
        3: presentation,
        4: stamp(given.created_at),
        6: stamp(given.created_at),
        9: practitioner(given.author),
        12: entity(given.identifier) or text(control_id),
        13: entity(given.replaces),
        17: _COMPLETIONS.get(given.completion or "", ""),
        18: text(given.confidentiality),
        19: _AVAILABILITIES.get(given.status or "", ""),
        22: _signature(given.authenticator, given.signed_at),
        25: text(given.title),
    }
    return row("TXA", fields)


def _signature(who: Practitioner | None, at: str | None) -> str:
    parts = practitioner(who).split("^")
    return joined(*parts, *[""] * (14 - len(parts)), stamp(at))


def contents(given: ClinicalDocument, observations: tuple[Observation, ...], version: tuple[int, ...]) -> list[str]:
    """Return the OBX of a document: its files and texts, then what else was observed."""
    title = given.title or "document"
    lines = [attached(number, each, title, given.completion) for number, each in enumerate(given.attachments, 1)]
    lines += obx(observations, version, len(lines) + 1, given.completion)
    return lines or [row("OBX", {1: "1", 2: "TX", 3: f"^{text(title)}", 11: "F"})]


def referral(given: Referral, event: Event, version: tuple[int, ...]) -> list[str]:
    """Return RF1, AUT and PRD."""
    fields = {
        1: _REFERRAL_STATUSES.get(given.status or "", ""),
        2: _PRIORITIES.get(given.priority or "", ""),
        3: concept(given.type),
        4: concept(given.disposition),
        5: concept(given.category),
        6: entity(given.identifier),
        7: stamp(given.effective_at),
        8: stamp(given.expires_at),
        10: concept(given.reason),
    }
    lines = [row("RF1", fields)]
    if given.authorization is not None:
        payer = event.coverage[0].payer if event.coverage else None
        company = identifier(payer.identifier).partition("^")[0] if payer and payer.identifier else "^unknown"
        lines.append(row("AUT", {2: company, 6: entity(given.authorization)}))
    lines.append(_provider("RP", given.sender, None, version))
    if given.receiver is not None or given.receiving_organization is not None:
        lines.append(_provider("RT", given.receiver, given.receiving_organization, version))
    return lines


def _provider(role: str, given: Practitioner | None, company: Organization | None, version: tuple[int, ...]) -> str:
    who = given or Practitioner()
    home, work = telecoms(who.telecom)
    numbers = who.identifiers or ((who.identifier,) if who.identifier else ())
    full = joined(text(who.family), text(who.given), "", text(who.suffix), text(who.prefix))
    fields = {
        1: role,
        2: full,
        3: repeated(map(address, who.addresses)),
        5: repeated((home, work)),
        7: repeated(joined(text(each.value), text(each.type), text(each.system)) for each in numbers),
        10: organization(company),
    }
    if company is not None and version < _PRD_10:
        fields[4] = joined(*[""] * 8, text(company.name))  # in words, where the provider is (PL.9)
    return row("PRD", fields)


def al1(event: Event) -> list[str]:
    """Return an AL1 for each allergy that stands."""
    standing = [each for each in event.allergies if each.verification_status not in {"refuted", "entered-in-error"}]
    return [_allergy(number, each) for number, each in enumerate(standing, 1)]


def _allergy(number: int, given: Allergy) -> str:
    return row(
        "AL1",
        {
            1: str(number),
            2: _ALLERGENS.get(given.category or "", ""),
            3: concept(given.code),
            4: _SEVERITIES.get(given.severity or "", ""),
            5: repeated(code(each) for each in given.reactions),
            6: stamp(given.onset_at)[:8],
        },
    )


def dg1(event: Event) -> list[str]:
    """Return a DG1 for each condition."""
    return [_diagnosis(number, each) for number, each in enumerate(event.conditions, 1)]


def _diagnosis(number: int, given: Condition) -> str:
    return row(
        "DG1",
        {
            1: str(number),
            3: concept(given.code),
            4: text(given.notes[0]) if given.notes else "",
            5: stamp(given.onset_at),
            6: text(given.kind),
            15: "" if given.rank is None else str(given.rank),
            16: practitioner(given.asserter),
            19: stamp(given.recorded_at),
            20: entity(given.identifier),
            21: "D" if given.verification_status == "entered-in-error" else "",
        },
    )
