"""This module mutates messages with a sense for their structure: whatever comes is read or refused, fast, and kept.

FUZZ_INPUTS says how many inputs are tried; a night's run may take ten million.
"""

import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from broker.errors import MessageError
from broker.wire.draft import Draft
from broker.wire.er7 import Location, Message
from tests.pace import within

DATA: Final = Path(__file__).parents[2] / "../shared/data/hl7"
INPUTS: Final = int(os.environ.get("FUZZ_INPUTS", "200000"))
ROUND: Final = 10_000  # inputs between two looks at the clock, and between two seeds of the dice
LONGEST_SEED: Final = 1200
SLOWEST: Final = 1.0  # seconds of CPU for one input

SEEDS: Final = (
    b"MSH|^~\\&|A|B|C|D|20260101||ADT^A01^ADT_A01|1|P|2.5.1||||||UNICODE UTF-8\rEVN|A01\r"
    b'PID|1||1^^^H&1.2&ISO^MR~2^^^S^SS||Okafor^Ad\xc3\xa9^^^^^L||19620910|F|||1 \\T\\ 2||^PRN~^^CP|""\rPV1|1|I|W^R\r',
    b"MSH#*!?%#A#B#####ORU*R01#2#P#2.7######8859/1!ISO IR87\nPID#1##3*4%5!6?F?\nOBR#1\nOBX#1#TX#a##\x1b$B;3ED\x1b(B\n",
    b"\x0bMSH|^~\\&|A|||||SIU^S12|3|P|2.3\r\nSCH|1\r\nNTE|1||wrapped\r\ntext\r\n\r\nhere|x\r\nADD|more\r\nRGS|1\r\nAIS|1\r\n\x1c\r",
    b"MSH|^|A||||||ORM|4|P|2.1\rORC|NW|1\rOBR|1|1\rOBX|1|NM|a||5\rNTE|1\rORC|NW|2\rOBR|2\rOBX|1||b||\\X0D\\\\.br\\\\Z1\\\rZZ1\rDSC|1\r",
    "MSH|^~\\&|A||||||MDM^T02|5|P|2.6\rTXA|1\rOBX|1|ED|x||^^PDF^Base64^QUJD\r".encode("utf-16"),
)
TOKENS: Final = (
    *(
        b"|",
        b"^",
        b"~",
        b"&",
        b"\\",
        b"\r",
        b"\n",
        b"\r\n",
        b"#",
        b'""',
        b"\\F\\",
        b"\\X0D\\",
        b"\\X",
        b"\\.br\\",
        b"\\E",
    ),
    *(
        b"\rPID|",
        b"\rOBX|1|",
        b"\rOBR|",
        b"\rORC",
        b"\rADD|",
        b"\rDSC|",
        b"\rZZ1",
        b"\rMSH|^~\\&|",
        b"\rABC",
        b"\rhpi|",
    ),
    *(b"\0", b"\xff", b"\xc3", b"\x1b$B", b"\x1b(B", b"\x1b", b"\x1c", b"\x0b", b"\xef\xbb\xbf", b"\xff\xfe", b" "),
    *(b"UNICODE UTF-16", b"8859/1~ISO IR87", b"ISO IR87", b"GB 18030-2000", b"UNICODE UTF-8", b"|" * 40, b"~" * 40),
)
LOCATIONS: Final = [
    Location.parse(text)
    for text in (
        *(
            "MSH-10",
            "PID-3[5=MR].1",
            "PID-5.2",
            "PID-3(2).4.2",
            "OBX(2)-5",
            "OBX[3=a]-5(2)",
            "OBR[2]/OBX-5",
            "ZZ1",
            "ZZ1-1",
        ),
    )
]


def seeds() -> list[bytes]:
    return [*SEEDS, *(raw for file in sorted(DATA.glob("*.hl7")) if 0 < len(raw := file.read_bytes()) <= LONGEST_SEED)]


def mutated(raw: bytes, known: list[bytes], dice: random.Random) -> bytes:
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        act, place = dice.randrange(6), dice.randrange(len(raw) + 1)
        end = place + dice.choice((1, 1, 2, 5, 30))
        if act == 0:
            raw = raw[:place] + raw[end:]
        elif act == 1:
            raw = raw[:end] + raw[place:]
        elif act == 2:
            other = dice.choice(known)
            raw = raw[:place] + other[dice.randrange(len(other)) :]
        elif act == 3:
            raw = raw[:place] + bytes((dice.randrange(256),)) + raw[place + 1 :]
        else:
            raw = raw[:place] + dice.choice(TOKENS) + raw[place if act == 4 else end :]
    return raw[:4000]


def read(raw: bytes, *, thoroughly: bool) -> bool:
    """Read a message in every way; tell whether it could be read at all."""
    try:
        message = Message.parse(raw)
    except MessageError as error:
        if not error.location.startswith("MSH") or error.condition not in {100, 101, 102, 103, 104}:
            raise AssertionError("refused without its place") from None
        return False
    found = [message.get(location) for location in LOCATIONS]
    segments = message.segments()
    assert segments[0].name == "MSH"
    if thoroughly:
        assert message.raw is raw
        assert [Message.parse(raw)._group().get(location) for location in LOCATIONS] == found
        for segment in segments:
            assert segment.name == "" or (message.first(segment.name) or segment).name == segment.name
            for number in range(len(segment.fields)):
                segment.first(number, 2, 1)
                segment.repetitions(number)
        for location in LOCATIONS:
            message.all(location)
        message.groups("OBR")
        edit(message)
    return True


def edit(message: Message) -> None:
    segment = f"NTE{message.separators.field}1"
    try:
        draft = Draft(message)
        assert draft.encode() == message.raw
        draft.set("MSH-7", "2027").append(segment)
    except MessageError as error:
        assert error.condition in {102, 207}  # noqa: PT017 - drafts may be refused, and only so
        return
    assert draft.message.get("MSH-7") == "2027"
    assert draft.message.segments()[-1].text == segment


@pytest.mark.timeout(INPUTS / 500)
def test_messages_are_read_or_refused_when_mutated() -> None:
    known = seeds()
    kept = 0
    for start in range(0, INPUTS, ROUND):
        dice = random.Random(start)
        begin = time.process_time()
        inputs = [mutated(dice.choice(known), known, dice) for _ in range(min(ROUND, INPUTS - start))]
        for number, raw in enumerate(inputs):
            try:
                kept += read(raw, thoroughly=not number % 8)
            except Exception as error:  # noqa: BLE001 - the input may come from somebody's message and is not shown
                pytest.fail(f"input {number} of round {start}: {type(error).__name__}", pytrace=False)
        if time.process_time() - begin > ROUND / 1000:  # a round is slow: find the input that is
            assert all(within(SLOWEST, partial(read, raw, thoroughly=True)) for raw in inputs)
    assert kept > INPUTS // 3
