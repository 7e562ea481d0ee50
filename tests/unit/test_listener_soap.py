"""What is read from an envelope is what its sender meant: tokens once and in time, headers for us, text as it was."""

import json
import time
from contextlib import suppress
from typing import Final
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listeners import soap_security
from listeners.http_request import Refusal, Request
from listeners.soap_content import hl7_bytes, message_in
from listeners.soap_envelope import Envelope, SoapRefusal, read_envelope
from listeners.soap_security import SECURITY, Tokens
from listeners.soap_service import OperationSpec, load_service, services
from tests.soap_peer import OASIS, V11, V12, WSSE, envelope, token

NOW: Final = time.time()


async def _nothing(_largest: int, _seconds: float) -> bytes:
    return b""


def read(body: bytes, kind: str = "text/xml") -> Envelope:
    request = Request(method="POST", path="/", rest="", headers={"content-type": kind}, read=_nothing)
    return read_envelope(request, body, ("1.1", "1.2"))


def security(header: str) -> Element:
    found = read(envelope("<a/>", V11, header)).header(SECURITY)
    assert found is not None
    return found


def stamped(**times: str) -> str:
    inner = "".join(f"<w:{name}>{text}</w:{name}>" for name, text in times.items())
    stamp = f'<w:Timestamp xmlns:w="{OASIS}wssecurity-utility-1.0.xsd">{inner}</w:Timestamp>'
    return f'<Security xmlns="{WSSE[1:-1]}">{stamp}</Security>'


def test_a_header_without_a_token_says_nothing_of_the_caller() -> None:
    tokens = Tokens(300, lambda: NOW)
    assert tokens.read(security(stamped(Created="2026-11-28T09:30:00.5Z"))) is None
    for expires, told in (("2001-01-01T00:00:00", "has expired"), ("soon", "write it as")):
        with pytest.raises(SoapRefusal, match=told):
            tokens.read(security(stamped(Expires=expires)))


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (token("", "x"), "needs Username and Password"),
        (token("u", "x", NOW, b"n", digest=True).replace("#PasswordDigest", "#Other"), "has a PasswordText"),
        (token("u", "x", NOW, b"n", digest=True).replace("<Nonce>", "<Nonce>?"), "no Base64"),
        (token("u", "x").replace("</Security>", "<UsernameToken/></Security>"), "nothing else"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(header: str, told: str) -> None:
    with pytest.raises(SoapRefusal, match=told):
        Tokens(300, lambda: NOW).read(security(header))


def test_a_token_is_remembered_for_as_long_as_it_could_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = NOW
    tokens = Tokens(300, lambda: now)
    ahead = security(token("u", "x", NOW + 299, b"n", digest=True))
    tokens.read(ahead)  # a token is used when its caller is known, and not before
    login = tokens.read(ahead)
    assert login is not None
    assert (login.shows("x"), login.shows("y")) == (True, False)
    tokens.spend(login)
    spelt = tokens.read(
        security(token("u", "x", NOW + 299, b"n", digest=True).replace(">bg==", ">bh=="))
    )  # the same nonce
    assert spelt is not None
    now = NOW + 598
    with pytest.raises(SoapRefusal, match="came again"):
        tokens.spend(spelt)
    with pytest.raises(SoapRefusal, match="came again"):
        tokens.spend(login)
    monkeypatch.setattr(soap_security, "_MOST_TOKENS", 1)
    other = tokens.read(security(token("u", "x", NOW + 599, b"m")))
    assert other is not None
    with pytest.raises(Refusal, match="too many logins") as caught:
        tokens.spend(other)
    assert caught.value.status == 503
    now = NOW + 601
    tokens.spend(other)
    with pytest.raises(SoapRefusal, match="too old"):
        tokens.read(ahead)


def test_logins_show_nothing_of_themselves() -> None:
    login = Tokens(300, lambda: NOW).read(security(token("Okafor", "s3cret")))
    assert "Okafor" not in repr(login)
    assert "s3cret" not in repr(login)


@pytest.mark.parametrize(
    ("charset", "codec"),
    [("", "utf-8"), ("8859/1", "latin-1"), ("UNICODE UTF-16", "utf-8"), ("nonsense", "utf-8")],
)
def test_hl7_is_written_as_its_header_says(charset: str, codec: str) -> None:
    text = f"MSH|^~\\&|A|B|C|D|20261120||ADT^A08|1|P|2.5||||||{charset}\r\nPID|1||1||Okáfor\n"
    assert hl7_bytes(f"\n  {text}  ") == text.replace("\r\n", "\r").replace("\n", "\r").encode(codec)


def test_a_declaration_in_text_is_left_out_as_its_encoding_is_not_so_any_more() -> None:
    operation = OperationSpec.model_validate({"message": "doc"})
    body = envelope("<a><doc><![CDATA[ <?xml version='1.0' encoding='utf-16'?><r>é</r>]]></doc></a>")
    assert message_in(read(body), operation, "urn:x", "cda") == "<r>é</r>".encode()
    assert message_in(read(body), operation, "urn:x", "csv").startswith(b" <?xml")


def test_json_of_xml_keeps_what_there_is() -> None:
    operation = OperationSpec.model_validate(
        {"message": "p", "content": "json", "lists": ["one"], "login": ["p/user", "secret"]}
    )
    xsi = 'xmlns:i="http://www.w3.org/2001/XMLSchema-instance"'
    body = envelope(
        f'<a {xsi}><secret>1</secret><p id="7" i:type="x"><user>u</user><one>1</one><many>1</many><many/><many>3</many>'
        '<none i:nil="true"/><mixed a="b"> text <c/> more </mixed></p></a>'
    )
    assert json.loads(message_in(read(body), operation, "urn:x", "json")) == {
        "@id": "7",
        "one": ["1"],
        "many": ["1", "", "3"],
        "none": None,
        "mixed": {"@a": "b", "c": "", "#text": "text  more"},
    }


def test_encoding_of_the_content_type_goes_first() -> None:
    body = '<?xml version="1.0" encoding="utf-8"?>' + envelope("<a>é</a>").decode()
    assert read(body.encode("latin-1"), 'text/xml; charset="ISO-8859-1"').payload.text == "é"
    with pytest.raises(SoapRefusal, match="an encoding that cannot be read"):
        read(body.encode(), "text/xml; charset=nonsense")


def test_headers_that_are_for_others_are_passed_over() -> None:
    header = '<a s:role="urn:proxy" s:mustUnderstand="true"/><b/>'
    assert [each.tag for each in read(envelope("<a/>", V12, header)).headers] == ["b"]


@given(at=st.integers(0, 2000), length=st.integers(0, 40), put=st.binary(max_size=20), digest=st.booleans())
def test_whatever_comes_is_read_or_refused(*, at: int, length: int, put: bytes, digest: bool) -> None:
    """Bytes in the middle of a good request are others; what is not refused is a message and a login."""
    header = token("clinic", "x", NOW, b"n", digest=digest)
    body = envelope("<put xmlns='urn:x'><p a='1'>x<b/></p><id>7</id></put>", V12, header)
    at %= len(body)
    with suppress(Refusal):
        found = read(body[:at] + put + body[at + length :], "application/soap+xml")
        for element in found.headers:
            Tokens(300, lambda: NOW).read(element)
        for content in ("json", "xml", "text", "base64"):
            message_in(found, OperationSpec.model_validate({"message": "p", "content": content}), "urn:x", "hl7")


def test_every_known_service_is_sound() -> None:
    for name in services():
        assert load_service(name).formats == {"hl7"}
    with pytest.raises(ValueError, match="known: cdc_2011"):
        load_service("../cdc_2011")
