"""This module makes the canonical event of a message: the standard mapping, and what a channel maps otherwise."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

from pydantic import AfterValidator, Field

from broker.canonical.model import (
    Appointment,
    Consent,
    Encounter,
    Event,
    Identifier,
    Patient,
    is_known,
)
from broker.errors import StepError
from broker.message import Document
from broker.spec import Expression, StepSpec
from transforms.expression import Compiled
from transforms.map_cda import map_cda
from transforms.map_fhir import map_fhir
from transforms.map_message import map_message
from transforms.map_row import RowMapping, compile_kind, completed, no_mapping
from transforms.map_text import map_text
from transforms.mistakes import nearest
from transforms.policy import fields_of

if TYPE_CHECKING:
    from broker.parts import Transform

# Formats that have a standard mapping, besides HL7 v2.
_STANDARD: Final[dict[str, Callable[[Document], Event]]] = {
    "fhir": lambda document: map_fhir(document.message),
    "cda": lambda document: map_cda(document.message),
    "text": lambda document: map_text(document.message, document.received_at),
}
# The types of fields that one expression can fill.
_SETTABLE: Final = (str, bool, Identifier)


def _settable(kind: type) -> dict[str, type]:
    return {name: hint for name, hint in fields_of(kind).items() if hint in _SETTABLE}


def _check_names(kind: type, overrides: dict[str, Expression]) -> dict[str, Expression]:
    owner = kind.__name__.lower()
    for name in overrides:
        if name not in fields_of(kind):
            raise ValueError(f"{owner} has no {name!r}; {nearest(name, _settable(kind))}")
        if name not in _settable(kind):
            raise ValueError(f"{owner}.{name} is not one value, so an expression cannot fill it; use a script")
    return overrides


class CanonicalSpec(StepSpec):
    """Maps the message to a canonical event; single fields can be mapped by expressions instead.

    A message whose type has no standard mapping fails, so filter it out before.
    """

    kind: str = Field(
        default="",
        description="What a message tells, such as `patient.updated`, or an expression that gives it. "
        "Messages without a standard mapping (rows, JSON) need it; HL7 messages say it themselves.",
    )
    patient: Annotated[dict[str, Expression], AfterValidator(partial(_check_names, Patient))] = Field(
        default={}, description="Fields of the patient, each with an expression that replaces the standard mapping."
    )
    encounter: Annotated[dict[str, Expression], AfterValidator(partial(_check_names, Encounter))] = Field(
        default={}, description="Fields of the encounter, each with an expression that replaces the standard mapping."
    )
    appointment: Annotated[dict[str, Expression], AfterValidator(partial(_check_names, Appointment))] = Field(
        default={},
        description="Fields of the appointment, each with an expression that replaces the standard mapping.",
    )
    consent: Annotated[dict[str, Expression], AfterValidator(partial(_check_names, Consent))] = Field(
        default={},
        description="What the patient allows or forbids, each field with an expression: `decision` (permit, deny), "
        "`purpose`, `channel` (sms, email, phone; nothing: any) and others. Without a decision nothing is said.",
    )
    strict: bool = Field(
        default=False,
        description="Whether a date or time that is none fails the message; else event.unread names its place.",
    )

    def build(self, kit: Any) -> "Transform":
        """Build the step; raise `ExpressionError` for a mistake in an expression."""
        return Canonical(
            self._mapping(kit),
            tuple(_override(Patient, name, kit.expression(text)) for name, text in self.patient.items()),
            tuple(_override(Encounter, name, kit.expression(text)) for name, text in self.encounter.items()),
            tuple(_override(Appointment, name, kit.expression(text)) for name, text in self.appointment.items()),
            tuple(_override(Consent, name, kit.expression(text)) for name, text in self.consent.items()),
            frozenset(self.patient),
            self.strict,
        )

    def _mapping(self, kit: Any) -> Callable[[Document], Event] | None:
        if kit.format.kind == "hl7":
            return None
        if self.kind:
            kind = compile_kind(self.kind, kit)
            return RowMapping(kind, kit.format.kind, bool(self.encounter), bool(self.appointment))
        standard = _STANDARD.get(kit.format.kind)
        if standard is None:
            raise no_mapping(kit.format.kind)
        return standard


@dataclass(frozen=True, slots=True)
class Override:
    """One field that an expression fills instead of the standard mapping."""

    field: str
    place: str  # such as patient.mobile
    expression: Compiled
    fit: Callable[[Any, Any], Any]  # fit(owner, value) -> the value as the field takes it; raises TypeError

    def value(self, owner: Any, document: Document) -> Any:
        """Return the new value for the field of ``owner``; raise `StepError` when it does not fit."""
        value = self.expression(document)
        try:
            return None if value is None or value == "" else self.fit(owner, value)
        except TypeError as error:
            locations = self.expression.locations
            location = str(locations[0]) if len(locations) == 1 else ""
            raise StepError(f"{self.place}: {error}", step="canonical", location=location) from None


@dataclass(frozen=True, slots=True)
class Canonical:
    """The step."""

    mapping: Callable[[Document], Event] | None = None  # None: that of HL7 v2
    patient: tuple[Override, ...] = ()
    encounter: tuple[Override, ...] = ()
    appointment: tuple[Override, ...] = ()
    consent: tuple[Override, ...] = ()
    own: frozenset[str] = frozenset()  # the fields of the patient that are overridden
    strict: bool = False

    def __call__(self, document: Document) -> Document:
        """Return the document with its event; raise `StepError` with the location where it cannot be mapped."""
        event = map_message(document.message, self.own) if self.mapping is None else self.mapping(document)
        if self.strict and event.unread:
            _refuse(event.unread)
        result = Document(
            message=document.message,
            received_at=document.received_at,
            event=event,
            values=document.values,
            body=document.body,
        )
        if self.patient:
            result.event = event = _replaced(event, "patient", event.patient, self.patient, result)
        if self.encounter and event.encounter is not None:
            result.event = event = _replaced(event, "encounter", event.encounter, self.encounter, result)
        if self.appointment and event.appointment is not None:
            result.event = event = _replaced(event, "appointment", event.appointment, self.appointment, result)
        if self.consent:
            result.event = event = _with_consent(event, self.consent, result)
        if isinstance(self.mapping, RowMapping):
            result.event = completed(event, document)
        elif not is_known(event):
            text = "PID-3 has no identifier of type MR, PI or PT, nor one without a type; map patient.mrn in this step"
            raise StepError(text, step="canonical", location="PID-3", condition=101)
        return result


def _refuse(unread: tuple[str, ...]) -> NoReturn:
    text = (
        f"{', '.join(unread)}: not the date, time or number that must be there; correct it at the sender or map it here"
    )
    raise StepError(text, step="canonical", location=unread[0], condition=102)


def _replaced(event: Event, part: str, owner: Any, overrides: tuple[Override, ...], document: Document) -> Event:
    values = {override.field: override.value(owner, document) for override in overrides}
    cleared = tuple(name for name in event.cleared if name.removeprefix(f"{part}.") not in values)
    return dataclasses.replace(event, cleared=cleared, **{part: dataclasses.replace(owner, **values)})


def _with_consent(event: Event, overrides: tuple[Override, ...], document: Document) -> Event:
    changed = _replaced(event, "consent", event.consent or Consent(), overrides, document)
    decision = changed.consent.decision if changed.consent is not None else None
    if decision not in {None, "permit", "deny"}:
        raise StepError("consent.decision: the expression must give permit or deny, or nothing", step="canonical")
    return event if decision is None else changed


def _override(kind: type, field: str, expression: Compiled) -> Override:
    return Override(field, f"{kind.__name__.lower()}.{field}", expression, _FITS[_settable(kind)[field]])


def _text(_owner: Any, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("the expression must give a text")
    return str(value)


def _flag(_owner: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("Y", "N"):
        return bool(value == "Y")
    raise TypeError("the expression must give true or false, or Y or N")


def _identifier(owner: Any, value: Any) -> Identifier:
    """Take an identifier, or a value: then the identifier of the patient that has it, with its authority and type."""
    if isinstance(value, Identifier):
        return value
    if isinstance(value, dict) and value.get("value") and all(isinstance(part, str) for part in value.values()):
        try:
            return Identifier(**value)
        except TypeError:
            raise TypeError("an identifier has value, system and type") from None
    text = _text(owner, value) if not isinstance(value, dict) else None
    if text is None:
        raise TypeError("the expression must give an identifier's value, or value, system and type")
    known = getattr(owner, "identifiers", ())
    return next((identifier for identifier in known if identifier.value == text), Identifier(value=text))


_FITS: Final[dict[type, Callable[[Any, Any], Any]]] = {str: _text, bool: _flag, Identifier: _identifier}
