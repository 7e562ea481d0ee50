"""This module checks that changed messages say what was set, and keep every other byte."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.wire.charset import Charset
from broker.wire.draft import Draft
from broker.wire.er7 import Location, Message

DATA = Path(__file__).parents[2] / "../shared/data"
RAW = (
    b"\x0bMSH|^~\\&|A|B|||20260101||ADT^A01|1|P|2.5||||||8859/1|||\r\n"
    b"EVN|A01||\n"
    b"PID|1||12^^^H&1.2&ISO^MR~9^^^S^SS||M\xfcller^J\\T\\X\\Z1\\||||||\r"
    b"\r"
    b"OBX|1|TX|A||one\r\ntwo^x||\n"
    b"OBX|2|TX|B||be\rADD|gin|mm\r"
    b"ZZ1"
)


def draft(raw: bytes = RAW) -> Draft:
    return Draft(Message.parse(raw))


@pytest.mark.parametrize(
    ("location", "value", "old", "new"),
    [
        ("PID-5", "Meyer", b"M\xfcller", b"Meyer"),
        ("PID-5.1", "Bj\xf6rk|X", b"M\xfcller", b"Bj\xf6rk\\F\\X"),
        ("PID-3[5=SS].1", "10", b"~9^", b"~10^"),
        ("PID-3(2).4.2", "1.3", b"^S^SS", b"^S&1.3^SS"),
        ("PID-3(3)", "7", b"^SS|", b"^SS~7|"),
        ("PID-3(3).5", "PI", b"^SS|", b"^SS~^^^^PI|"),
        ("PID-3.4", None, b"^H&1.2", b"^&1.2"),
        ("PID-3.4.2", "2.3", b"&1.2&", b"&2.3&"),
        ("PID-8", '""', b"\\||||||\r", b'\\|||""|||\r'),
        ("PID-13.3", "CP", b"||||||\r\r", b"||||||||^^CP\r\r"),
        ("MSH-10", "2", b"|1|P", b"|2|P"),
        ("EVN-2", "2026", b"A01||\n", b"A01|2026|\n"),
        ("OBX-5", "line\nend", b"one\r\ntwo", b"line\\X0A\\end"),
        ("OBX-5.2", "y", b"two^x", b"two^y"),
        ("OBX(2)-6", "cm", b"be\rADD|gin|mm", b"begin|cm"),
        ("OBX[3=B]-5", "all", b"be\rADD|gin|mm", b"all|mm"),
        ("PID/OBX[2]-1", "9", b"OBX|2|TX|B||be\rADD|gin", b"OBX|9|TX|B||begin"),
        ("ZZ1-2", "z", b"ZZ1", b"ZZ1||z"),
    ],
)
def test_value_alone_is_changed_when_set(location: str, value: str | None, old: bytes, new: bytes) -> None:
    changed = draft().set(location, value)
    assert changed.encode() == RAW.replace(old, new, 1)
    assert changed.message.get(location) == value


@pytest.mark.parametrize("location", ["PID-40", "PID-5.9", "OBX-5(4)", "PID-8"])
def test_nothing_is_changed_when_what_is_not_there_is_emptied(location: str) -> None:
    assert draft().set(location, None).encode() == RAW
    assert draft().set(location, "").encode() == RAW


@pytest.mark.parametrize(
    ("location", "value", "says"),
    [
        ("PV1-3", "x", "no such segment"),
        ("OBX(3)-1", "x", "no such segment"),
        ("PID[2]/OBX-1", "x", "no such segment"),
        ("PID", "x", "a place in a field"),
        *((name, "x", "cannot be changed") for name in ("MSH-1", "MSH-2", "MSH-18")),
        ("PID-3(9)", "x", "has 2 repetitions"),
        ("PID-3[5=PI].1", "x", "no repetition"),
        ("PID-5", "山", "character set (iso8859-1)"),
        ("PID-5", "\udc80", "character set (iso8859-1)"),
    ],
)
def test_change_is_refused_with_its_location(location: str, value: str, says: str) -> None:
    changing = draft()
    with pytest.raises(MessageError) as caught:
        changing.set(location, value)
    assert says in str(caught.value)
    assert caught.value.location == str(Location.parse(location))
    assert changing.encode() == RAW


def test_change_is_refused_when_the_message_has_no_separator_for_it() -> None:
    changing = draft(b"MSH|^|A\rPID|1\r")
    for location, value in (("PID-3(2)", "x"), ("PID-3.1.2", "x"), ("PID-3", "a|b")):
        with pytest.raises(MessageError, match=r"separator|repetitions"):
            changing.set(location, value)
    assert changing.set("PID-3.2", "x").encode() == b"MSH|^|A\rPID|1||^x\r"


def test_segments_are_added_and_taken_out_in_their_place() -> None:
    changing = draft().append("PV1|1|I", after="PID").append("NTE|1||\xe9", after="OBX(2)").append("ZZ2|9")
    assert [segment.name for segment in changing.message.segments()] == (
        ["MSH", "EVN", "PID", "PV1", "OBX", "OBX", "NTE", "ZZ1", "ZZ2"]
    )
    assert changing.encode() == RAW.replace(b"\r\rOBX", b"\rPV1|1|I\r\rOBX").replace(
        b"|mm\rZZ1", b"|mm\rNTE|1||\xe9\rZZ1\r\nZZ2|9"
    )
    for location in ("ZZ2", "NTE", "PV1"):
        changing.remove(location)
    assert changing.remove("OBX[3=A]").message.all("OBX-1") == ["2"]
    assert changing.message.get("EVN-1") == "A01"


@pytest.mark.parametrize("segment", ["", "PI|1", "pid|1", "PID^1", "PID|1\r", "PID|1\nx", "ADD|1"])
def test_segment_is_refused_when_it_is_none(segment: str) -> None:
    with pytest.raises(MessageError, match="one line that begins with its name"):
        draft().append(segment)


def test_segment_is_refused_when_it_cannot_be_written_or_found() -> None:
    with pytest.raises(MessageError, match="character set"):
        draft().append("NTE|1||山")
    with pytest.raises(MessageError, match="no such segment"):
        draft().append("NTE|1", after="PV1")
    with pytest.raises(MessageError, match="cannot be taken out"):
        draft().remove("MSH")
    with pytest.raises(MessageError, match="no such segment"):
        draft().remove("PV1")


@pytest.mark.parametrize("tail", [b"", b"\r", b"\r\n", b"\x1c\r", b"\r\x1c\r", b"\r\n\r\n\x1a", b"\0\0"])
def test_tail_stays_at_the_end_when_a_segment_is_added(tail: bytes) -> None:
    changing = draft(b"MSH|^~\\&|A\rPID|1" + tail).append("NTE|1")
    assert changing.encode().startswith(b"MSH|^~\\&|A\rPID|1\r")
    assert [segment.text for segment in changing.message.segments()[1:]] == ["PID|1", "NTE|1"]
    assert changing.set("NTE-3", "x").message.get("NTE-3") == "x"
    assert changing.encode().endswith(tail.lstrip(b"\r\n"))


@pytest.mark.parametrize("codec", ["utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be", "utf-8-sig"])
@pytest.mark.parametrize("framing", [b"", b"\x0b"])
def test_mark_and_byte_order_stay_when_wide(codec: str, framing: bytes) -> None:
    text = "MSH|^~\\&|A\rPID|1||x\u0d0aé\r"
    changed = draft(framing + text.encode(codec)).set("PID-3", "山").append("NTE|ö")
    assert changed.encode() == framing + text.replace("x\u0d0aé", "山").encode(codec) + (
        "NTE|ö\r".encode("utf-8" if codec == "utf-8-sig" else codec.replace("-16", "-16-le").replace("-32", "-32-le"))
        if codec in {"utf-16", "utf-32", "utf-8-sig"}
        else "NTE|ö\r".encode(codec)
    )


@pytest.mark.parametrize(
    ("declared", "data", "value"),
    [
        ("~ISO IR87", b"\x1b$B;3ED\x1b(B", "太郎"),
        ("GB 18030-2000", "张伟".encode("gb18030"), "李娜"),
        ("BIG-5", "許功蓋".encode("big5"), "陳"),
        ("KS X 1001", "김".encode("euc_kr"), "이"),
    ],
)
def test_other_values_keep_their_bytes_in_any_character_set(declared: str, data: bytes, value: str) -> None:
    raw = b"MSH|^~\\&|A|||||||1|P|2.5||||||%b\rPID|1||7||%b^x||\rNTE|%b\r" % (declared.encode(), data, data)
    changed = draft(raw).set("PID-3", "8").set("PID-6", value)
    message = changed.message
    assert changed.encode().startswith(raw[: raw.index(b"7||")] + b"8||" + data + b"^x|")
    assert changed.encode().endswith(b"|\rNTE|" + data + b"\r")
    assert (message.get("PID-6"), message.get("NTE-1")) == (value, Message.parse(raw).get("NTE-1"))


def test_undecodable_bytes_stay_when_another_value_is_set() -> None:
    raw = b"MSH|^~\\&|A\rPID|1||7||M\xfc\xffller\r"
    changed = Draft(Message.parse(raw, Charset("UTF-8", undecodable="replace"))).set("PID-3", "é")
    assert changed.encode() == raw.replace(b"|7|", b"|\xc3\xa9|")


def test_segment_is_refused_when_its_bytes_would_not_come_back() -> None:
    raw = b"MSH|^~\\&|A||||||||||||||||~ISO IR87\rPID|1||\x1b$B;3\x1b(J\x1b(B|x\r"
    changing = Draft(Message.parse(raw, "hl7_iso2022_ascii"))
    with pytest.raises(MessageError, match="cannot be encoded again"):
        changing.set("PID-4", "y")
    assert changing.encode() == raw


def test_text_behind_msh_stays_when_it_is_no_segment() -> None:
    raw = b"MSH|^~\\&|A\r\rlost\rmore\rPID|1\r"
    assert draft(raw).encode() == raw
    assert draft(raw).set("MSH-4", "B").set("PID-2", "2").encode() == b"MSH|^~\\&|A|B\r\rlost\rmore\rPID|1|2\r"


TEXT = st.text(st.sampled_from('|^~&\\ab \r\n\x0b\x1c"é'), max_size=8) | st.sampled_from(['""', "\\H\\", "\\X41\\"])
PLACE = st.tuples(
    *(st.sampled_from(["MSH", "PID", "OBX", "ZZ1"]), st.integers(3, 12), st.integers(0, 4), st.integers(0, 3)),
    st.integers(0, 2),
)


@given(st.lists(st.tuples(PLACE, TEXT), min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_what_was_set_is_read_and_the_rest_is_not_touched(
    changes: list[tuple[tuple[str, int, int, int, int], str]],
) -> None:
    changing = draft()
    for (name, field, component, subcomponent, repetition), value in changes:
        location = Location(name, field, component or bool(subcomponent), subcomponent, repetition=repetition)
        before = {place: changing.message.get(place) for place in ("PID-5", "EVN-1", "OBX(2)-5", "MSH-12")}
        try:
            changing.set(location, value)
        except MessageError as error:
            assert error.location == str(location)  # noqa: PT017 - most changes are not refused
            continue
        assert changing.message.get(location) == (value or None)
        for place, kept in before.items():
            other = Location.parse(place)
            if (other.segment, other.field) != (name, field):
                assert changing.message.get(place) == kept
    assert len(changing.message.segments()) == len(draft().message.segments())


def test_every_message_of_other_people_stays_as_it_is_until_changed() -> None:
    paths = sorted((DATA / "hl7").glob("*.hl7"))
    if not paths:
        pytest.skip("the message collection (shared/data/hl7) is not here")
    changed = 0
    for path in paths:
        raw = path.read_bytes()
        try:
            changing = draft(raw)
        except MessageError:
            continue
        assert changing.encode() == raw, path.name
        new = changing.set("MSH-6", "HANDOFF").encode()
        assert changing.message.get("MSH-6") == "HANDOFF", path.name
        start = raw.index(b"MSH")
        rest = raw[raw.index(raw[start : start + 60].splitlines(keepends=True)[0][-1:], start) :][-40:]
        assert new.endswith(rest[-20:]) or len(raw) < 200, path.name
        changed += 1
    assert changed > 300
