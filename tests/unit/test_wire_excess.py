"""A message with more parts than can be mapped is told at once, with the place; look-ups go on."""

import pytest

from broker.errors import StepError
from broker.wire.bounds import MOST_FIELDS, MOST_REPETITIONS, MOST_SEGMENTS
from broker.wire.er7 import Message
from tests.pace import within
from transforms.map_message import map_message
from transforms.split_patients import split_patients
from transforms.validation import validate

HEAD = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A08^ADT_A01|1|P|2.5.1\rEVN||20260101\rPID|1||"
TAIL = b"^^^M^MR||Okafor^Ngozi||19620910|F\rPV1|1|O\r"
MILLION = 1_000_000


def of(repetitions: int = 1, *, below: bytes = b"") -> Message:
    return Message.parse(HEAD + b"~".join([b"1"] * repetitions) + TAIL + below)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (of(MILLION), "PID-3"),
        (of(below=b"DG1|1||I10^Hypertension^I10\r" * MILLION), f"DG1({MOST_SEGMENTS - 3})"),
        (of(below=b"AL1|1|" + b"~" * 9 + b"\rAL1|2|" + b"~" * MILLION), "AL1(2)-2"),
        (of(below=b"NTE|1||wrapped\r" + b"line\r" * MILLION), f"line {MOST_SEGMENTS + 1}, column 1"),
        (of(below=b"ZZZ|" + b"a|" * MILLION), "ZZZ"),
    ],
    ids=["repetitions", "segments", "one field of several", "wrapped lines", "fields"],
)
def test_excess_is_told_at_once_and_values_can_still_be_asked_for(message: Message, place: str) -> None:
    def refuse() -> None:
        for use in (map_message, lambda message: split_patients(message, 9)):
            with pytest.raises(StepError, match="the message has more than") as told:
                use(message)
            assert (told.value.step, told.value.location) == ("canonical", place)
        for level in ("lenient", "strict"):
            (found,) = validate(message, level)
            assert (found.location, found.condition, found.severity) == (place, 198, "error")

    assert within(4.0, refuse)  # six times: each is well below a second
    assert message.get("PID-5.1") == "Okafor"
    assert validate(message, "off") == []


def test_what_keeps_to_the_bounds_is_mapped() -> None:
    assert of(MOST_REPETITIONS).excess() is None
    assert of(MOST_REPETITIONS + 1).excess() is not None
    assert of(below=b"ZZZ|1\r" * (MOST_SEGMENTS - 4)).excess() is None
    assert of(below=b"ZZZ|1\r" * (MOST_SEGMENTS - 3)).excess() is not None
    assert of(below=b"ZZZ|" + b"|" * (MOST_FIELDS - 100)).excess() is None
    assert len(map_message(of(50)).patient.identifiers) == 50


def test_excess_is_told_of_what_was_taken_apart_before() -> None:
    message = of(MILLION)
    assert len(message.segments()) == 4
    assert message.excess() == of(MILLION).excess()
