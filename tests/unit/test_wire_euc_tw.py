"""CNS 11643 in 8-bit form: what the C library makes of it, and what becomes of bytes that are none of it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import MessageError
from broker.formats.delimited import CsvSpec
from broker.wire import euc_tw
from broker.wire.charset import codec_of, codec_of_header, decode
from broker.wire.er7 import Message

pytestmark = pytest.mark.skipif(not euc_tw.is_available(), reason="the C library of this machine has no EUC-TW")

# Plane 1 begins with the characters of Big5's first level, in the same order: 一 (Unihan: 1-4421) to 柒 and so on.
PLANE_1 = [bytes((row, cell)) for row in range(0xC4, 0xD3) for cell in range(0xA1, 0xFF)]
BIG5 = [bytes((high, low)) for high in range(0xA4, 0xB0) for low in (*range(0x40, 0x7F), *range(0xA1, 0xFF))]


def test_characters_of_the_first_plane_are_those_of_big5() -> None:
    assert b"".join(PLANE_1).decode("euc_tw") == b"".join(BIG5[: len(PLANE_1)]).decode("big5")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xc4\xe3", "中"),  # Unihan: 1-4463
        (b"\x8e\xa1\xc4\xe3", "中"),
        (b"\x8e\xa2\xa1\xa1", "乂"),  # 2-2121
        (b"\x8e\xa3\xa1\xa1", "丨"),  # 3-2121
    ],
)
def test_planes_are_told_apart(data: bytes, text: str) -> None:
    assert data.decode("euc_tw") == text
    assert text.encode("euc_tw").decode("euc_tw") == text


def test_message_of_taiwan_is_read_and_every_name_of_the_set_is_known() -> None:
    raw = "MSH|^~\\&|A|||||||||||||||{}\rPID|||1||陳^中一\r"
    for name in ("CNS 11643-1992", "cns 11643", "EUC-TW"):
        message = Message.parse(raw.format(name).encode("euc_tw"))
        assert (message.get("PID-5.1"), message.get("PID-5.2"), message.encoding) == ("陳", "中一", "euc_tw")
    assert codec_of("euc_tw") == codec_of_header(b"CNS 11643-1992") == "euc_tw"


def test_byte_that_is_none_of_it_is_refused_with_its_place() -> None:
    with pytest.raises(MessageError, match=r"offset 13 \(PID-1\) is not euc_tw"):
        decode(b"MSH|\rPID|\xc4\xa1\xc4\xa1\xff", b"CNS 11643-1992")
    with pytest.raises(UnicodeDecodeError):
        b"a\xc4".decode("euc_tw")
    with pytest.raises(UnicodeEncodeError) as caught:
        "a中☃".encode("euc_tw")
    assert (caught.value.start, caught.value.end) == (2, 3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\xff\xc4\xe3", "a\ufffd中"),
        (b"\xc4|\xc4\xe3\xc4", "\ufffd|中\ufffd"),
        (b"\x8e\xa9\xc4\xe3\x80", "\ufffd\ufffd中\ufffd"),  # nothing is in plane 9
    ],
)
def test_byte_that_is_none_of_it_is_replaced_alone(data: bytes, text: str) -> None:
    assert data.decode("euc_tw", "replace") == text


def test_character_that_it_has_not_is_replaced_alone() -> None:
    assert "中☃x".encode("euc_tw", "replace") == b"\xc4\xe3?x"


@given(st.binary(max_size=40), st.integers(0, 40))
def test_any_bytes_come_back_whole_and_in_pieces(data: bytes, cut: int) -> None:
    text = data.decode("euc_tw", "surrogateescape")
    again = text.encode("euc_tw", "surrogateescape")
    assert again.decode("euc_tw", "surrogateescape") == text
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="euc_tw", errors="surrogateescape", newline="")
    assert stream.read(cut) + stream.read() == text


def test_text_is_written_to_a_file() -> None:
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding="euc_tw")
    stream.write("中")
    stream.flush()
    assert file.getvalue() == b"\xc4\xe3"


def test_rows_of_a_file_are_read() -> None:
    form = CsvSpec(encoding="CNS 11643-1992", delimiter=",").build(None)
    file = io.BytesIO("mrn,name\n7,陳\n".encode("euc_tw") + b"8,\xff\n")
    first, second = form.split(file, "a.csv")
    assert form.document(first.body, 0.0).values["row"] == {"mrn": "7", "name": "陳"}
    with pytest.raises(MessageError, match="is not euc_tw"):
        form.document(second.body, 0.0)
