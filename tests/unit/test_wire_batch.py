"""This module checks how batches are taken apart and answered: no byte lost, no messages merged, every count held."""

import itertools
import re
from pathlib import Path

import hl7
import pytest

from broker.errors import MessageError
from broker.wire.ack import acknowledge
from broker.wire.batch import Batch, Fault, answer_batch, is_batch, split_batch
from broker.wire.header import read_header
from tests.pace import cpu_seconds

AT = 1_767_225_600.0
DATA = Path(__file__).parents[2] / "../shared/data/hl7"
MOST = 1000

FHS = b"FHS|^~\\&|LAB|ACME|HANDOFF|PRM|20260101||f.hl7||F1\r"
BHS = b"BHS|^~\\&|LAB|ACME|HANDOFF|PRM|20260101||||B1\r"


def msg(number: int, end: bytes = b"\r") -> bytes:
    return b"MSH|^~\\&|EPIC|MERCY|H|P|20260101||ADT^A01|M%d|P|2.5" % number + end + b"PID|1||%d" % number + end


def shape(batch: Batch) -> list[list[int]]:
    """Return how many messages each group of each file has."""
    return [[len(group.messages) for group in file.groups] for file in batch.files]


def messages(batch: Batch) -> list[bytes]:
    return [body for group in batch.groups for body in group.messages]


def answered(batch: Batch) -> list[bytes]:
    """Answer every message AA; return the segments of the answer."""
    numbers = itertools.count(1)
    answers = [
        [acknowledge(read_header(body), "AA", f"X{next(numbers)}", AT) for body in group.messages]
        for group in batch.groups
    ]
    data = answer_batch(batch, answers, lambda: f"X{next(numbers)}", AT)
    assert data.endswith(b"\r")
    return data[:-1].split(b"\r")


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (BHS + msg(1), True),
        (b"\r\n\xef\xbb\xbf" + BHS, True),
        (b"BTS|1\r", True),
        (b"FTS", True),
        (msg(1) + msg(2), True),
        (msg(1, b"\n") + msg(2, b"\n"), True),
        (msg(1) + b"MSH#~!#A\r", True),
        (("\ufeff" + (msg(1) + msg(2)).decode()).encode("utf-16-le"), True),
        (BHS.decode().encode("utf-16-be"), True),
        (msg(1), False),
        (msg(1) + b"NTE|1||MSH|^~\\&|A\r", False),
        (msg(1) + b"MSH|text in an answer\r", False),
        (msg(1) + b"MSHX|^~\\&|A\r", False),
        (msg(1).decode().encode("utf-16"), False),
        (msg(1) + b"BTS|1\r", False),
        (b"BHSX|1\r", False),
        (b"hello", False),
        (b"", False),
    ],
)
def test_batch_is_told_from_a_message_when_it_begins_or_repeats_like_one(payload: bytes, found: bool) -> None:
    assert is_batch(payload) is found


@pytest.mark.parametrize("number", range(60, 70))
def test_second_message_is_found_when_much_text_looks_like_one(number: int) -> None:
    text = msg(1) + b"NTE|1||MSH\rMSH|no\r" * number
    assert not is_batch(text)
    assert is_batch(text + msg(2))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\r\n"])
def test_messages_keep_every_byte_when_split(end: bytes) -> None:
    payload = FHS + BHS + msg(1, end) + msg(2, end) + b"BTS|2" + end + BHS + msg(3, end) + b"BTS|1" + end + b"FTS|2\r"
    batch = split_batch(payload, MOST)
    assert messages(batch) == [msg(1, end), msg(2, end), msg(3, end)]
    assert (shape(batch), batch.faults, batch.strays, batch.size) == ([[2, 1]], [], [], 3)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (msg(1) + msg(2), [[2]]),
        (BHS + msg(1), [[1]]),
        (FHS + msg(1) + b"BTS|1\rFTS|1\r", [[1]]),
        (FHS + msg(1) + msg(2) + b"FTS|1\r", [[2]]),
        (BHS + msg(1) + b"BTS|1\r" + msg(2), [[1, 1]]),
        (BHS + msg(1) + BHS + msg(2), [[1, 1]]),
        (FHS + BHS + msg(1) + b"BTS|1\rFTS|1\r" + FHS + BHS + msg(2) + b"BTS|1\rFTS|1\r", [[1], [1]]),
        (FHS + BHS + msg(1) + FHS + msg(2), [[1], [1]]),
        (BHS + b"BTS|0\r", [[0]]),
        (BHS + b"BTS\r", [[0]]),
        (BHS + b"BTS||a comment\r", [[0]]),
        (b"BTS|0\r", [[0]]),
        (FHS + b"FTS|0\r", [[]]),
        (b"FTS\r", [[]]),
        (msg(1) + msg(2) + b"BTS|2\rFTS|1\r", [[2]]),
    ],
)
def test_batch_has_no_fault_when_its_parts_may_be_missing(payload: bytes, expected: list[list[int]]) -> None:
    batch = split_batch(payload, MOST)
    assert shape(batch) == expected
    assert (batch.faults, batch.strays) == ([], [])


