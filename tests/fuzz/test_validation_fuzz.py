"""This module tries to break validation with changed messages: it ends, stays in bounds, and tells no value."""

from pathlib import Path
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.wire.er7 import Message
from broker.wire.location import Location
from transforms.finding import MOST, SEVERITIES
from transforms.validation import validate

SAMPLES: Final = [file.read_bytes() for file in sorted((Path(__file__).parents[2] / "channels/messages").glob("*.hl7"))]
SECRET: Final = b"qzqzq"
PIECES: Final = st.sampled_from(
    [
        b"|",
        b"^",
        b"~",
        b"&",
        b"\\",
        b"\r",
        b"\r\n",
        b'""',
        b"",
        b"PID|",
        b"OBX|1|NM|",
        b"99999999",
        SECRET,
        b"\xff",
        b"\0",
    ]
)
CHANGES: Final = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), PIECES), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SAMPLES), CHANGES, st.sampled_from(["lenient", "strict"]))
def test_changed_messages_are_checked_without_telling_a_value(
    sample: bytes, changes: list[tuple[int, int, bytes]], level: str
) -> None:
    for at, length, piece in changes:
        place = 20 + at % len(sample)
        sample = sample[:place] + piece + sample[place + length :]
    try:
        message = Message.parse(sample)
    except MessageError:
        return
    told = validate(message, "strict" if level == "strict" else "lenient")
    assert len(told) <= (MOST + 1) * len(SEVERITIES)
    for each in told:
        assert SECRET.decode() not in str(each).lower()
        assert not each.location or str(Location.parse(each.location)) == each.location


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.sampled_from(["~x", "^x", "&x", "|x", "\rOBX|1|XX", "\rwrapped", "\rOBR|1", "\rPID|1"]))
def test_what_repeats_without_end_takes_time_in_proportion(count: int, piece: str) -> None:
    head = "MSH|^~\\&|A|B|||20240501||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1||1"
    assert len(validate(Message.parse((head + piece * count).encode()), "strict")) <= (MOST + 1) * len(SEVERITIES)
