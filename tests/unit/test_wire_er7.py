"""This module checks that messages are read without loss, and that locations mean what the standard says."""

import json
from pathlib import Path

import pytest

from broker.errors import MessageError
from broker.wire.er7 import Location, Message, Segment, read_header
from broker.wire.header import Separators, separators_of

DATA = Path(__file__).parents[2] / "../shared/data"
ADT = (
    b"MSH|^~\\&|EPIC|MERCY|HANDOFF|PRM|20260101||ADT^A01^ADT_A01|MSG1|P|2.5.1|||AL|NE||UNICODE UTF-8\r"
    b"EVN|A01\r"
    b"PID|1||123^^^MERCY&1.2.3&ISO^MR~999^^^SSA^SS||Okafor^Adaeze^^^^^L||19620910|F|||1 Main St^^Town||"
    b'^PRN^PH~^PRN^CP^^1^217|""\r'
    b"\r"
    b"OBX|1|NM|8302-2^Height^LN||172|cm\r"
    b"OBX|2|NM|3141-9^Weight^LN||68|kg\r"
    b"OBX|3|TX|X||line\\.br\\two \\T\\ \\F\\~second\r"
    b"ZPD|a\\Z9\\b|C:\\MIME\\x.pdf\r"
)


@pytest.fixture
def adt() -> Message:
    return Message.parse(ADT)


@pytest.mark.parametrize(
    ("location", "value"),
    [
        ("MSH-1", "|"),
        ("MSH-2", "^~\\&"),
        ("MSH-3", "EPIC"),
        ("MSH-9.1", "ADT"),
        ("MSH-9.2", "A01"),
        ("MSH-9-3", "ADT_A01"),
        ("MSH-9", "ADT"),
        ("MSH-10", "MSG1"),
        ("MSH-18", "UNICODE UTF-8"),
        ("MSH-19", None),
        ("MSH-8", None),
        ("EVN", "EVN|A01"),
        ("PV1", None),
        ("PV1-3", None),
        ("PID-8", "F"),
        ("PID-8.1", "F"),
        ("PID-8.1.1", "F"),
        ("PID-8.2", None),
        ("PID-8.1.2", None),
        ("PID-8(2)", None),
        ("PID-14", '""'),
        ("PID-3", "123"),
        ("PID-3.1", "123"),
        ("PID-3.2", None),
        ("PID-3.4", "MERCY"),
        ("PID-3.4.2", "1.2.3"),
        ("PID-3-4-2", "1.2.3"),
        ("PID-3.4.4", None),
        ("PID-3.9", None),
        ("PID-3(1).1", "123"),
        ("PID-3(2).1", "999"),
        ("PID-3[2].5", "SS"),
        ("PID-3(3).1", None),
        ("PID-3[5=MR].1", "123"),
        ("PID-3[5=SS].1", "999"),
        ("PID-3[5='SS'].1", "999"),
        ("PID-3[4.2=1.2.3].1", "123"),
        ("PID-3[5=PI].1", None),
        ("PID-3[5=SS].4.2", None),
        ("PID-8[1=F]", "F"),
        ("PID-8[1=M]", None),
        ("PID-13[3=CP].6", "217"),
        ("PID-13.1", None),
        ("OBX-5", "172"),
        ("OBX[2]-5", "68"),
        ("OBX(2)-5", "68"),
        ("OBX(2)-3.2", "Weight"),
        ("OBX(9)-5", None),
        ("OBX[3=3141-9]-5", "68"),
        ("OBX[3.2=Height]-5", "172"),
        ("OBX[3.2=Nothing]-5", None),
        ("OBX(3)-5", "line\ntwo & |"),
        ("OBX(3)-5(2)", "second"),
        ("ZPD-1", "a\\Z9\\b"),
        ("ZPD-2", "C:\\MIME\\x.pdf"),
    ],
)
def test_value_is_found_when_located(adt: Message, location: str, value: str | None) -> None:
    assert adt.get(location) == value
    assert adt.get(Location.parse(location)) == value


@pytest.mark.parametrize(
    ("location", "values"),
    [
        ("PID-3.1", ["123", "999"]),
        ("PID-3[5=SS].1", ["999"]),
        ("PID-3(2).1", ["999"]),
        ("PID-13.6", ["217"]),
        ("OBX-5", ["172", "68", "line\ntwo & |", "second"]),
        ("OBX(2)-5", ["68"]),
        ("OBX[3=8302-2]-5", ["172"]),
        ("MSH-2", ["^~\\&"]),
        ("EVN", ["EVN|A01"]),
        ("PV1-3", []),
        ("PID-40", []),
    ],
)
def test_every_value_is_found_when_all_are_asked_for(adt: Message, location: str, values: list[str]) -> None:
    assert adt.all(location) == values
    assert adt.all(Location.parse(location)) == values