@pytest.mark.parametrize(
    ("payload", "location", "condition"),
    [
        (BHS + msg(1) + b"BTS|2\r", "BTS-1", 100),
        (BHS + msg(1) + msg(2) + b"BTS|1\r", "BTS-1", 100),
        (FHS + BHS + msg(1) + b"BTS|1\rFTS|2\r", "FTS-1", 100),
        (BHS + msg(1) + b"BTS|many\r", "BTS-1", 102),
        (BHS + msg(1) + b"BTS|9999999999\r", "BTS-1", 102),
        (b"FHS|||||\r" + msg(1), "FHS-2", 102),
        (b"BHS|||||\r" + msg(1), "BHS-2", 102),
        (BHS + b"PID|1\r" + msg(1), "BHS", 100),
        (FHS + b"PID|1\r" + msg(1), "FHS", 100),
    ],
)
def test_fault_is_reported_and_messages_are_taken_when_the_envelope_is_wrong(
    payload: bytes, location: str, condition: int
) -> None:
    batch = split_batch(payload, MOST)
    assert [(fault.location, fault.condition, fault.code) for fault in batch.faults] == [(location, condition, "AE")]
    assert messages(batch)[0] == msg(1)
    assert not any(group.torn for group in batch.groups)
    assert batch.strays == ([b"\rPID|1\r"] if b"\rPID|1\r" in payload.replace(msg(1), b"") else [])


@pytest.mark.parametrize("cut", [BHS, FHS, b"BTS|1\r", b"FTS|1\r"])
def test_message_is_torn_when_its_rest_is_behind_the_envelope(cut: bytes) -> None:
    batch = split_batch(BHS + msg(1) + msg(2) + cut + b"PV1|1\r", MOST)
    assert batch.groups[0].torn == {1}
    assert [stray.strip() for stray in batch.strays] == [b"PV1|1"]
    assert any(fault.location == cut[:3].decode() for fault in batch.faults)


@pytest.mark.parametrize("broken", [b"MSH\r", b"MSH|\rPID|1\r", b"MSH^~\\&|A\r"])
def test_broken_message_is_one_of_its_own_when_in_an_envelope(broken: bytes) -> None:
    assert messages(split_batch(BHS + msg(1) + broken + msg(2) + b"BTS|3\r", MOST)) == [msg(1), broken, msg(2)]


def test_first_message_is_kept_when_broken_and_without_an_envelope() -> None:
    assert messages(split_batch(b"MSH|bad\rPID|1\r" + msg(2), MOST)) == [b"MSH|bad\rPID|1\r", msg(2)]


def test_batch_is_refused_when_wide() -> None:
    with pytest.raises(MessageError, match="UTF-16"):
        split_batch((BHS + msg(1)).decode().encode("utf-16"), MOST)


@pytest.mark.parametrize("payload", [BHS + msg(1) * 4, msg(1) * 4, BHS + b"BTS\r" * 99, BHS * 99])
def test_nothing_is_taken_when_there_are_too_many(payload: bytes) -> None:
    batch = split_batch(payload, 3)
    assert (batch.size, batch.strays) == (0, [payload])
    assert [(fault.code, fault.condition) for fault in batch.faults] == [("AR", 207)]
    segments = answered(batch)
    assert sum(segment.startswith(b"MSA|AR|") for segment in segments) == 1


def test_as_many_as_may_be_are_taken_when_each_is_a_file() -> None:
    one = FHS + BHS + msg(1) + b"BTS|1\rFTS|1\r"
    batch = split_batch(one * 3, 3)
    assert (batch.size, batch.faults) == (3, [])


def test_answer_is_a_batch_with_the_references_when_the_batch_has_headers() -> None:
    batch = split_batch(FHS + BHS + msg(1) + msg(2) + b"BTS|2\rFTS|1\r", MOST)
    fhs, bhs, *rest, bts, fts = answered(batch)
    assert fhs == b"FHS|^~\\&|HANDOFF|PRM|LAB|ACME|20260101000000+0000||||X3|F1"
    assert bhs == b"BHS|^~\\&|HANDOFF|PRM|LAB|ACME|20260101000000+0000||||X4|B1"
    assert [segment for segment in rest if segment.startswith(b"MSA")] == [b"MSA|AA|M1", b"MSA|AA|M2"]
    assert (bts, fts) == (b"BTS|2", b"FTS|1")
    assert len(rest) == 4


def test_answer_has_the_groups_of_the_batch_when_there_are_several() -> None:
    other = BHS.replace(b"B1", b"B2")
    segments = answered(split_batch(FHS + BHS + msg(1) + b"BTS|1\r" + other + msg(2) + b"BTS|1\rFTS|2\r", MOST))
    assert [segment[:3] for segment in segments] == [
        b"FHS", b"BHS", b"MSH", b"MSA", b"BTS", b"BHS", b"MSH", b"MSA", b"BTS", b"FTS"
    ]  # fmt: skip
    assert (segments[5].split(b"|")[11], segments[-1]) == (b"B2", b"FTS|2")


