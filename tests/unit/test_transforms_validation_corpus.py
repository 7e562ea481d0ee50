"""Other people's messages are validated: lenient takes what can be read, and hl7apy agrees where it is right."""

import random
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message
from hl7apy.validation import Validator as Hl7apy

from broker.errors import MessageError
from broker.wire.er7 import Message
from tests.pace import within
from transforms.validation import Level, validate

FOLDER: Final = Path(__file__).parents[2] / "../shared/data/hl7"
OWN: Final = sorted((Path(__file__).parents[2] / "channels/messages").glob("*.hl7"))
COMPARED: Final = 40  # messages; hl7apy takes a tenth of a second for some
COUNTED: Final = {101, 198}  # what is required, and what repeats: hl7apy checks both

# What hl7apy refuses and is wrong about: it asks for every segment of a choice, it loses messages whose structure it
# does not find, and it refuses versions and separators that it does not know.
WRONG: Final = ("CHOICE", "SUPPGRP", "Unknown element found", "Unsupported", "Invalid encoding", "version")


def messages() -> list[tuple[str, Message]]:
    if not FOLDER.is_dir():
        pytest.skip("needs ../shared/data/hl7, which is not here")
    read = []
    for file in sorted(FOLDER.glob("*.hl7")):
        try:
            read.append((file.name, Message.parse(file.read_bytes())))
        except MessageError:
            continue
    return read


def errors(message: Message, level: Level) -> list[str]:
    return [each.location for each in validate(message, level) if each.severity == "error"]


@pytest.mark.parametrize("file", OWN, ids=lambda file: file.name)
def test_our_own_samples_are_sound_by_the_book(file: Path) -> None:
    assert errors(Message.parse(file.read_bytes()), "strict") == []


def test_lenient_takes_what_can_be_read() -> None:
    """Two thirds of these breach the standard; what lenient refuses has no patient, or a date that is none."""
    read = messages()
    refused = [(name, locations) for name, message in read if (locations := errors(message, "lenient"))]
    assert len(refused) < len(read) * 0.12
    places = {location.partition("(")[0].partition("-")[0] for _, locations in refused for location in locations}
    assert places - {""} <= {"PID", "PV1", "OBR", "OBX", "SCH", "AIS", "RXA", "TXA"}
    strict = sum(bool(errors(message, "strict")) for _, message in read)
    assert strict > len(read) / 2


def test_all_of_them_are_checked_in_bounded_time_and_findings() -> None:
    for name, message in messages():
        assert len(validate(message, "strict")) <= 303, name
        assert within(1.0, partial(validate, message, "strict")), name


def test_whatever_hl7apy_finds_wrong_is_found_wrong() -> None:
    chosen = random.Random(7).sample([(n, m) for n, m in messages() if len(m.raw) < 1500], COMPARED)
    refused, passed = 0, 0
    for name, message in chosen:
        complaint = _hl7apys(message)
        if complaint and not any(word in complaint for word in WRONG):
            assert errors(message, "strict"), name
            refused += 1
        elif not complaint:  # it does not look at dates, codes, the order of segments, and segments without a field
            empty = {segment.name for segment in message.segments() if not any(segment.fields[1:])}
            counted = [each for each in validate(message, "strict") if each.condition in COUNTED]
            assert not [each for each in counted if each.location[:3] not in empty], name
            passed += 1
    assert refused > COMPARED // 3
    assert passed


def _hl7apys(message: Message) -> str:
    text = "\r".join(segment.text for segment in message.segments())
    try:
        Hl7apy.validate(parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT))
    except HL7apyException as error:
        return f"{type(error).__name__} {error}"
    except Exception as error:  # noqa: BLE001 - it has bugs of its own
        return f"Unsupported: {type(error).__name__}"
    return ""
