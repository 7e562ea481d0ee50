"""This module checks that a long segment, which is never copied, reads as any other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.wire.er7 import Location, Message
from broker.wire.header import Separators
from broker.wire.segment import LongSegment, Segment

TEXT = st.text(st.sampled_from("|^~&\\aTF\n"), max_size=40)


@given(
    TEXT,
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([Separators(), Separators("|", "^", "", "", "")]),
)
@settings(max_examples=1500, deadline=None)
def test_long_segment_reads_as_any_other(
    text: str, field: int, component: int, subcomponent: int, separators: Separators
) -> None:
    line = "OBX|" + text
    short = Segment("OBX", line, separators, "utf-8")
    long = LongSegment("OBX", f"x\r{line}\ry", 2, 2 + len(line), separators, "utf-8")
    assert long.first(field, component, subcomponent) == short.first(field, component, subcomponent)
    location = Location("OBX", field, component, subcomponent, repetition=2)
    assert long.at(location) == short.at(location)
    assert (long.text, long.fields) == (short.text, short.fields)


@pytest.mark.parametrize("name", ["MSH", "BHS"])
def test_definition_is_not_split_when_a_long_segment_has_one(name: str) -> None:
    line = name + "|^~\\&|A"
    long = LongSegment(name, line, 0, len(line), Separators(), "utf-8")
    assert [long.first(number, 0, 0) for number in range(4)] == [line, "|", "^~\\&", "A"]
    with pytest.raises(AttributeError):
        _ = long.other


@pytest.mark.parametrize("ending", ["", "\r", "\rNTE|1||n\r", "\rZZZ|1\r", "\r\r"])
def test_document_is_read_when_long(ending: str) -> None:
    content = "QUJD" * 20_000
    message = Message.parse(f"MSH|^~\\&|A\rOBX|1|ED|PDF||^pdf^^Base64^{content}||||||F{ending}".encode())
    assert isinstance(message.first("OBX"), LongSegment)
    assert isinstance(message.segments("OBX")[0], LongSegment)
    for read in (message.get, lambda where: message.all(where)[0]):
        assert (read("OBX-5.5") == content, read("OBX-5.4"), read("OBX-11")) == (True, "Base64", "F")


def test_document_is_read_when_wrapped() -> None:
    content = "\n".join(["QUJD" * 19] * 2000)
    message = Message.parse(f"MSH|^~\\&|A\rOBX|1|ED|PDF||^pdf^^Base64^{content}||||||F\nNTE|1\r".encode())
    assert isinstance(message.first("OBX"), LongSegment)
    assert (message.get("OBX-5.5") == content, message.get("OBX-11"), message.get("NTE-1")) == (True, "F", "1")