def test_segments_come_in_order_when_asked_for(adt: Message) -> None:
    assert [segment.name for segment in adt.segments()] == ["MSH", "EVN", "PID", "OBX", "OBX", "OBX", "ZPD"]
    assert [segment.get(1) for segment in adt.segments("OBX")] == ["1", "2", "3"]
    assert adt.segments("PV1") == []


def test_segment_gives_fields_as_sent_when_asked(adt: Message) -> None:
    (msh,) = adt.segments("MSH")
    assert msh.fields[:4] == ["MSH", "|", "^~\\&", "EPIC"]
    (pid,) = adt.segments("PID")
    assert pid.fields[8] == "F"
    assert pid.repetitions(3) == ["123^^^MERCY&1.2.3&ISO^MR", "999^^^SSA^SS"]
    assert pid.repetitions(2) == pid.repetitions(99) == []
    assert msh.repetitions(2) == ["^~\\&"]
    assert (pid.get(3, 4, 2), pid.get(3, repetition=2), pid.get(3, 5, repetition=3)) == ("1.2.3", "999", None)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\n\r", "\r\r", "\r\n\n"])
def test_line_ends_do_not_matter_when_parsed(end: str) -> None:
    raw = ADT.decode().replace("\r", end).encode()
    message = Message.parse(raw)
    assert (message.get("PID-3.1"), message.get("ZPD-1"), len(message.segments())) == ("123", "a\\Z9\\b", 7)
    assert message.raw is raw


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\x0b", b"\r", b"\r\n\n", b"\0 \t", b"\x0b\xef\xbb\xbf"])
def test_message_is_read_when_something_stands_before_it(before: bytes) -> None:
    message = Message.parse(before + ADT)
    assert (message.get("MSH-10"), message.get("MSH-1"), message.header.control_id) == ("MSG1", "|", b"MSG1")


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-16-le", "utf-32-be"])
def test_message_is_read_when_wide(codec: str) -> None:
    message = Message.parse("MSH|^~\\&|A|B|||||ADT^A01|1|P|2.5\rPID|||é".encode(codec))
    assert (message.get("PID-3"), message.header.control_id) == ("é", b"1")
    assert message.header.wide


def test_header_is_read_when_complete() -> None:
    header = read_header(ADT)
    assert header.definition == b"|^~\\&"
    assert header[2:15] == (
        *(b"EPIC", b"MERCY", b"HANDOFF", b"PRM"),
        *(b"ADT", b"A01", b"ADT_A01", b"MSG1", b"P", b"2.5.1", b"AL", b"NE", b"UNICODE UTF-8"),
    )
    assert header.type == "ADT^A01"
    assert header.wide == ""


def test_header_is_blank_when_msh_is_short() -> None:
    header = read_header(b"MSH|^~\\&|A\nPID|1")
    assert (header.sending_application, header.control_id, header.charset, header.type) == (b"A", b"", b"", "")


