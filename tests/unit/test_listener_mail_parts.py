"""This module shows who may send mail, and what of it is a message: of mails as they are, and as nobody should send."""

import contextlib
from email.message import EmailMessage
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listeners.mail_parts import Rules, Stranger, Unreadable, identify, read_mail
from tests.mails import SENDER, in_transit, mail

LAB = "*@lab.example.org"


def rules(**given: Any) -> Rules:
    return Rules(**{"take": "attachments", "senders": [LAB], "most": 1 << 20, **given})


def read(raw: bytes, **given: Any) -> list[bytes]:
    return read_mail(raw, rules(**given))


def from_(*headers: str) -> bytes:
    """Return a mail with these lines in front, and a text."""
    return "\r\n".join([*headers, "", "text", ""]).encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "sender",
    [
        SENDER,
        SENDER.upper(),
        f"St. Mary's Lab <{SENDER}>",
        f'"a@b.example" <{SENDER}>',
        f"=?utf-8?q?L=C3=A4b?= <{SENDER}>",
    ],
)
def test_sender_may_be_written_in_every_way_that_leaves_no_doubt(sender: str) -> None:
    assert read(from_(f"From: {sender}"), take="body") == [b"text\r\n"]


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("From:",),
        ("From: okafor@elsewhere.example",),
        (f'From: "{SENDER}" <okafor@elsewhere.example>',),
        (f"From: {SENDER} <okafor@elsewhere.example>",),
        (f"From: <okafor@elsewhere.example> <{SENDER}>",),
        (f"From: {SENDER}, okafor@elsewhere.example",),
        (f"From: okafor@elsewhere.example, {SENDER}",),
        (f"From: {SENDER}", "From: okafor@elsewhere.example"),
        ("From: okafor@elsewhere.example", f"From: {SENDER}"),
        (f"From: okafor@elsewhere.example({SENDER}",),
        (f"From: {SENDER})okafor@elsewhere.example",),
        ("From: results@lab.example.org.elsewhere.example",),
        (f"From: {SENDER}\0",),
        ("From: \udcff\udcfe",),
        (f"Sender: {SENDER}",),
        (f"Reply-To: {SENDER}", "From: x@sub.lab.example.org"),
    ],
)
def test_sender_that_is_another_or_in_doubt_is_a_stranger(headers: tuple[str, ...]) -> None:
    with pytest.raises(Stranger) as told:
        read(from_(*headers), take="body")
    assert "example" not in str(told.value)


PASSED = "Authentication-Results: mx.clinic.example; spf=none; dmarc=pass (p=reject; x) header.from=lab.example.org"


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ((PASSED,), True),
        ((PASSED.replace("mx.clinic.example;", "MX.clinic.example 1;"),), True),
        (("Authentication-Results: other.example; dmarc=fail", PASSED), True),
        ((), False),
        ((PASSED.replace("mx.clinic", "mx.elsewhere"),), False),
        ((PASSED.replace("=pass", "=fail"),), False),
        ((PASSED.replace("dmarc=pass", "dmarc=passing"),), False),
        ((PASSED.replace("dmarc=pass", "dmarc=none (dmarc=pass)"),), False),
        ((PASSED.replace("dmarc=pass", "x=y dmarc=pass"),), False),
        (("Authentication-Results: mx.clinic.example; none", PASSED), False),  # the one on top is the server's
        (("Authentication-Results:", "Authentication-Results: ;"), False),
    ],
)
def test_sender_is_who_it_says_where_our_server_found_so(headers: tuple[str, ...], may: bool) -> None:
    raw = from_(*headers, f"From: {SENDER}")
    assert read(raw, take="body")
    if may:
        assert read(raw, take="body", authenticated_by="mx.clinic.example")
    else:
        with pytest.raises(Stranger, match="DMARC"):
            read(raw, take="body", authenticated_by="mx.clinic.example")


def test_attachments_are_taken_by_name_and_type() -> None:
    message = EmailMessage()
    message["From"] = SENDER
    message.set_content("see below")
    message.add_alternative("<p>see below</p>", subtype="html")
    message.add_attachment(b"\x89PNG", maintype="image", subtype="png", filename="logo.png", disposition="inline")
    message.add_attachment("a,b\n", subtype="csv", filename="Ergebnisse Müller.CSV")
    message.add_attachment(b"MSH|^~\\&|\r", maintype="application", subtype="hl7-v2")
    message.add_attachment("note", filename="C:\\scans\\note.txt")
    raw = in_transit(message)
    assert read(raw, names=["*.csv"]) == [b"a,b\r\n"]
    assert read(raw, types=["application/*"]) == [b"MSH|^~\\&|\r"]
    assert read(raw, names=["note.txt"], types=["text/*"]) == [b"note\r\n"]
    assert len(read(raw)) == 4
    with pytest.raises(Unreadable, match="no attachment"):
        read(raw, names=["*.csv"], types=["image/*"])


