"""This module maps any HL7 v2 message to its canonical event: it finds the standard mapping for the message code."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from broker.canonical.model import WITHOUT_PATIENT, Event
from broker.wire.er7 import Message
from transforms.map_account import map_account, map_charges
from transforms.map_adt import map_adt
from transforms.map_appointment import map_appointment, map_appointment_answer, map_appointment_request
from transforms.map_document import map_document
from transforms.map_order import map_order
from transforms.map_pharmacy import map_pharmacy
from transforms.map_problem import map_problem
from transforms.map_query import map_acknowledgment, map_answer, map_question
from transforms.map_referral import map_referral, map_referral_answer
from transforms.map_result import map_result
from transforms.map_staff import map_staff
from transforms.map_subject import fail_type, refuse_excess, type_of, unread_of
from transforms.map_vaccination import map_vaccination

Mapper = Callable[[Message, frozenset[str]], Event]

# Message code (HL7 table 0076) -> its mapping.
MAPPERS: Final[dict[str, Mapper]] = {
    "ADT": map_adt,
    "SIU": map_appointment,
    "SRM": map_appointment_request,
    "SRR": map_appointment_answer,
    "REF": map_referral,
    "RRI": map_referral_answer,
    "MDM": map_document,
    "BAR": map_account,
    "DFT": map_charges,
    "MFN": map_staff,
    **dict.fromkeys(("ORU", "OUL"), map_result),
    **dict.fromkeys(("ORM", "OMG", "OML", "OMI", "OMD", "ORR", "ORL", "ORG"), map_order),
    **dict.fromkeys(("VXU", "VXR"), map_vaccination),
    **dict.fromkeys(("RDE", "RDS", "RAS", "RGV", "OMP", "RRE", "RRD", "RRA", "RRG", "ORP"), map_pharmacy),
    "PPR": map_problem,
    **dict.fromkeys(("QBP", "QCN", "QRY", "QSB", "QVR", "RQI", "RQP", "SPQ", "SQM", "VQQ", "VXQ", "EQQ"), map_question),
    **dict.fromkeys(
        ("ADR", "DSR", "EDR", "ERP", "ORF", "OSR", "RPI", "RPL", "RPR", "RSP", "RTB", "SQR", "TBR", "VXX"), map_answer
    ),
    **dict.fromkeys(("ACK", "MCF", "MFK"), map_acknowledgment),
}


def map_message(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message tells; ``patient.mrn`` is None when PID has no usable identifier.

    ``without`` names fields of the patient that are not to be read, since something else does. Raises `StepError` with
    the location where the message type is not mapped, or the message lacks what the event cannot do without.
    """
    refuse_excess(message)
    code, trigger = type_of(message)
    mapper = MAPPERS.get(code) or fail_type(message, MAPPERS)
    event = mapper(message, without)
    if event.kind in WITHOUT_PATIENT:
        return event
    unread = unread_of(message, trigger if code == "ADT" else "", without)
    return replace(event, unread=event.unread + unread) if unread else event
