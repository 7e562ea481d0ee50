"""XML comes in through one door: nothing is expanded, fetched or built beyond bounds."""

import pytest

from broker.errors import MessageError
from broker.wire import safe_xml
from broker.wire.safe_xml import read_xml

BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><lolz>&c;</lolz>"""
EXTERNAL = b"""<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>"""
PARAMETER = b"""<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]><a/>"""
QUADRATIC = b'<!DOCTYPE a [<!ENTITY x "' + b"x" * 10_000 + b'">]><a>' + b"&x;" * 1000 + b"</a>"
OUTSIDE = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>'


def test_document_is_read_with_its_encoding() -> None:
    assert read_xml('<a b="é">ü</a>'.encode()).text == "ü"
    assert read_xml('<?xml version="1.0" encoding="ISO-8859-1"?><a>ü</a>'.encode("latin-1")).text == "ü"
    assert read_xml('<?xml version="1.0" encoding="UTF-16"?><a>ü</a>'.encode("utf-16")).text == "ü"
    assert read_xml(b"\xef\xbb\xbf<?pi x?><!-- c --><a>&amp;&#65;</a>").text == "&A"


@pytest.mark.parametrize("data", [BOMB, EXTERNAL, PARAMETER, QUADRATIC, OUTSIDE, BOMB.decode().encode("utf-16")])
def test_document_types_and_entities_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match=r"line \d+, column \d+: a document type or entity"):
        read_xml(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"<a>" * 101 + b"</a>" * 101, "column 304: nested deeper than 100"),
        (b"<a>" * 100_000, "nested deeper than 100"),
        (b"<a " + b" ".join(b'a%d=""' % number for number in range(101)) + b"/>", "more than 100 attributes"),
        (b"<a>\n<b></a>", "line 2, column 6: mismatched tag"),
        (b"<a>&nbsp;</a>", "undefined entity"),
        (b"", "no element found"),
        (b"{}", "line 1, column 1"),
        (b'<?xml version="1.0" encoding="x-none"?><a/>', "line 1"),
        (b'<a xmlns:b="c"><d:e/></a>', "unbound prefix"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(data: bytes, told: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_xml(data)
    assert told in str(caught.value)


def test_number_of_elements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_xml, "MOST_ELEMENTS", 1000)
    assert len(read_xml(b"<a>" + b"<b/>" * 999 + b"</a>")) == 999
    with pytest.raises(MessageError, match="column 4004: more than 1000 elements"):
        read_xml(b"<a>" + b"<b/>" * 1000 + b"</a>")
    with pytest.raises(MessageError, match="more than 2000 tags"):  # and nothing of it is built
        read_xml(b"<a>" + b"<b/>" * 1999 + b"</a>")


def test_size_is_bounded() -> None:
    with pytest.raises(MessageError, match="has 11 bytes, and 10 are allowed"):
        read_xml(b"<a>1234</a>", largest=10)


def test_depth_that_is_allowed_passes() -> None:
    assert read_xml(b"<a>" * 100 + b"</a>" * 100).tag == "a"


def test_errors_hold_nothing_of_the_content() -> None:
    for data in (b"<Okafor></Anna>", b"<a>&Okafor;</a>", b'<a Okafor="1" Okafor="2"/>'):
        with pytest.raises(MessageError) as caught:
            read_xml(data)
        assert "Okafor" not in str(caught.value)
