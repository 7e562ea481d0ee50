"""This module maps messages that bring results (ORU, OUL) to canonical events."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from broker.canonical.model import Concept, Event, Identifier, Observation, Practitioner, Result
from broker.wire.er7 import Message
from transforms.clinical import BLANK, Chart, Fields, Group
from transforms.clinical_event import clinical_event
from transforms.hl7_codes import concept, entity, first_concept, formatted, nested_entity, nested_practitioner
from transforms.hl7_types import Reader, reader_of
from transforms.map_observation import notes_of, observations_of, time_at, upper_code
from transforms.map_subject import fail, type_of

# HL7 table 0123 -> FHIR DiagnosticReportStatus.
STATUSES: Final = {
    "A": "partial", "C": "corrected", "F": "final", "I": "registered", "M": "corrected", "N": "registered",
    "O": "registered", "P": "preliminary", "R": "preliminary", "S": "registered", "X": "cancelled",
}  # fmt: skip
_CORRECTED: Final = frozenset({"corrected", "amended", "entered-in-error"})
_LABORATORY: Final = "LAB"
# Impressions, by LOINC and by HL7's suffix: what a report comes to.
_CONCLUSIONS: Final = frozenset({"19005-8", "IMP"})
_IMPRESSION: Final = "&IMP"


def map_result(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message with results tells: every report in it with its observations.

    Raises `StepError` with the location when it is about nobody or several patients, or has neither OBR nor OBX;
    ``without`` names fields of the patient that are not to be read, since something else does.
    """
    code, trigger = type_of(message)
    read = reader_of(message)
    chart = Chart(message, request_first=code == "OUL" and trigger != "R21")
    section = _LABORATORY if code == "OUL" else None
    results = tuple([map_report(group, read, section) for group in chart.groups if group.request or group.observations])
    if not (results or chart.head.observations):
        fail("OBR", "the message has neither OBR nor OBX, so it tells no result; filter it out before")
    event = clinical_event(message, without, chart, "", results=results)
    return replace(event, kind=kind_of(results, event.observations))


def map_report(group: Group, read: Reader, section: str | None = None) -> Result:
    """Return the report of one OBR with its OBX; ``section`` is OBR-24 where it does not say."""
    request, order = group.request or BLANK, group.order or BLANK
    at = time_at(read, request[7]) if request[7] else None
    category = upper_code(read, request[24]) or section
    observations = observations_of(group, read, at, category)
    parent, parent_code, parent_sub_id = _parent(request, read)
    return Result(
        identifier=entity(read, request[3]) or entity(read, order[3]),
        order=entity(read, request[2]) or entity(read, order[2]),
        code=first_concept(read, request[4]),
        status=STATUSES.get(upper_code(read, request[25])) or _summed([each.status for each in observations]),
        category=category,
        observed_at=at,
        issued_at=time_at(read, request[22]) if request[22] else None,
        orderer=practitioner_of(read, request[16], order[12]),
        interpreter=nested_practitioner(read, request[32]),
        specimen=specimen_of(group, read),
        observations=observations,
        conclusion=_conclusion(observations),
        notes=notes_of(group.notes, read),
        parent=parent,
        parent_code=parent_code,
        parent_sub_id=parent_sub_id,
    )


def practitioner_of(read: Reader, *fields: str) -> Practitioner | None:
    """Return the person that the first of the fields (XCN) names."""
    return next((found for field in fields if field and (found := read.practitioner(field))), None)


def specimen_of(group: Group, read: Reader) -> Concept | None:
    """Return what was or is to be examined: SPM-4, else OBR-15, which older versions have."""
    for fields in group.specimens:
        found = first_concept(read, fields[4])
        if found:
            return found
    source = group.request[15] if group.request and group.request[0] == "OBR" else ""
    if not source:
        return None
    kind, _, described = read.split(source, 3)
    text = formatted(read, described)
    return concept(read, read.raised(kind)) or (Concept(text=text) if text else None)


def _parent(request: Fields, read: Reader) -> tuple[Identifier | None, Concept | None, str | None]:
    """Return the report (OBR-29), the observation and its OBX-4 (OBR-26) that a report follows from."""
    placer, filler = read.split(request[29], 2)
    code, sub_id = read.split(request[26], 2)
    number = nested_entity(read, filler) or nested_entity(read, placer)
    return number, concept(read, read.raised(code)), read.plain(sub_id)


def _conclusion(observations: Sequence[Observation]) -> str | None:
    """Return the impressions of a report, where it has any."""
    lines = []
    for each in observations:
        code = each.code.code if each.code else None
        if code and each.value and (code in _CONCLUSIONS or code.endswith(_IMPRESSION)):
            lines.append(each.value)
    return "\n".join(lines) or None


def _summed(statuses: Sequence[str | None]) -> str | None:
    """Return the status of a report that its observations show."""
    said = {status for status in statuses if status}
    if not said:
        return None
    if said & _CORRECTED:
        return "corrected"
    if said == {"cancelled"}:
        return "cancelled"
    said.discard("cancelled")
    if said == {"final"}:
        return "final"
    return "partial" if "final" in said else "preliminary" if "preliminary" in said else "registered"


def kind_of(results: Sequence[Result], observations: Sequence[Observation]) -> str:
    """Return what the results are taken together: final when all are, and preliminary where nothing says so."""
    below = [each.status for result in results for each in result.observations]
    below += [each.status for each in observations]
    said = {result.status for result in results} or {_summed(below)}
    if said & _CORRECTED or _CORRECTED.intersection(below):
        return "result.corrected"
    if said == {"cancelled"}:
        return "result.cancelled"
    return "result.final" if said - {"cancelled"} == {"final"} else "result.preliminary"
