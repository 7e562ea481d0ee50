"""This module maps messages that ask for something, and the answers to them (ORM, OMG, OML, ORR …), to events."""

from collections.abc import Iterable
from typing import Final

from broker.canonical.model import Concept, Event, Identifier, Observation, Order, Result
from broker.wire.er7 import Message
from transforms.clinical import BLANK, Chart, Fields, Group
from transforms.clinical_event import clinical_event
from transforms.hl7_codes import concept, entity, first_concept, formatted, nested_entity
from transforms.hl7_types import Reader, reader_of
from transforms.map_observation import notes_of, observations_of, time_at, upper_code
from transforms.map_pharmacy import medications_of
from transforms.map_result import map_report, practitioner_of, specimen_of
from transforms.map_subject import fail, type_of

PLACED, UPDATED, CANCELLED, ANSWERED = "order.placed", "order.updated", "order.cancelled", "order.answered"

# HL7 table 0119 (what ORC-1 asks for or says); what stands nowhere here changes an order.
_KINDS: Final = {
    **dict.fromkeys(("NW", "SN", "PA", "CH", "OP", "PY"), PLACED),
    **dict.fromkeys(("CA", "OC", "CR", "DC", "OD", "DR"), CANCELLED),
    **dict.fromkeys(("OK", "UA", "UC", "UD", "UF", "UH", "UM", "UR", "UX", "NA", "RR", "SR", "DE"), ANSWERED),
}
PREVIOUS: Final = frozenset({"PR", "RE", ""})  # what stands over earlier results that come with an order
# HL7 table 0038 -> FHIR request status.
STATUSES: Final = {
    "A": "active", "CA": "revoked", "CM": "completed", "DC": "revoked", "ER": "unknown", "HD": "on-hold",
    "IP": "active", "RP": "revoked", "SC": "active",
}  # fmt: skip
# What ORC-1 says of the status, over ORC-5: a message that cancels may still tell the state before it.
_ENDED: Final = {
    **dict.fromkeys(("CA", "OC", "CR", "DC", "OD", "DR", "UA"), "revoked"),
    **dict.fromkeys(("HD", "HR", "OH"), "on-hold"),
}
# What it says where ORC-5 says nothing.
_BEGUN: Final = dict.fromkeys(("NW", "SN", "PA", "CH", "OP", "PY", "RO", "OK", "NA", "OE", "OR", "RL", "IP"), "active")
# HL7 table 0485, and what senders write instead -> FHIR request priority.
_PRIORITIES: Final = {
    "S": "stat", "STAT": "stat", "A": "asap", "ASAP": "asap", "R": "routine", "ROUTINE": "routine", "RTN": "routine",
    "T": "urgent", "U": "urgent", "UR": "urgent", "URGENT": "urgent", "E": "urgent", "P": "routine", "N": "routine",
}  # fmt: skip


