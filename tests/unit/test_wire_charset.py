"""This module checks names of character sets and strict decoding."""

import codecs

import pytest

from broker.errors import MessageError
from broker.wire import euc_tw
from broker.wire.charset import TABLE_0211, TOLERATED, Charset, codec_of, codec_of_header, decode, mark_of
from broker.wire.er7 import Message

READABLE = {name: codec for name, codec in (TABLE_0211 | TOLERATED).items() if codec != euc_tw.NAME}


@pytest.mark.parametrize("name", READABLE)
def test_every_name_has_a_codec_when_looked_up(name: str) -> None:
    assert codecs.lookup(codec_of(name)).name
    assert codec_of_header(name.encode()) == codec_of(name)


@pytest.mark.parametrize("value", [b"ISO IR 999", b"latin-1", b"rot13", b"8859/12", b"\xff"])
def test_header_value_is_refused_when_the_table_has_no_codec_for_it(value: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        codec_of_header(value)
    assert (caught.value.condition, caught.value.location) == (103, "MSH-18")


@pytest.mark.parametrize("name", ["rot13", "zlib", "nonsense", "", "8859/12", "a\0b"])
def test_configured_name_is_refused_when_it_is_no_text_codec(name: str) -> None:
    with pytest.raises(MessageError, match="MSH-18"):
        codec_of(name)


def test_set_that_the_c_library_does_not_have_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(euc_tw, "_THEIRS", b"EUC-NOWHERE")
    euc_tw.is_available.cache_clear()
    try:
        with pytest.raises(MessageError, match="glibc-gconv-extra") as caught:
            codec_of_header(b"CNS 11643-1992")
        assert (caught.value.condition, caught.value.location) == (103, "MSH-18")
        with pytest.raises(MessageError, match="MSH-18"):
            codec_of("euc_tw")
    finally:
        euc_tw.is_available.cache_clear()


def test_set_that_was_never_made_is_refused_with_what_to_do() -> None:
    with pytest.raises(MessageError, match="never made a standard; ask the sender"):
        codec_of_header(b"ISO-8859-12")


def test_python_name_is_taken_when_configured() -> None:
    assert codec_of("latin-1") == "iso8859-1"


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        *((b"", ""), (b'""', ""), (b" unicode utf-8 ", "utf-8"), (b"UNICODE UTF-8~ISO IR87", "utf-8"), (b"~", "")),
        *((b"8859/1~ISO IR87", "hl7_iso2022_iso8859-1"), (b"~ISO IR87", "hl7_iso2022_ascii")),
        *(
            (b"~UNICODE UTF-8", "utf-8"),
            (b'8859/2~""', "iso8859-2"),
            (b"ISO_IR 100~ISO IR 13", "hl7_iso2022_iso8859-1"),
        ),
    ],
)
def test_first_repetition_counts_when_header_is_read(value: bytes, codec: str) -> None:
    assert codec_of_header(value) == codec


@pytest.mark.parametrize(
    ("charset", "codec", "name"),
    [
        (b"8859/2", "iso8859-2", "Wałęsa"),
        (b"8859/15", "iso8859-15", "Cœur €"),
        (b"8859/16", "iso8859-16", "Ștefan €"),
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


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("ISO_IR 100", "iso8859-1"), ("ISO-IR-192", "utf-8"), ("ISO IR 6", "ascii"), ("ISO_IR 87", "iso2022_jp")),
        *(
            ("iso8859-2", "iso8859-2"),
            ("ISO_8859_15", "iso8859-15"),
            ("8859-7", "iso8859-7"),
            ("ISO 8859/9", "iso8859-9"),
        ),
        *(("utf_8", "utf-8"), ("UNICODE UTF8", "utf-8"), ("UNICODE_UTF-16", "utf-16"), ("UTF 32", "utf-32")),
        *(("windows-1250", "cp1250"), ("CP1252", "cp1252"), ("Windows 1251", "cp1251"), ("us-ascii", "ascii")),
    ],
)
def test_usual_spelling_is_understood(name: str, codec: str) -> None:
    assert codec_of_header(name.encode()) == codec
    assert codec_of(name) == codec


@pytest.mark.parametrize("name", ["8859/12", "8859/99", "ISO IR 999", "UTF-7", "WINDOWS-1259x", "ISO IR"])
def test_spelling_is_refused_when_it_names_nothing(name: str) -> None:
    with pytest.raises(MessageError, match="MSH-18"):
        codec_of_header(name.encode())


@pytest.mark.parametrize("declared", [b"UNICODE UTF-16", b"UTF-32", b"UNICODE"])
def test_unicode_is_utf8_when_the_header_came_in_single_bytes(declared: bytes) -> None:
    assert decode("MSH|é".encode(), declared) == ("MSH|é", "utf-8")
    assert decode("MSH|é".encode(), b"", declared.decode()) == ("MSH|é", "utf-8")
    with pytest.raises(MessageError, match="offset 4 is not utf-8"):
        decode(b"MSH|\xe9", declared)


