"""This module maps what a message says of an accident (ACC) or a death (PDA) to canonical observations."""

from typing import Final

from broker.canonical.model import Concept, Observation
from broker.wire.er7 import Message
from transforms.hl7_codes import first_concept
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_encounter import time_of

_ACC_FIELDS: Final = 11
_PDA_FIELDS: Final = 9
_NAMES: Final = {"Y": "Yes", "N": "No"}  # HL7 table 0136

INJURY: Final = Concept(code="injury-incident", text="Injury incident description narrative")
CAUSE: Final = Concept(code="cause-of-death", text="Cause of death")
CERTIFIED: Final = Concept(code="death-certificate", text="Death certificate")
AUTOPSY: Final = Concept(code="autopsy", text="Autopsy")
CORONER: Final = Concept(code="coroner", text="Coroner")


def circumstances(message: Message) -> tuple[Observation, ...]:
    """Return the accident and the death that a message tells of."""
    accident, death = message.texts("ACC"), message.texts("PDA")
    if not accident and not death:
        return ()
    sent = (accident[0] if accident else "", death[0] if death else "")
    return _told(reader_of(message), sent, message.separators.field)


@kept
def _told(read: Reader, sent: tuple[str, ...], separator: str) -> tuple[Observation, ...]:
    accident, death = sent
    return (_accident(read, padded(accident.split(separator), _ACC_FIELDS)) if accident else ()) + (
        _death(read, padded(death.split(separator), _PDA_FIELDS)) if death else ()
    )


def _accident(read: Reader, fields: list[str]) -> tuple[Observation, ...]:
    kind, described, at = first_concept(read, fields[2]), read.plain(fields[8]), time_of(fields[1], read)
    if not (kind or described or at):
        return ()
    place = read.plain(fields[3])
    return (
        Observation(
            code=INJURY,
            value=described or (kind.text or kind.code if kind else None),
            value_type="string" if described else "concept" if kind else None,
            concept=kind,
            status="final",
            observed_at=at,
            notes=(place,) if place else (),
        ),
    )


def _death(read: Reader, fields: list[str]) -> tuple[Observation, ...]:
    cause = first_concept(read, fields[1])
    found = []
    if cause:
        found.append(
            Observation(code=CAUSE, value=cause.text or cause.code, value_type="concept", concept=cause, status="final")
        )
    begun = read.component(fields[7], 1)
    times = {3: time_of(fields[4], read), 6: time_of(begun, read) if begun else None, 9: None}
    for number, code in ((3, CERTIFIED), (6, AUTOPSY), (9, CORONER)):
        answer = (read.first(fields[number]) or "").upper()
        if answer:
            concept = Concept(code=answer, system="HL70136", text=_NAMES.get(answer))
            found.append(
                Observation(
                    code=code,
                    value=concept.text or answer,
                    value_type="concept",
                    concept=concept,
                    status="final",
                    observed_at=times[number],
                )
            )
    return tuple(found)
