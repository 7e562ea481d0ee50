"""This module checks the 7-bit alphabet of texts, and how they are cut into short messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.wire.gsm import GSM, UCS2, cut, decode, encode, fits_gsm

BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = "\f^{}\\[~]|€"
gsm_texts = st.text(st.sampled_from(BASIC + EXTENSION), max_size=600)


# 3GPP TS 23.038, tables 6.2.1 and 6.2.1.1.
@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("@", "00"),
        ("Hello", "48656c6c6f"),
        ("$", "02"),
        ("_", "11"),
        ("¡", "40"),
        ("¿", "60"),
        ("à", "7f"),
        ("ÄÖÑÜ§", "5b5c5d5e5f"),
        ("€", "1b65"),
        ("[x]", "1b3c781b3e"),
        ("{|}", "1b281b401b29"),
        ("~^\\\f", "1b3d1b141b2f1b0a"),
    ],
)
def test_text_has_the_codes_of_the_standard(text: str, octets: str) -> None:
    assert encode(text).hex() == octets
    assert decode(bytes.fromhex(octets)) == text


@given(gsm_texts)
def test_text_reads_as_it_was_written(text: str) -> None:
    assert fits_gsm(text)
    assert decode(encode(text)) == text


@pytest.mark.parametrize("text", ["ç", "“quoted”", "日本", "🙂", "a\tb", "\x1b"])
def test_text_is_refused_when_no_table_has_it(text: str) -> None:
    assert not fits_gsm(text)
    with pytest.raises(ValueError, match="UCS-2") as refusal:
        encode(text)
    assert text not in str(refusal.value)


def test_octets_without_a_meaning_are_read_all_the_same() -> None:
    assert decode(b"a\x80b") == "a\ufffdb"
    assert decode(b"\x1bA") == "A"  # no such character in the extension: that of the default table
    assert decode(b"a\x1b") == "a"
    assert decode(b"\x1b\x1b\x65") == "€"


@pytest.mark.parametrize(
    ("text", "encoding", "sizes"),
    [
        ("", GSM, [0]),
        ("a" * 160, GSM, [160]),
        ("a" * 161, GSM, [153, 8]),
        ("a" * 306, GSM, [153, 153]),
        ("a" * 307, GSM, [153, 153, 1]),
        ("€" * 80, GSM, [160]),
        ("€" * 81, GSM, [152, 10]),  # 153 septets end in the middle of a pair
        ("日" * 70, UCS2, [140]),
        ("日" * 71, UCS2, [134, 8]),
        ("🙂" * 35, UCS2, [140]),
        ("🙂" * 36, UCS2, [132, 12]),  # 67 code units end in the middle of a pair
        ("a" * 69 + "“", UCS2, [140]),
    ],
)
def test_text_is_cut_at_the_limits_of_the_standard(text: str, encoding: str, sizes: list[int]) -> None:
    found = cut(text)
    assert found.encoding == encoding
    assert [len(part) for part in found.parts] == sizes
    assert found.segments == len(sizes)


@given(st.one_of(gsm_texts, st.text(st.characters(exclude_categories=["Cs"]), max_size=300)))
def test_parts_together_are_the_text(text: str) -> None:
    found = cut(text)
    if found.encoding == GSM:
        assert "".join(map(decode, found.parts)) == text
    else:
        assert "".join(part.decode("utf-16-be") for part in found.parts) == text
    alone, shared = (160, 153) if found.encoding == GSM else (140, 134)
    assert all(len(part) <= (alone if found.segments == 1 else shared) for part in found.parts)