def test_byte_is_replaced_when_the_channel_says_so() -> None:
    charset = Charset(undecodable="replace")
    assert decode(b"MSH|\xe9x", b"UNICODE UTF-8", charset) == ("MSH|\ufffdx", "utf-8")
    raw = b"MSH|^~\\&|A|||||||||||||||UNICODE UTF-8\rPID|||1||M\xfcller\r"
    message = Message.parse(raw, charset)
    assert (message.get("PID-5"), message.raw) == ("M\ufffdller", raw)


@pytest.mark.parametrize(
    ("charset", "declared", "name"),
    [
        (Charset(default="8859/15"), b"", "Cœur"),
        (Charset(default="8859/1"), b"8859/15", "Cœur"),
        (Charset(fixed="8859/15"), b"8859/1", "Cœur"),
        (Charset(), b"8859/15", "Cœur"),
    ],
)
def test_channel_s_charset_counts_in_its_place(charset: Charset, declared: bytes, name: str) -> None:
    assert decode(b"MSH|" + name.encode("iso8859-15"), declared, charset) == ("MSH|" + name, "iso8859-15")


def test_field_is_named_when_a_byte_in_it_is_undecodable() -> None:
    raw = b"MSH|^~\\&|A\rPID|1||x\nNK1|a|M\xfcller"
    with pytest.raises(MessageError, match=rf"offset {raw.index(0xFC)} \(NK1-2\) is not utf-8"):
        decode(raw, b"UTF-8")
    with pytest.raises(MessageError, match=r"offset 9 is not utf-16"):
        decode(b"\x0b" + "MSH|".encode("utf-16-le") + b"x", b"")


# Names as the Japanese and Korean standards for HL7 have them, in bytes.
@pytest.mark.parametrize(
    ("declared", "data", "text"),
    [
        (b"~ISO IR87", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "山田^太郎"),
        (b"ISO IR14~ISO IR87", b"\x1b(J\x1b$B;3ED\x1b(J^", "山田^"),
        (b"ISO IR87", b"\x1b$B;3ED\x1b(B^", "山田^"),
        (b"8859/1~ISO IR87", b"\xe9\x1b$B;3ED\x1b(B\xe8 x", "é山田è x"),
        (b"~ISO IR159", b"\x1b$(D\x30\x21\x1b(B", "丂"),
        (b"ISO IR6~ISO IR13", b"\x1b)I\xd4\xcf\xc0\xde^\x1b(I1\x1b(B1", "ﾔﾏﾀﾞ^ｱ1"),
        (b"~KS X 1001", b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf^a", "김희중^a"),
        (b"8859/1~8859/5", b"\xe9\x1b-L\xbb\xee\x1b-A\xe9", "éЛю\xe9"),
        (b"~ISO IR87", b"\x1b$B;3\rPID|\x1b$BED\x1b(B", "山\rPID|田"),
    ],
)
def test_sets_are_switched_when_msh_18_names_several(declared: bytes, data: bytes, text: str) -> None:
    raw = b"MSH|^~\\&|" + data
    found, codec = decode(raw, declared)
    assert found == "MSH|^~\\&|" + text
    assert raw.decode(codec) == found
    assert found.encode(codec).decode(codec) == found


@pytest.mark.parametrize(("data", "offset"), [(b"\x1b$B;3E\x1b(B", 9), (b"\x1b%G", 4), (b"a\x1b", 5), (b"ab\xe9", 6)])
def test_offset_is_named_when_a_switched_byte_is_undecodable(data: bytes, offset: int) -> None:
    raw = b"MSH|" + data + b"\x1b(B"
    with pytest.raises(MessageError, match=f"offset {offset} ") as caught:
        decode(raw, b"~ISO IR87")
    assert caught.value.location == "MSH-18"
    text, _ = decode(raw, b"~ISO IR87", Charset(undecodable="replace"))
    assert "\ufffd" in text


def test_first_set_alone_is_used_when_nothing_is_switched() -> None:
    assert decode(b"MSH|\xe9", b"8859/1~ISO IR87") == ("MSH|é", "iso8859-1")
    with pytest.raises(MessageError, match="offset 4"):
        decode(b"MSH|\xe9", b"~ISO IR87")


def test_character_is_refused_when_no_switched_set_has_it() -> None:
    with pytest.raises(UnicodeEncodeError):
        "é😀".encode("hl7_iso2022_iso8859-1")


def test_repetition_separator_is_the_message_s_own() -> None:
    message = Message.parse(b"MSH#*!?%#A###############8859/1!ISO IR87#\rPID###\xe9\x1b$B;3ED\x1b(B#\r")
    assert message.get("PID-3") == "é山田"
