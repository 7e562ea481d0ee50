"""This module checks names of character sets and strict decoding."""

import codecs

import pytest

from broker.errors import MessageError
from broker.wire.charset import TABLE_0211, TOLERATED, codec_of, codec_of_header, decode, mark_of


@pytest.mark.parametrize("name", [*TABLE_0211, *TOLERATED])
def test_every_name_has_a_codec_when_looked_up(name: str) -> None:
    assert codecs.lookup(codec_of(name)).name
    assert codec_of_header(name.encode()) == codec_of(name)


@pytest.mark.parametrize("value", [b"ISO IR 999", b"latin-1", b"rot13", b"CNS 11643-1992", b"8859/12", b"\xff"])
def test_header_value_is_refused_when_the_table_has_no_codec_for_it(value: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        codec_of_header(value)
    assert (caught.value.condition, caught.value.location) == (103, "MSH-18")


@pytest.mark.parametrize("name", ["rot13", "zlib", "nonsense", "", "CNS 11643-1992", "a\0b"])
def test_configured_name_is_refused_when_it_is_no_text_codec(name: str) -> None:
    with pytest.raises(MessageError, match="MSH-18"):
        codec_of(name)


def test_python_name_is_taken_when_configured() -> None:
    assert codec_of("latin-1") == "iso8859-1"


@pytest.mark.parametrize(
    ("value", "codec"),
    [(b"", ""), (b'""', ""), (b"8859/1~ISO IR87", "iso8859-1"), (b" unicode utf-8 ", "utf-8"), (b"~8859/1", "")],
)
def test_first_repetition_counts_when_header_is_read(value: bytes, codec: str) -> None:
    assert codec_of_header(value) == codec


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        (b"8859/2", "iso8859-2", "Wałęsa"),
        (b"8859/15", "iso8859-15", "Cœur €"),
        (b"ISO IR87", "iso2022_jp", "山田"),
        (b"ISO IR159", "iso2022_jp_1", "山田"),
        (b"GB 18030-2000", "gb18030", "张伟"),
        (b"KS X 1001", "euc_kr", "김"),
        (b"BIG-5", "big5", "陳"),
        (b"UNICODE UTF-8", "utf-8", "Müller"),
    ],
)
def test_text_comes_back_when_decoded_as_declared(charset: bytes, codec: str, name: str) -> None:
    assert decode(b"MSH|" + name.encode(codec), charset) == ("MSH|" + name, codec)


@pytest.mark.parametrize(("data", "offset"), [(b"MSH|\xe9", 4), (b"MSH|abc\xff", 7)])
def test_offset_is_named_when_a_byte_is_not_in_the_character_set(data: bytes, offset: int) -> None:
    for charset in (b"ASCII", b"UNICODE UTF-8"):
        with pytest.raises(MessageError, match=f"offset {offset} ") as caught:
            decode(data, charset)
        assert (caught.value.condition, caught.value.location) == (102, "MSH-18")


def test_utf8_then_windows_then_latin_when_nothing_is_declared() -> None:
    assert decode("MSH|é".encode()) == ("MSH|é", "utf-8")
    assert decode("MSH|é€".encode("cp1252")) == ("MSH|é€", "cp1252")
    assert decode(b"MSH|\xe9\x81") == ("MSH|é\x81", "iso8859-1")


def test_default_is_used_when_nothing_is_declared() -> None:
    assert decode("MSH|é".encode(), default="8859/1") == ("MSH|Ã©", "iso8859-1")
    assert decode("MSH|é".encode(), b"UNICODE UTF-8", default="8859/1") == ("MSH|é", "utf-8")


def test_encoding_overrules_header_when_given() -> None:
    assert decode(b"MSH|\xe9", b"ISO IR 999", "8859/1") == ("MSH|é", "iso8859-1")


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_mark_or_zeros_overrule_everything_when_present(codec: str) -> None:
    text, _ = decode("MSH|é".encode(codec), b"ASCII", "8859/1")
    assert text == "MSH|é"


def test_no_mark_is_found_when_plain() -> None:
    assert mark_of(b"MSH|") == ""
