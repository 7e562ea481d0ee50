"""XML is written so that a reader gets what was read, with the prefixes that values may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.wire.safe_xml import Declared, read_xml
from broker.wire.write_xml import escaped, write_xml


def again(text: str, path: str = "") -> str:
    """Read a document, and write what is at a path of it, with what the root declares."""
    declared: Declared = {}
    root = read_xml(text.encode(), declared=declared)
    element = root.find(path) if path else root
    assert element is not None
    return write_xml(element, declared, {} if element is root else declared.get(root, {})).decode()


@pytest.mark.parametrize(
    "text",
    [
        '<a b="1">x<c></c>y</a>',
        '<a xmlns="urn:a"><b xmlns=""><c xmlns="urn:c"></c></b></a>',
        '<p:a xmlns:p="urn:a" xmlns:q="urn:a" xml:lang="en" q:b="1"><p:c xmlns:p="urn:b"></p:c></p:a>',
        '<a xmlns="urn:a" xmlns:n="urn:a" n:b="&quot;&#10;&#9;&amp;&lt;">&#13;&gt;\n</a>',
        '<a xmlns="urn:a" xmlns:x="urn:x" x:type="x:CD"></a>',
    ],
)
def test_what_was_read_is_written_the_same(text: str) -> None:
    written = again(text)
    assert again(written) == written
    assert written == text.replace("q:b", "p:b")


def test_a_part_has_what_was_declared_around_it() -> None:
    text = '<r xmlns="urn:r" xmlns:x="urn:x"><b x:type="x:CD"/></r>'
    assert again(text, "{urn:r}b") == '<b xmlns="urn:r" xmlns:x="urn:x" x:type="x:CD"></b>'


def test_what_follows_a_part_is_left_out() -> None:
    assert again("<r><b>1</b>tail</r>", "b") == "<b>1</b>"


@given(st.text())
def test_text_comes_back_as_it_was_but_for_what_xml_cannot_hold(text: str) -> None:
    came = read_xml(f'<a b="{escaped(text)}">{escaped(text)}</a>'.encode(), encoding="utf-8").text or ""
    assert len(came) == len(text)
    assert all(there in {mine, "\ufffd"} for there, mine in zip(came, text, strict=True))


def test_namespaces_in_force_are_bounded() -> None:
    from broker.errors import MessageError  # noqa: PLC0415 - used here only

    many = " ".join(f'xmlns:p{number}="urn:{number}"' for number in range(101))
    with pytest.raises(MessageError, match="more than 100 namespaces in force"):
        read_xml(f"<a {many}/>".encode())
    beside = "".join(f'<p:b xmlns:p="urn:{number}"/>' for number in range(200))
    assert len(read_xml(f"<a>{beside}</a>".encode())) == 200
