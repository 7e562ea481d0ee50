"""This module checks that escape sequences are resolved, and that no text is lost over one that is not known."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.wire.escape import escape, unescape
from broker.wire.header import Separators


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\H\\bold\\T\\\\N\\", "\\H\\bold&\\N\\"),
        ("\\H\\T\\N\\", "\\H\\T\\N\\"),
        ("\\E\\.br\\E\\", "\\.br\\"),
        ("a\\.br\\b\\.sp2\\c", "a\nb\\.sp2\\c"),
        ("\\X0D0A\\", "\r\n"),
        ("\\XC3A4\\", "ä"),
        ("\\XE9\\", "é"),
        ("\\X0\\ \\Xzz\\", "\\X0\\ \\Xzz\\"),
        ("C:\\MIME\\qld28373.pdf", "C:\\MIME\\qld28373.pdf"),
        ("\\Z99\\ \\C2842\\ \\M1B2442\\", "\\Z99\\ \\C2842\\ \\M1B2442\\"),
        ("\\", "\\"),
        ("\\P\\", "\\P\\"),
        ("\\X000d\\\\X000A\\", "\r\n"),
        ("a \\M2442\\;3ED\\C2842\\ \\M2442\\B@O:", "a 山田 太郎"),
        ("\\M2442\\;3E\\C2842\\", "\\M2442\\;3E\\C2842\\"),
        ("\\M9999\\;3\\C2842\\", "\\M9999\\;3\\C2842\\"),
    ],
)
def test_escapes_are_resolved_or_kept_when_unescaped(text: str, value: str) -> None:
    assert unescape(text, Separators()) == value


def test_truncation_is_resolved_when_the_message_defines_it() -> None:
    assert unescape("\\P\\", Separators(truncation="#")) == "#"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("O'Hara", "O'Hara"),
        ("a|b^c~d&e\\f", "a\\F\\b\\S\\c\\R\\d\\T\\e\\E\\f"),
        ("one\r\ntwo\tthree", "one\\X0D\\\\X0A\\two\tthree"),
        ("\x0bx\x1c\0", "\\X0B\\x\\X1C\\\\X00\\"),
        ("\\.br\\", "\\E\\.br\\E\\"),
        ("#", "#"),
    ],
)
def test_text_is_written_so_that_it_breaks_nothing(text: str, written: str) -> None:
    assert escape(text, Separators()) == written


def test_truncation_is_escaped_when_the_message_defines_it() -> None:
    assert escape("#", Separators(truncation="#")) == "\\P\\"


def test_text_is_refused_when_there_is_no_escape_character() -> None:
    separators = Separators("|", "^", "", "", "")
    assert escape("a&b~c\\", separators) == "a&b~c\\"
    with pytest.raises(ValueError, match="no escape character"):
        escape("a^b", separators)


@given(
    st.text(st.sampled_from("|^~&\\#*!?%FSTREPXHN.br0Dé山\r\n\x1c]-"), max_size=30) | st.text(max_size=30),
    st.sampled_from(
        [
            Separators(),
            Separators(truncation="#"),
            Separators("#", "*", "!", "?", "%"),
            Separators("-", "]", "[", "^", "."),
        ]
    ),
    st.sampled_from(["utf-8", "iso8859-1", "shift_jis", "utf-16", "hl7_iso2022_ascii"]),
)
@settings(max_examples=600, deadline=None)
def test_text_comes_back_when_escaped(text: str, separators: Separators, encoding: str) -> None:
    written = escape(text, separators)
    assert not set(separators) - {separators.escape} & set(written) or "" in separators
    assert unescape(written, separators, encoding) == text
