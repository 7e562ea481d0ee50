"""Other people's messages are mapped, or refused with a location."""

from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import KINDS
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from transforms.map_message import map_message

DATA: Final = Path(__file__).parents[2] / "../shared/data"


def need(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"needs ../shared/data/{path}, which is not here")
    return DATA / path


def test_every_message_of_other_people_is_mapped_or_refused_with_a_location() -> None:
    outcomes: Counter[str] = Counter()
    for file in sorted(need("hl7").glob("*.hl7")):
        try:
            event = map_message(Message.parse(file.read_bytes()))
        except StepError as error:
            outcomes[error.location] += 1
        except MessageError:
            outcomes["unreadable"] += 1
        else:
            assert event.kind in KINDS
            assert decode(encode(event)) == event, file.name
            outcomes["mapped"] += 1
    assert outcomes["mapped"] >= 250, outcomes
    assert "" not in outcomes