def test_attachment_comes_byte_for_byte() -> None:
    every = bytes(range(256)) * 300 + b"\r\n.\r\n"
    assert read(mail(("a.bin", every))) == [every]
    plain = mail(("a.bin", b"X")).replace(b"base64", b"8bit").replace(b"WA==", b"\xff\r\xfe\n\x00 .")
    assert read(plain) == [b"\xff\r\xfe\n\x00 .\r\n"]


def test_mail_in_a_mail_is_one_attachment_and_not_looked_into() -> None:
    message = EmailMessage()
    message["From"] = SENDER
    inner = EmailMessage()
    inner["From"] = "okafor@elsewhere.example"
    inner.add_attachment(b"{}", maintype="application", subtype="json", filename="a.json")
    message.add_attachment(inner)
    [found] = read(in_transit(message))
    assert b"okafor@elsewhere.example" in found
    with pytest.raises(Unreadable, match="no attachment"):
        read(in_transit(message), names=["*.json"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw[: raw.rindex(b"--")], "not whole"),
        (lambda raw: raw.replace(b"boundary=", b"border="), "told apart"),
        (lambda raw: raw.replace(b"WFhY", b"WF hY="), "damaged"),
        (lambda raw: raw.replace(b"WFhY", b"WFh"), "damaged"),
        (lambda raw: raw.replace(b"Encoding: base64", b"Encoding: x-uuencode"), "a way that mail does not have"),
        (lambda raw: raw.replace(b"application/octet-stream", b"message/partial"), "damaged"),
        (lambda raw: raw + b"x" * (1 << 20), "max_size"),
    ],
)
def test_mail_that_is_not_whole_is_not_taken(change: Any, told: str) -> None:
    raw = mail(("a.bin", b"XXX"))
    assert read(raw) == [b"XXX"]
    assert change(raw) != raw
    with pytest.raises(Unreadable, match=told):
        read(change(raw))


def test_mail_of_endless_parts_is_not_taken() -> None:
    begin = f'From: {SENDER}\r\nContent-Type: multipart/mixed; boundary="x"\r\n\r\n'.encode()
    with pytest.raises(Unreadable, match="more than 1000 parts"):
        read(begin + b"--x\r\n\r\n\r\n" * 1001 + b"--x--\r\n")
    nested = b"".join(b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n) for n in range(33))
    with pytest.raises(Unreadable, match="more than 32 parts that hold others"):
        read(f"From: {SENDER}\r\n".encode() + nested)
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 5000
    with pytest.raises(Unreadable, match="as no mail is"):  # the parser gives up
        read(f"From: {SENDER}\r\n".encode() + deep)


def test_text_is_the_first_plain_one_in_utf8() -> None:
    message = EmailMessage()
    message["From"] = SENDER
    message.set_content("Größe 5\n", charset="iso-8859-1", cte="quoted-printable")
    message.add_alternative("<p>5</p>", subtype="html")
    message.add_attachment("other", filename="a.txt")
    assert read(in_transit(message), take="body") == ["Größe 5\r\n".encode()]
    for charset in ("martian", "us-ascii"):
        with pytest.raises(Unreadable, match="not in the encoding"):
            read(in_transit(message).replace(b"iso-8859-1", charset.encode()), take="body")
    with pytest.raises(Unreadable, match="no plain text"):
        read(from_(f"From: {SENDER}", "Content-Type: text/html"), take="body")


def test_whole_mail_is_json() -> None:
    raw = mail(("Müller.csv", b"a\n"), ("logo.png", b"\x89"))
    [found] = read(raw, take="message", names=["*.csv"])
    assert orjson.loads(found) == {
        "message_id": "<1@lab.example.org>",
        "date": "2026-03-18T14:15:00+01:00",
        "from": f'"Lab, St. Mary" <{SENDER}>',
        "to": "handoff@clinic.example.org",
        "subject": "Results of Okafor",
        "text": "Please find the results attached.\r\n",
        "attachments": [{"name": "Müller.csv", "type": "application/octet-stream", "content": "YQo="}],
    }
    [bare] = read(from_(f"From: {SENDER}", "Content-Type: text/html", "Date: soon", "Subject: \udcff"), take="message")
    told = orjson.loads(bare)
    assert (told["date"], told["text"], told["to"], told["message_id"]) == (None, None, None, None)


def test_mail_is_known_by_its_id_and_body_or_by_all_of_it() -> None:
    raw = mail()
    on_its_way = b"Received: from there\r\n" + raw
    assert identify(raw) == identify(on_its_way)
    assert len({identify(each) for each in (raw, raw + b"\r\n", raw.replace(b"<1@", b"<2@"))}) == 3
    nameless = raw.replace(b"Message-ID", b"X-ID")
    assert len({identify(nameless), identify(b"Received: from there\r\n" + nameless), identify(raw)}) == 3


@given(st.binary(max_size=400), st.sampled_from(["attachments", "body", "message"]))
def test_nothing_that_anybody_sends_raises_anything_else(rubbish: bytes, take: str) -> None:
    identify(rubbish)
    for raw in (rubbish, f"From: {SENDER}\r\n".encode() + rubbish):
        with contextlib.suppress(Stranger, Unreadable):
            assert all(isinstance(part, bytes) for part in read(raw, take=take, senders=["*"]))