@pytest.mark.parametrize(
    ("raw", "condition", "location"),
    [
        (b"", 100, "MSH"),
        (b"INVALID PAYLOAD", 100, "MSH"),
        (b"PID|1\rMSH|^~\\&|", 100, "MSH"),
        (b"msh|^~\\&|", 100, "MSH"),
        (b"FHS|^~\\&|\rMSH|^~\\&|", 100, "MSH"),
        (b"\xff\xfeP\0I\0", 100, "MSH"),
        (b"MSH", 101, "MSH-1"),
        (b"MSHX^~\\&X", 101, "MSH-1"),
        (b"MSH\r", 101, "MSH-1"),
        (b"MSH ^~", 101, "MSH-1"),
        (b"MSH\xff^~", 101, "MSH-1"),
        (b"MSH|", 101, "MSH-2"),
        (b"MSH||A", 101, "MSH-2"),
        (b"MSH|^~\\&#$|", 102, "MSH-2"),
        (b"MSH|^\xff|", 102, "MSH-2"),
        (b"MSH|^\x0b|", 102, "MSH-2"),
        (b"MSH\x1c^~", 101, "MSH-1"),
        (b"MSH|^~\\&|" + b"x" * 9000, 104, "MSH"),
    ],
)
def test_header_is_refused_when_unreadable(raw: bytes, condition: int, location: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_header(raw)
    assert (caught.value.condition, caught.value.location) == (condition, location)


@pytest.mark.parametrize(
    ("definition", "separators"),
    [
        (b"|^~\\&", Separators("|", "^", "~", "\\", "&", "")),
        (b"|^~\\&#", Separators("|", "^", "~", "\\", "&", "#")),
        (b"|^~\\\\&", Separators("|", "^", "~", "\\", "&", "")),
        (b"#*!?%", Separators("#", "*", "!", "?", "%", "")),
        (b"|^", Separators("|", "^", "", "", "", "")),
        (b"|^~&", Separators("|", "^", "~", "", "&", "")),
        (b"|^~#", Separators("|", "^", "~", "#", "", "")),
    ],
)
def test_separators_are_as_the_message_says_when_read(definition: bytes, separators: Separators) -> None:
    assert separators_of(definition) == separators


def test_undefined_separators_split_nothing_when_read() -> None:
    message = Message.parse(b"MSH|^|A~B|\\F\\&x\rPID|||1~2^3")
    assert (message.get("MSH-3"), message.get("MSH-4"), message.get("PID-3")) == ("A~B", "\\F\\&x", "1~2")
    assert message.all("PID-3.1") == ["1~2"]
    assert message.get("PID-3[1=1~2].2") == "3"
    assert message.get("PID-3(2).1") is None


def test_unusual_separators_are_followed_when_read() -> None:
    message = Message.parse(b"MSH#*!?%#A\rPID###1*2%3!4?F?#?T??S??R??E??X41?")
    assert message.get("PID-3.2.2") == "3"
    assert message.get("PID-3(2)") == "4#"
    assert message.get("PID-4") == "%*!?A"


def test_encoding_overrules_msh_18_when_given() -> None:
    raw = b"MSH|^~\\&||||||||1|P|2.5||||||ISO IR 999\rPID|||\xe9"
    assert Message.parse(raw, "8859/1").get("PID-3") == "é"
    with pytest.raises(MessageError) as caught:
        Message.parse(raw)
    assert (caught.value.condition, caught.value.location) == (103, "MSH-18")


def test_offset_is_named_when_a_byte_is_undecodable() -> None:
    raw = b"MSH|^~\\&||||||||1|P|2.5||||||UNICODE UTF-8\rPID|||\xe9|"
    with pytest.raises(MessageError, match=f"offset {raw.index(0xE9)} ") as caught:
        Message.parse(raw)
    assert caught.value.location == "MSH-18"


def test_body_does_not_show_when_printed(adt: Message) -> None:
    shown = f"{adt!r} {adt.header!r} {adt.segments()!r}"
    assert "Message(ADT^A01, " in shown
    assert all(word not in shown for word in ("Okafor", "MSG1", "123"))


def test_messages_are_read_or_refused_when_anybody_wrote_them() -> None:
    paths = sorted((DATA / "hl7").glob("*.hl7"))
    if not paths:
        pytest.skip("the message collection (shared/data/hl7) is not here")
    refused = [path.name for path in paths if not _is_readable(path.read_bytes())]
    assert len(refused) < len(paths) // 5


def _is_readable(raw: bytes) -> bool:
    try:
        message = Message.parse(raw)
    except MessageError:
        return False
    for segment in message.segments():
        assert isinstance(segment, Segment)
        for number in range(len(segment.fields)):
            segment.get(number)
            segment.repetitions(number)
    return True


def test_fields_agree_with_another_parser_over_the_collection() -> None:
    dumps = [json.loads(path.read_text()) for path in sorted((DATA / "expect/python-hl7").glob("*.json"))]
    if not dumps:
        pytest.skip("the field dumps (shared/data/expect) are not here")
    compared = 0
    for dump in dumps:
        raw = (DATA / dump["file"]).read_bytes()
        if not (dump["ok"] and dump["kind"] == "Message" and raw.lstrip(b"\xef\xbb\xbf\x0b").startswith(b"MSH")):
            continue
        try:
            message = Message.parse(raw.rstrip(b"\x1c\r\n"), dump["decoded_as"])
        except MessageError:
            continue
        segments: dict[str, list[Segment]] = {}
        for segment in message.segments():
            segments.setdefault(segment.name, []).append(segment)
        for expected in dump["segments"]:
            mine = segments[expected["seg"]].pop(0) if segments.get(expected["seg"]) else None
            if mine is not None and mine.name.isalnum():
                compared += _compared(mine, expected["f"], dump["file"])
    assert compared > 20_000


def _compared(segment: Segment, fields: dict[str, list[list[object]]], file: str) -> int:
    compared = 0
    for number, repetitions in fields.items():
        mine = segment.repetitions(int(number))
        component = segment.separators.component
        for repetition, parts in zip(mine, repetitions, strict=False):
            if segment.name in {"MSH", "FHS", "BHS"} and int(number) <= 2:
                continue
            values = repetition.split(component)
            for value, part in zip(values, parts, strict=False):
                if (
                    isinstance(part, str)
                    and not part.endswith("chars>")
                    and (segment.separators.subcomponent or "&") not in value
                ):
                    # The other parser takes each wrapped line for a segment of its own.
                    assert value.partition("\n")[0].strip() == part.strip(), (file, segment.name, number)
                    compared += 1
    return compared


@pytest.mark.parametrize(
    ("location", "value"),
    [
        ("ZZ1", "ZZ1\nZZ22"),
        ("ZZ1-1", None),
        ("ZZ2-1", None),
        ("MSH-2(2)", None),
        ("PID-9(2)", None),
        ("PID-1(2)", None),
    ],
)
def test_nothing_is_found_when_a_segment_ends_early(location: str, value: str | None) -> None:
    assert Message.parse(b"MSH|^~\\&|A\rZZ1\rZZ22\rPID|1").get(location) == value
