"""This module checks that no message, however it is made, costs more than time and memory in proportion to its size."""

import tracemalloc

import pytest

from broker.errors import MessageError
from broker.wire.draft import Draft
from broker.wire.er7 import Message
from tests.pace import cpu_seconds, within

HEAD = b"MSH|^~\\&|A|||||ORU^R01|1|P|2.5\r"
COUNT = 20_000
BODIES = {
    "segments": b"OBX|1||x\r",
    "segments without fields": b"ZZ1\r",
    "known segments without fields": b"PID\r",
    "groups": b"OBR|1\rOBX|1|\r",
    "blank lines": b"\r",
    "lines with a blank": b" \r",
    "wrapped lines": b"x\n",
    "continued segments": b"ADD|x\r",
    "fields": b"|",
    "repetitions": b"1^^^^MR~",
    "components": b"^",
    "subcomponents": b"&",
    "escapes that end": b"\\T\\",
    "escapes that do not": b"\\X",
    "two-byte escapes": b"\\M2442\\a",
    "null characters": b"\0",
    "switched sets": b"\x1b$B;3",
}
LOCATIONS = (
    "PID-1",
    "OBX-5",
    "OBX[19999]-3",
    "PID-3[5=SS].1",
    "PID-3(19999).1",
    "OBX[3=y]-1",
    "OBR[19999]/OBX-1",
    "ZZ1",
)


def read(raw: bytes) -> None:
    try:
        message = Message.parse(raw)
    except MessageError:
        return
    for location in LOCATIONS:
        message.get(location)
        message.all(location)
    message.segments()
    message.groups("OBX")
    assert Draft(message).encode() == raw


@pytest.mark.parametrize("before", [b"", b"OBX|1|TX|A||"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_time_grows_with_size_and_not_with_its_square(body: bytes, before: bytes) -> None:
    declared = HEAD.replace(b"2.5\r", b"2.5||||||~ISO IR87\r") if b"\x1b" in body else HEAD
    small, large = declared + before + body * (COUNT // 10), declared + before + body * COUNT
    # Ten times the size takes about ten times as long, and a hundred times would take seconds.
    assert cpu_seconds(lambda: read(large)) < max(40 * cpu_seconds(lambda: read(small)), 1.0)


@pytest.mark.parametrize("character", ["", "é"])
def test_document_of_five_megabytes_is_read_without_copies(character: str) -> None:
    size = 5_000_000
    raw = HEAD + b"OBX|1|ED|PDF||^^PDF^Base64^" + b"QUJD" * (size // 4) + f"|{character}||F\r".encode()
    assert len(Message.parse(raw).get("OBX-5.5") or "") == size
    assert within(0.1, lambda: Message.parse(raw).get("OBX-5.5"))  # it is 12 ms
    tracemalloc.start()
    try:
        Message.parse(raw).get("OBX-5.5")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The text takes two bytes a character where one is beyond Latin-1; é is not.
    assert peak < 2.1 * len(raw)


def test_repetition_that_would_leave_a_million_empty_ones_is_refused() -> None:
    message = Message.parse(HEAD + b"PID|1||1\r")
    assert message.get("PID-3(999999999)") is None
    with pytest.raises(MessageError, match="no gap"):
        Draft(message).set("PID-3(999999999)", "x")
