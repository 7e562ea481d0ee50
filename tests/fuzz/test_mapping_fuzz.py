"""Whatever a message holds, its mapping gives an event that survives JSON, or says where it fails, within its time."""

from collections import Counter
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.canonical.codec import decode, encode
from broker.errors import StepError
from broker.wire.bounds import MOST_REPETITIONS, MOST_SEGMENTS
from broker.wire.er7 import Message
from tests.pace import within
from transforms.map_message import MAPPERS, map_message
from transforms.split_patients import split_patients

SEGMENTS: Final = (
    *("EVN", "PID", "PD1", "NK1", "PV1", "PV2", "MRG", "ROL", "GT1", "IN1", "IN2", "SCH", "ARQ", "TQ1", "RGS", "AIS"),
    *("AIG", "AIL", "AIP", "NTE", "RF1", "PRD", "AUT", "TXA", "OBX", "OBR", "ORC", "FT1", "MFE", "STF", "PRA", "NPU"),
    *("DG1", "AL1", "IAM", "ZZZ"),
)
TRIGGERS: Final = [f"{letter}{number:02}" for letter in "ASTPIM" for number in range(1, 63)]
VALUES: Final = st.sampled_from(
    [
        "",
        '""',
        "1",
        "A",
        "MR",
        "20240501",
        "20240501103000-0500",
        "DOB",
        "^",
        "~",
        "&",
        "\\F\\",
        "\\",
        "Y",
        "N",
        "ä",
        "0",
        "-1",
    ]
)
FIELDS: Final = st.lists(VALUES, max_size=4).map("".join) | st.text('1A^~&\\"^~ ', max_size=12)
LINES: Final = st.builds(
    lambda name, fields: "|".join([name, *fields]), st.sampled_from(SEGMENTS), st.lists(FIELDS, max_size=50)
)
MOST_SECONDS: Final = 5  # on a machine that does much else; what is quadratic takes minutes


@given(code=st.sampled_from(sorted(MAPPERS)), trigger=st.sampled_from(TRIGGERS), lines=st.lists(LINES, max_size=8))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_any_message_is_mapped_or_refused_with_a_location(code: str, trigger: str, lines: list[str]) -> None:
    header = f"MSH|^~\\&|A|B|C|D|20240501||{code}^{trigger}|1|P|2.5.1"
    message = Message.parse("\r".join([header, "PID|1||7^^^M^MR", *lines]).encode(), "utf-8")
    try:
        event = map_message(message)
    except StepError as error:
        if not error.location:
            raise
    else:
        assert decode(encode(event)) == event


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("PID|1||{ids}||{names}||||{names}||||{phones}|{phones}", MOST_REPETITIONS // 5),
        ("PID|1||1^^^M^MR\rNK1|1|{names}|||{phones}", MOST_REPETITIONS // 2),
        ("PID|1||1^^^M^MR\rSCH|1\r{people}", MOST_SEGMENTS - 4),
    ],
)
def test_fields_that_repeat_as_often_as_they_may_cost_no_more_than_their_length(line: str, count: int) -> None:
    many = range(count)
    text = line.format(
        ids="~".join(f"{number}^^^M^XX" for number in many),
        names="~".join(f"N{number}^A" for number in many),
        phones="~".join(f"{number}" for number in many),
        people="\r".join(f"AIP|1||{number}^A^B" for number in many),
    )
    kind = "SIU^S12" if "SCH" in line else "ADT^A08"
    message = Message.parse(f"MSH|^~\\&|A|B|C|D|20240501||{kind}|1|P|2.5.1\r{text}".encode(), "utf-8")
    assert within(MOST_SECONDS, lambda: map_message(message))


@given(code=st.sampled_from(sorted(MAPPERS)), trigger=st.sampled_from(TRIGGERS), lines=st.lists(LINES, max_size=12))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_every_segment_of_several_patients_is_somebodys(code: str, trigger: str, lines: list[str]) -> None:
    people = [f"PID|{number}||{number}^^^M^MR" for number in range(3)]
    header = f"MSH|^~\\&|A|B|C|D|20240501||{code}^{trigger}|1|P|2.5.1"
    message = Message.parse("\r".join([header, people[0], *lines[:4], people[1], *lines[4:], people[2]]).encode())
    try:
        parts = split_patients(message, 3)
    except StepError as error:
        if not error.location:
            raise
        return
    whole = Counter(message.lines())
    told = [Counter(part.message().lines()) for part in parts]
    assert all(not (each - whole) for each in told), "a part has what the message has not"
    assert not parts or not whole - sum(told, Counter()), "a segment is lost"
    for part in parts:
        try:
            map_message(part.message())
        except StepError as error:
            if not part.located(error.location):
                raise