def test_answer_is_a_batch_without_references_when_there_are_no_headers() -> None:
    bhs, *_, bts = answered(split_batch(msg(1) + msg(2), MOST))
    assert bhs == b"BHS|^~\\&|H|P|EPIC|MERCY|20260101000000+0000||||X3|"
    assert bts == b"BTS|2"


def test_fault_is_an_acknowledgment_of_the_batch_when_reported() -> None:
    segments = answered(split_batch(BHS + msg(1) + b"BTS|2\r", MOST))
    assert segments[3].startswith(b"MSH|^~\\&|HANDOFF|PRM|LAB|ACME|20260101000000+0000||ACK|X2|P|2.5")
    assert segments[4].startswith(b"MSA|AE|B1|BTS-1: the trailer counts 2 messages, 1 came")
    assert segments[5].startswith(b"ERR||BTS^1^1|100^Segment sequence error^HL70357|E|")
    assert segments[6] == b"BTS|2"


@pytest.mark.parametrize(
    ("payload", "msa"),
    [
        (FHS + b"FTS|1\r", b"MSA|AE|F1|"),
        (FHS + BHS + b"BTS|0\rFTS|2\r", b"MSA|AE|B1|"),
        (b"BTS|3\r", b"MSA|AE||"),
        (BHS + b"BTS|0\r", b"MSA|AA|B1"),
        (b"FTS\r", b"MSA|AA|"),
    ],
)
def test_answer_holds_one_acknowledgment_when_the_batch_holds_no_message(payload: bytes, msa: bytes) -> None:
    # An empty batch in return would be answered with an empty batch, and that again, for ever.
    (found,) = [segment for segment in answered(split_batch(payload, MOST)) if segment.startswith(b"MSA")]
    assert found.startswith(msa)


def test_fault_takes_the_form_of_the_messages_when_reported() -> None:
    old = b"MSH|^~\\&|EPIC|MERCY|H|P|20260101||ADT^A01|M1|T|2.3|||AL|NE||8859/1\r"
    segments = answered(split_batch(BHS + old + b"BTS|2\r", MOST))
    msh, msa, err = segments[3:6]
    assert msh.endswith(b"||ACK|X2|T|2.3||||||8859/1")
    assert msa.startswith(b"MSA|CE|B1|")
    assert err == b"ERR|BTS^1^1^100&Segment sequence error&HL70357"


def test_separators_are_those_of_each_part_when_they_differ() -> None:
    odd = b"BHS#!@%*#LAB#ACME#H#P#20260101####B1\r"
    bhs, msh, _, _, msa, err, bts = answered(split_batch(odd + msg(1) + b"BTS#2\r", MOST))
    assert bhs.startswith(b"BHS#!@%*#H#P#LAB#ACME#")
    assert msh.startswith(b"MSH|^~\\&|")
    assert msa.startswith(b"MSA#AE#B1#BTS-1: ")
    assert err.startswith(b"ERR##BTS!1!1#100!")
    assert bts == b"BTS#2"


def test_frame_bytes_are_not_in_the_answer_when_the_header_holds_them() -> None:
    (bhs, *_) = answered(split_batch(BHS.replace(b"ACME", b"A\x1c") + msg(1), MOST))
    assert b"\x1c" not in bhs


def test_contents_do_not_show_when_printed() -> None:
    assert "M1" not in repr(split_batch(BHS + msg(1) + b"BTS|1\r", MOST))
    assert "reason" in repr(Fault("reason"))


def test_work_is_linear_when_a_large_payload_is_all_headers() -> None:
    def spent(size: int) -> float:
        payloads = [b"MSH|^~\\&|\r" + b"MSH\r" * size, BHS + b"MSH|\r" * size, BHS + BHS * size]

        def work() -> None:
            for payload in payloads:
                is_batch(payload)
                split_batch(payload, MOST)

        return cpu_seconds(work)

    assert spent(80_000) < 30 * spent(10_000) + 0.05


# Other people's batches. python-hl7 refuses a second BHS or FHS and segments without MSH; elsewhere it is the oracle.


def _files() -> list[Path]:
    return [file for file in sorted(DATA.glob("*.hl7")) if is_batch(file.read_bytes())]


@pytest.mark.parametrize("file", _files() or [None], ids=lambda file: file.stem if file else "absent")
def test_batch_of_other_people_is_split_as_their_parser_does(file: Path | None) -> None:
    if file is None:
        pytest.skip("needs ../shared/data/hl7, which is not here")
    payload = file.read_bytes()
    batch = split_batch(payload, MOST)
    held = messages(batch)
    assert len(held) == len(re.findall(rb"(?:^|[\r\n])MSH", payload))
    assert all(body.startswith(b"MSH") and body in payload for body in held)
    assert answered(batch)
    text = payload.decode("utf-8").replace("\r\n", "\r").replace("\n", "\r")
    try:
        theirs = hl7.parse_file(text) if text.startswith("FHS") else [hl7.parse_batch(text)]
    except hl7.ParseException:
        assert batch.faults
        return
    their_messages = [str(message) for group in theirs for message in group]
    ours = [re.sub("\r+", "\r", body.decode().replace("\n", "\r")) for body in held]
    assert [body.rstrip("\r ") for body in ours] == [body.rstrip("\r ") for body in their_messages]
