"""This module maps accounts and what is charged to them (BAR, DFT) to canonical events."""

from typing import Final

from broker.canonical.model import Account, Charge, Event, Patient
from broker.wire.er7 import Message
from transforms.hl7_codes import entity, first_concept, number
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_coverage import coverage
from transforms.map_lists import allergies_of, conditions_of
from transforms.map_loose import loose_observations
from transforms.map_observation import time_at
from transforms.map_people import related_people
from transforms.map_subject import encounter_of, fields_of, occurred_at, patient_of, source_of, trigger_of

TRIGGERS: Final = {
    "P01": "account.opened",
    "P02": "account.updated",
    "P05": "account.updated",
    "P06": "account.closed",
    "P10": "account.updated",
    "P12": "account.updated",
}
CHARGES: Final = {"P03": "account.charged", "P11": "account.charged"}
_CLOSED: Final = "account.closed"
_ENDED: Final = frozenset({"P02", "P06"})  # purged, ended
_PV1_FIELDS: Final = 46
_FT1_FIELDS: Final = 25


def map_account(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that a message about an account (BAR) tells; see `map_adt`."""
    trigger = trigger_of(message, TRIGGERS)
    return _event(message, TRIGGERS[trigger], without, active=trigger not in _ENDED)


def map_charges(message: Message, without: frozenset[str] = frozenset()) -> Event:
    """Return the event that charges posted to an account (DFT) tell."""
    return _event(message, CHARGES[trigger_of(message, CHARGES)], without)


def _event(message: Message, kind: str, without: frozenset[str], *, active: bool = True) -> Event:
    patient, cleared = patient_of(message, without)
    encounter, emptied = encounter_of(message)
    return Event(
        kind=kind,
        occurred_at=occurred_at(message),
        source=source_of(message),
        patient=patient,
        encounter=encounter,
        account=_account(message, patient, kind, active=active),
        cleared=cleared + emptied,
        observations=loose_observations(message),
        conditions=conditions_of(message),
        allergies=allergies_of(message),
        coverage=coverage(message),
        related_people=related_people(message),
    )


def _account(message: Message, patient: Patient, kind: str, *, active: bool) -> Account:
    read, fields = reader_of(message), fields_of(message, "PV1", _PV1_FIELDS)
    happened = occurred_at(message)
    return Account(
        identifier=patient.account,
        status="active" if active else "inactive",
        type=first_concept(read, fields[20]),  # the financial class
        opened_at=happened if kind == TRIGGERS["P01"] else None,
        closed_at=happened if kind == _CLOSED else None,
        balance=number(read.first(fields[46])),
        charges=_charges(read, tuple(message.texts("FT1")), message.separators.field),
    )


@kept
def _charges(read: Reader, texts: tuple[str, ...], separator: str) -> tuple[Charge, ...]:
    return tuple([_charge(padded(text.split(separator), _FT1_FIELDS), read) for text in texts])


def _charge(fields: list[str], read: Reader) -> Charge:
    return Charge(
        identifier=entity(read, fields[2]),
        type=read.first(fields[6]),
        code=first_concept(read, fields[7]) or first_concept(read, fields[25]),
        # An amount is a CP: the price in its first subcomponent; that of one unit stands in where nobody multiplied.
        amount=number(read.first(fields[11])) or number(read.first(fields[12])),
        quantity=number(read.first(fields[10])),
        charged_at=time_at(read, fields[4]),
        performer=read.practitioner(fields[20]) if fields[20] else None,
    )