def map_order(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message with orders tells.

    Raises `StepError` with the location when it is about nobody or several patients, or has no order;
    ``without`` names fields of the patient that are not to be read, since something else does.
    """
    code = type_of(message)[0]
    read = reader_of(message)
    chart = Chart(message)
    orders, results, observations = orders_of(chart, read)
    if not orders:
        fail("ORC", "the message has neither ORC nor OBR, so it tells no order; filter it out before")
    kind = ANSWERED if code.startswith(("ORR", "ORL", "ORG", "ORI")) else kind_of(orders)
    medications = medications_of(chart, read)
    return clinical_event(
        message,
        without,
        chart,
        kind,
        orders=orders,
        results=results,
        observations=observations,
        medications=medications,
    )


def orders_of(chart: Chart, read: Reader) -> tuple[tuple[Order, ...], tuple[Result, ...], tuple[Observation, ...]]:
    """Return the orders of a message, the earlier results that came with them, and what was observed for them."""
    orders, results = [], []
    observations: tuple[Observation, ...] = ()
    for group in chart.groups:
        control = upper_code(read, group.order[1]) if group.order else ""
        if control == "PR" or (group.prior and control in PREVIOUS):
            results.append(map_report(group, read))
        else:
            orders.append(map_one(group, read, control))
            request = group.request or BLANK
            observations += observations_of(group, read, time_at(read, request[7]) if request[7] else None)
    return tuple(orders), tuple(results), observations


def kind_of(orders: Iterable[Order]) -> str:
    """Return what happened to the orders of a message: an update where it is not the same for all of them."""
    kinds = {_KINDS.get(order.control, UPDATED) if order.control else PLACED for order in orders}
    return kinds.pop() if len(kinds) == 1 else UPDATED


def map_one(group: Group, read: Reader, control: str) -> Order:
    """Return the order of a group; ``control`` is ORC-1."""
    order, request = group.order or BLANK, group.request or BLANK
    if request[0] != "OBR":  # requests of other kinds have fields of their own
        request = BLANK
    starts_at, ends_at = _wanted(group, order, request, read)
    return Order(
        identifier=entity(read, order[2]) or entity(read, request[2]),
        filler=entity(read, order[3]) or entity(read, request[3]),
        group=entity(read, order[4]),
        control=control or None,
        status=_ENDED.get(control) or STATUSES.get(upper_code(read, order[5])) or _BEGUN.get(control),
        priority=_priority(group, order, request, read),
        code=_code(group, read),
        ordered_at=time_at(read, order[9]) if order[9] else None,
        starts_at=starts_at,
        orderer=practitioner_of(read, order[12], request[16]),
        reason=_reason(group, order, request, read),
        specimen=specimen_of(group, read),
        notes=_notes(group, request, read),
        ends_at=ends_at,
        parent=_parent(order[8] or request[29], read),
    )


def _code(group: Group, read: Reader) -> Concept | None:
    """Return what is asked for: OBR-4, the item of a requisition, a diet, or a drug."""
    if group.request is not None:
        name = group.request[0]
        number = {"OBR": 4, "RQD": 2, "RQ1": 4, "ODS": 3, "ODT": 1}[name]
        found = first_concept(read, group.request[number])
        return found or (first_concept(read, group.request[3]) if name == "RQD" else None)
    for treatment in group.treatments:
        fields = treatment.fields
        found = first_concept(read, fields[{"RXO": 1, "RXE": 2, "RXD": 2, "RXG": 4, "RXA": 5}[fields[0]]])
        if found:
            return found
    return None


def _wanted(group: Group, order: Fields, request: Fields, read: Reader) -> tuple[str | None, str | None]:
    """Return from when until when something is wanted: TQ1, else ORC-7, OBR-27, OBR-6 of older versions, ORC-15."""
    for timing in group.timings:
        if timing[7] or timing[8]:
            return time_at(read, timing[7]), time_at(read, timing[8])
    for field in (order[7], request[27]):
        begin, end = read.split(field, 5)[3:] if field else ("", "")
        if begin or end:
            return time_at(read, begin), time_at(read, end)
    return time_at(read, request[6] or order[15]), None


def _priority(group: Group, order: Fields, request: Fields, read: Reader) -> str | None:
    """Return how urgent it is: TQ1-9, else the sixth component of ORC-7 and OBR-27, else OBR-5."""
    codes = [upper_code(read, timing[9]) for timing in group.timings]
    codes += [(read.component(field, 6) or "").upper() for field in (order[7], request[27]) if field]
    codes.append(upper_code(read, request[5]))
    return next((_PRIORITIES[code] for code in codes if code in _PRIORITIES), None)


def _reason(group: Group, order: Fields, request: Fields, read: Reader) -> Concept | None:
    """Return why: OBR-31, else the first diagnosis below the order, else ORC-16, the reason of the control code."""
    for field in (request[31], *[fields[3] or fields[4] for fields in group.diagnoses], order[16]):
        found = first_concept(read, field)
        if found:
            return found
    return None


def _notes(group: Group, request: Fields, read: Reader) -> tuple[str, ...]:
    """Return the notes of an order, and what the orderer (OBR-13) and the collector (OBR-39) say of the patient."""
    said = [formatted(read, request[13]) if request[13] else None]
    collector = concept(read, request[39])
    said.append(collector.text or collector.code if collector else None)
    return tuple([text for text in said if text]) + notes_of(group.notes, read)


def _parent(field: str, read: Reader) -> Identifier | None:
    """Return the order that this one is part of (EIP)."""
    placer, filler = read.split(field, 2) if field else ("", "")
    return nested_entity(read, placer) or nested_entity(read, filler)
