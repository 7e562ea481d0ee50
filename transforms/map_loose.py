"""This module maps observations that belong to no report: OBX below a visit, an appointment or a referral."""

from typing import Final

from broker.canonical.model import Observation
from broker.wire.er7 import Message
from transforms.hl7_types import Reader, padded, reader_of
from transforms.kept import kept
from transforms.map_circumstances import circumstances
from transforms.map_observation import map_observation, note_of

_OBX_FIELDS: Final = 25
_NTE_FIELDS: Final = 3


def loose_observations(message: Message) -> tuple[Observation, ...]:
    """Return what OBX say, each with the notes that follow it, in the order of the message, and then ACC and PDA."""
    if not message.texts("OBX"):
        return circumstances(message)
    separator = message.separators.field
    return _observations(reader_of(message), tuple(_noted(message, separator)), separator) + circumstances(message)


def _noted(message: Message, separator: str) -> list[str]:
    """Return every OBX and the NTE that belong to it."""
    found: list[str] = []
    below = False
    for line in message.lines():
        name = line.partition(separator)[0]
        below = name == "OBX" or (below and name == "NTE")
        if below:
            found.append(line)
    return found


@kept
def _observations(read: Reader, lines: tuple[str, ...], separator: str) -> tuple[Observation, ...]:
    groups: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith("OBX"):
            groups.append((line, []))
        else:
            note = note_of(padded(line.split(separator), _NTE_FIELDS), read)
            groups[-1][1].extend([note] if note else [])
    found: list[Observation] = []
    for text, notes in groups:
        found += map_observation(padded(text.split(separator), _OBX_FIELDS), tuple(notes), read)
    return tuple(found)
