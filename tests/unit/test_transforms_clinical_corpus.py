"""Other people's clinical messages are mapped, or refused with a location."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Event
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from transforms.map_message import MAPPERS, map_message
from transforms.map_order import map_order
from transforms.map_pharmacy import map_pharmacy
from transforms.map_problem import map_problem
from transforms.map_result import map_result
from transforms.map_vaccination import map_vaccination

DATA = Path(__file__).parents[2] / "../shared/data"
OURS = (map_result, map_order, map_pharmacy, map_vaccination, map_problem)
CODES = frozenset(code for code, mapper in MAPPERS.items() if mapper in OURS)


def messages() -> list[Message]:
    folder = DATA / "hl7"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/hl7, which is not here")
    found = []
    for file in sorted(folder.glob("*.hl7")):
        try:
            found.append(Message.parse(file.read_bytes()))
        except MessageError:
            continue
    return found


def test_every_clinical_message_of_other_people_is_mapped_or_refused_with_a_location() -> None:
    outcomes: Counter[str] = Counter()
    for message in messages():
        if message.header.message_code.decode("latin-1") not in CODES:
            continue
        try:
            event = map_message(message)
        except StepError as error:
            outcomes[error.location] += 1
        else:
            assert decode(encode(event)) == event
            assert _says_something(event), message.header.type
            outcomes["mapped"] += 1
    assert outcomes["mapped"] >= 120, outcomes
    # What is refused has no patient, several of them, or none of the segments that its type is about.
    assert set(outcomes) <= {"mapped", "PID", "OBR", "ORC"}


def _says_something(event: Event) -> bool:
    return bool(
        event.results
        or event.orders
        or event.observations
        or event.medications
        or event.immunizations
        or event.conditions
    )


@pytest.mark.parametrize("mapper", OURS)
def test_messages_of_any_type_do_no_harm(mapper: Any) -> None:
    locations = []
    for message in messages():
        try:
            event = mapper(message)
        except StepError as error:
            locations.append(error.location)
        else:
            assert decode(encode(event)) == event
    assert all(locations)
