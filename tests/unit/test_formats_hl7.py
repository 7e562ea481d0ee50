"""This module shows that HL7 files come apart into their messages, and that nothing between them is lost."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError, NotAccepted
from broker.formats.hl7 import Hl7, Hl7Spec
from broker.formats.reading import Piece, no_index
from broker.message import Inbound
from broker.wire.charset import Charset

MESSAGE = b"MSH|^~\\&|EPIC|MERCY|H|P|20260101||ADT^A01|M%d|P|2.5\rPID|1||0012\r"


def split(data: bytes) -> list[Piece]:
    return list(Hl7().split(io.BytesIO(data), "batch.hl7"))


def test_batch_comes_apart_and_its_own_segments_do_not_count() -> None:
    data = (
        b"FHS|^~\\&|A\rBHS|^~\\&|B\r"
        + MESSAGE % 1
        + MESSAGE % 2
        + b"BTS|2\rBHS|^~\\&|C\r"
        + MESSAGE % 3
        + b"BTS|9\rFTS|2\r"
    )
    found = split(data)
    assert [piece.body for piece in found] == [MESSAGE % 1, MESSAGE % 2, MESSAGE % 3]
    assert [piece.line for piece in found] == [3, 5, 9]
    assert not any(piece.reason for piece in found)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_messages_are_found_whatever_ends_their_lines(end: bytes) -> None:
    data = (MESSAGE % 1 + MESSAGE % 2).replace(b"\r", end)
    assert [piece.body for piece in split(data)] == [(MESSAGE % number).replace(b"\r", end) for number in (1, 2)]


def test_mark_and_framing_are_taken_off() -> None:
    assert [piece.body for piece in split(b"\xef\xbb\xbf\x0b" + MESSAGE % 1 + b"\x1c\r")] == [MESSAGE % 1]


def test_stray_text_is_told_with_its_line_and_the_messages_are_read() -> None:
    found = split(b"hello\r" + MESSAGE % 1 + b"BTS|1\rstray\r")
    assert [(piece.line, bool(piece.reason)) for piece in found] == [(1, True), (2, False), (5, True)]
    assert (found[0].body, found[2].body) == (b"hello", b"stray")


@pytest.mark.parametrize("data", [b"", b"\r\n", b"a,b\n1,2\n", b"FHS|^~\\&|\rFTS|0\r"])
def test_file_without_a_message_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="no HL7 message"):
        split(data)


def test_wide_file_is_one_message() -> None:
    data = (MESSAGE % 1).decode().encode("utf-16")
    assert [piece.body for piece in split(data)] == [data]


def test_message_that_is_too_large_is_told_and_the_next_is_read() -> None:
    found = split(MESSAGE % 1 + b"NTE|1||" + b"x" * (17 << 20) + b"\r" + MESSAGE % 2)
    assert [bool(piece.reason) for piece in found] == [True, False]
    assert found[1].body == MESSAGE % 2
    assert len(found[0].body) < 1 << 17


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=6))
@settings(deadline=None, max_examples=25)
def test_messages_are_whole_wherever_the_reads_cut_them(sizes: list[int]) -> None:
    messages = [MESSAGE % number + b"NTE|1||" + b"y" * size + b"\r" for number, size in enumerate(sizes)]
    assert [piece.body for piece in split(b"".join(messages))] == messages


def test_message_is_kept_by_sender_and_control_id() -> None:
    reading = Hl7().read(Inbound(channel="x", body=MESSAGE % 7), no_index)
    assert reading == ("ADT^A01", (b"EPIC", b"MERCY", b"M7"), "M7", ())
    with pytest.raises(MessageError):
        Hl7().read(Inbound(channel="x", body=b"nonsense"), no_index)
    with pytest.raises(NotAccepted):
        Hl7().read(Inbound(channel="x", body=b"MSH|^~\\&|A|B|C|D|2026||ADT|1|P|9.9\r"), no_index)


def test_charset_of_the_listener_overrules_the_message() -> None:
    body = MESSAGE % 1 + b"NTE|1||\xe4\r"
    assert Hl7Spec().build(Charset("8859/1")).document(body, 0.0).message.get("NTE-3") == "ä"


ADT = (
    b"MSH|^~\\&|EPIC|MERCY|H|P|20260101||ADT^A08|M1|P|2.5\rEVN|A08\rPID|1||0012||Doe\r"
    b"OBX|1|ST|A||one\rOBX|2|ST|B||two\r"
)


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        (b"Doe", b"D\0oe", "PID-5"),
        (b"0012", b"00\x0012", "PID-3"),
        (b"EPIC", b"EP\0IC", "MSH-3"),
        (b"A08|M1", b"A0\x008|M1", "MSH-9"),
        (b"two\r", b"two\r\0", ""),
        (b"two\r", b"two\0\rZXX|1\r", "OBX(2)-5"),
        (b"two\r", b"t\0wo\r", "OBX(2)-5"),
        (b"EVN|A08\r", b"EV\0N|A08\r", "line 2, column 3"),
        (b"EVN|A08\r", b"EVN\0|A08\r", "line 2, column 4"),
        (b"EVN|A08\r", b"OBX|1|ST|A||one\rwrapped \0 text\r", "OBX-5"),
    ],
)
def test_nul_inside_a_message_is_refused_at_its_place_and_padding_is_not(
    before: bytes, after: bytes, place: str
) -> None:
    inbound = Inbound(channel="adt", body=ADT.replace(before, after), peer="test", received_at=0.0)
    if not place:
        assert Hl7().read(inbound, no_index).type == "ADT^A08"
        return
    with pytest.raises(NotAccepted, match="there is a NUL character") as told:
        Hl7().read(inbound, no_index)
    assert (told.value.code, told.value.condition, told.value.location) == ("AE", 102, place)


@pytest.mark.parametrize("end", [b"\0", b"\0\0\0\x1c\r", b"\x1a\0", b"\0\0\r\n\r\n", b"\0 \r\n"])
def test_padding_around_a_message_is_left_out(end: bytes) -> None:
    inbound = Inbound(channel="adt", body=b"\0\0" + ADT + end, peer="test", received_at=0.0)
    assert Hl7().read(inbound, no_index).control_id == "M1"


def test_zero_bytes_of_utf_16_are_none_of_the_message() -> None:
    def read(text: str) -> str:
        inbound = Inbound(channel="adt", body=text.encode("utf-16"), peer="test", received_at=0.0)
        return Hl7().read(inbound, no_index).control_id

    assert read(ADT.decode()) == "M1"
    with pytest.raises(NotAccepted, match="PID-5: there is a NUL character"):
        read(ADT.decode().replace("Doe", "D\0oe"))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("before", [b"", b"\x0b", b"\xef\xbb\xbf"])
def test_body_with_a_second_message_is_not_read_as_one(before: bytes, end: bytes) -> None:
    """Of the second nobody would hear again: it would be a part of the first, and acknowledged with it."""
    body = before + (MESSAGE % 1 + MESSAGE % 2).replace(b"\r", end)
    with pytest.raises(MessageError, match="another message stands behind the first"):
        Hl7().read(Inbound(channel="adt", body=body), no_index)


def test_text_that_names_msh_is_no_second_message() -> None:
    body = MESSAGE % 1 + b"NTE|1||the MSH|^~\\&| of ours\rMSH stands for header\r"
    assert Hl7().read(Inbound(channel="adt", body=body), no_index).control_id == "M1"
