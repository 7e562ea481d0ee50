"""This module checks which lines are segments, and that no line of a message is lost to those who read it."""

import pytest

from broker.wire.er7 import Message
from broker.wire.lines import is_name

HEAD = "MSH|^~\\&|A|B|||||ORU^R01|1|P|2.5\r"


def read(body: str, head: str = HEAD) -> Message:
    return Message.parse((head + body).encode())


def shape(message: Message) -> list[str]:
    return [segment.name for segment in message.segments()]


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_wrapped_lines_belong_to_the_segment_before_when_they_begin_none(end: str) -> None:
    message = read(f"OBX|1|TX|A||first{end}second^x{end}{end}third|mm{end}OBX|2|TX|B||last{end}")
    assert shape(message) == ["MSH", "OBX", "OBX"]
    assert message.get("OBX-5") == "first\nsecond"
    assert message.get("OBX-5.2") == "x\n\nthird"
    assert message.get("OBX-6") == "mm"
    assert message.get("OBX(2)-5") == "last"
    assert message.first("OBX") is not None
    assert next(segment.text for segment in message.segments("OBX")) == message.get("OBX")


@pytest.mark.parametrize(
    "line", ["HPI", "ROS", "END", "the|x", "pid|1", "PI|1", "PIDX|1", "1ID|2", "|x", " PID|1", "obx", "ÄÖÜ|1", "PID^1"]
)
def test_line_is_text_when_it_begins_no_segment(line: str) -> None:
    message = read(f"NTE|1||text\r{line}\rPID|1\r")
    assert shape(message) == ["MSH", "NTE", "PID"]
    assert f"text\n{line}" == "|".join(message.segments("NTE")[0].fields[3:])
    assert message.first("NTE").text == message.segments("NTE")[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("line", ["PV1", "ZZ1", "ZPD|x", "XYZ|1", "A1B|"])
def test_line_is_a_segment_when_it_begins_with_a_name(line: str) -> None:
    message = read(f"NTE|1||text\r{line}\rPID|1\r")
    assert shape(message) == ["MSH", "NTE", line[:3], "PID"]
    assert message.get("NTE-3") == "text"
    assert message.get(line[:3]) == line


def test_first_segment_of_a_name_is_meant_when_it_has_no_fields() -> None:
    message = read("PIDX\rPID\rPID|1||x\rPID")
    assert (message.get("PID-3"), message.get("PID")) == (None, "PID")
    assert (message.get("PID(2)-3"), len(message.segments("PID"))) == ("x", 3)


def test_blank_lines_do_not_count_when_a_segment_follows() -> None:
    message = read("NTE|1||text  \r\r \t\r\0\rPID|1\r \r\x1c\r")
    assert [segment.text for segment in message.segments()[1:]] == ["NTE|1||text  ", "PID|1"]
    assert message.get("NTE-3") == "text  "


@pytest.mark.parametrize("tail", ["\x1c\r", "\r\x1c\r", "\r\x1c", "\r\n\x1c\r\n", "\x1c", "\x1c\r\n", "\0\0\0", "\r\x1a"])
def test_framing_and_fillers_do_not_count_when_they_end_the_message(tail: str) -> None:
    message = read(f"PID|1||x{tail}")
    assert message.get("PID-3") == "x"
    assert [segment.text for segment in message.segments()[1:]] == ["PID|1||x"]


def test_header_is_one_line_when_text_follows_it() -> None:
    message = read("lost text\rmore\rPID|1\r")
    assert shape(message) == ["MSH", "", "PID"]
    assert message.segments()[1].text == "lost text\nmore"
    assert message.first("") is not None
    assert message.get("MSH-12") == "2.5"


def test_add_continues_the_segment_before_when_it_follows_one() -> None:
    message = read("OBX|1|TX|A||begin\rADD|ning|mm\rADD|Hg\rNTE|1\rDSC|77\r")
    assert shape(message) == ["MSH", "OBX", "NTE", "DSC"]
    assert (message.get("OBX-5"), message.get("OBX-6"), message.get("DSC-1")) == ("beginning", "mmHg", "77")
    assert message.get("ADD-1") is None
    assert message.segments("ADD") == []


def test_add_is_left_out_when_it_only_announces_another_message() -> None:
    message = read("OBX|1|TX|A||begin\rADD\rDSC|77\r")
    assert (shape(message), message.get("OBX-5")) == (["MSH", "OBX", "DSC"], "begin")


def test_add_stands_alone_when_the_message_continues_another() -> None:
    message = read("ADD|rest|x\rDSC|78\r")
    assert (shape(message), message.get("ADD-1")) == (["MSH", "ADD", "DSC"], "rest")


def test_names_are_three_capitals_when_they_begin_a_segment() -> None:
    assert [is_name(name) for name in ("PID", "ZZ9", "A1B", "ADD", "PI", "pid", "PIDX", "1AB", "")] == [
        *(True, True, True),
        *(False,) * 6,
    ]


def test_separator_is_the_message_s_own_when_lines_are_told_apart() -> None:
    message = read("OBX*1*TX*A**one\rPID|2\rNTE*1", head="MSH*^~\\&*\r")
    assert (shape(message), message.get("OBX-5")) == (["MSH", "OBX", "NTE"], "one\nPID|2")
