"""This module tests e-mail: what is rendered and frozen, addresses, and the bytes of a message."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.canonical.model import Event, Patient, Source
from broker.errors import ConfigError, StepError
from broker.message import Document
from config.mail_servers import MailServerSpec
from dispatch.email import EmailSpec, find_mail_server
from dispatch.mail.address import Mailbox, read_address, read_mailbox
from dispatch.mail.compose import Mail, compose
from transforms.template import compile_template, compile_value

KIT = cast("Any", SimpleNamespace(template=compile_template, value=compile_value))
SENDER = Mailbox("clinic@example.org", "Mercy, Clinic")


def document(given: str = "Ada", email: str | None = "ada@example.com") -> Document:
    event = Event(kind="patient.registered", source=Source(), patient=Patient(given=given, email=email))
    return Document(message=None, received_at=1_790_000_000.9, event=event)


def spec(**options: Any) -> EmailSpec:
    declared = {
        "mail_server": "office",
        "to": "{{ patient.email }}",
        "subject": "Welcome, {{ patient.given }}",
        "text": "Hello {{ patient.given }}",
        **options,
    }
    return EmailSpec.model_validate(declared)


def render(found: Document, **options: Any) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(spec(**options).build_renderer(KIT)(found))
    return read


def test_request_is_frozen_with_the_date_of_the_message() -> None:
    assert render(document()) == {
        "date": 1_790_000_000,
        "html": "",
        "subject": "Welcome, Ada",
        "text": "Hello Ada\n",
        "to": "ada@example.com",
    }


def test_html_escapes_what_it_takes() -> None:
    found = render(document(given='<b>"Ada"</b> & co'), html="<p title='{{ patient.given }}'>{{ patient.given }}</p>")
    escaped = "&lt;b&gt;&quot;Ada&quot;&lt;/b&gt; &amp; co"
    assert found["html"] == f"<p title='{escaped}'>{escaped}</p>\n"
    assert found["text"] == 'Hello <b>"Ada"</b> & co\n'


@pytest.mark.parametrize(
    ("given", "email", "told"),
    [
        ("Ada", None, "no address to send to"),
        ("Ada", "ada", "is no mail address"),
        ("Ada", "ada@example.com, eve@example.com", "is no mail address"),
        ("Ada", "ada@example.com\r\nBcc: eve@example.com", "is no mail address"),
        ("Ada\r\nBcc: eve@example.com", "ada@example.com", "subject holds a line break"),
        ("Ada\u2028x", "ada@example.com", "subject holds a line break"),
        ("x" * 300, "ada@example.com", "subject has 309 characters and may have 250"),
    ],
)
def test_mail_is_refused_when_it_would_not_be_what_it_says(given: str, email: str | None, told: str) -> None:
    with pytest.raises(StepError, match=told) as refusal:
        render(document(given, email))
    assert "eve" not in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"text": "Dear {{ patient.family }}"}, "a hole gives nothing"),
        ({"html": "<p>{{ patient.family }}</p>"}, "a hole gives nothing"),
        ({"subject": "For {{ patient.family }}"}, "a hole gives nothing"),
        ({"text": "{{ patient.family | default('') }}"}, "the text is empty"),
        ({"html": "{{ patient.family | default('') }}"}, "the html is empty"),
        ({"subject": "{{ patient.family | default('') }}"}, "the subject is empty"),
        ({"text": "x" * 199_998 + "{{ patient.given }}"}, "the text has 200001 characters"),
    ],
)
def test_mail_is_refused_when_a_part_of_it_cannot_be_used(options: dict[str, str], told: str) -> None:
    with pytest.raises(StepError, match=told):
        render(document(), **options)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ada@example.com", "ada@example.com"),
        (" Ada.L+x@sub.example.com ", "Ada.L+x@sub.example.com"),
        ("ada@localhost", "ada@localhost"),
        ("", None),
        ("@example.com", None),
        ("ada@", None),
        ("ada", None),
        ("a b@example.com", None),
        ("ada@exa mple.com", None),
        ("ada@example..com", None),
        ("Ada <ada@example.com>", None),
        ("ada@example.com>", None),
        ("ädä@example.com", None),
        ("ada@example.com\n", "ada@example.com"),
        ("ada\n@example.com", None),
        ("x" * 250 + "@example.com", None),
        ("a@b@example.com", None),
    ],
)
def test_address_is_one_plain_address_or_none(text: str, address: str | None) -> None:
    assert read_address(text) == address


@given(st.text(max_size=40))
def test_no_address_ends_a_command_early(text: str) -> None:
    found = read_address(text)
    assert found is None or not set(found) & set("<>\r\n ")


def test_mailbox_has_a_name_or_none() -> None:
    assert read_mailbox("clinic@example.org") == Mailbox("clinic@example.org")
    assert read_mailbox('"Mercy, Clinic" <clinic@example.org>') == SENDER
    assert read_mailbox("Clinic <clinic>") is None
    assert read_mailbox("Clinic\n<clinic@example.org>x") is None
    assert SENDER.domain == "example.org"


def mail(**options: Any) -> Mail:
    said = {"to": "ada@example.com", "subject": "Welcome", "text": "Hello\n", "sent_at": 1_790_000_000, "key": "k" * 32}
    return Mail(**{**said, **options})


def read(data: bytes) -> EmailMessage:
    found = message_from_bytes(data.replace(b"\r\n", b"\n"), policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def test_message_says_who_what_and_when() -> None:
    message = read(compose(mail(subject="Grüße an Ada"), SENDER))
    assert message["From"] == '"Mercy, Clinic" <clinic@example.org>'
    assert (message["To"], message["Subject"]) == ("ada@example.com", "Grüße an Ada")
    assert message["Date"] == "Mon, 21 Sep 2026 14:13:20 +0000"
    assert message["Message-ID"] == f"<{'k' * 32}@example.org>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content() == "Hello\n"


def test_message_is_the_same_for_every_attempt() -> None:
    one = mail(html="<p>Hello</p>\n")
    assert compose(one, SENDER) == compose(one, SENDER)
    parts = {part.get_content_type(): part.get_content() for part in read(compose(one, SENDER)).iter_parts()}
    assert parts == {"text/plain": "Hello\n", "text/html": "<p>Hello</p>\n"}
    assert "555" not in repr(mail(text="+12025550123"))


_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200)


@given(_TEXTS, _TEXTS, _TEXTS)
def test_no_text_adds_a_header_or_a_part(subject: str, text: str, html: str) -> None:
    data = compose(mail(subject=subject.strip() or "x", text=f"{text}\n", html=f"{html}\n"), SENDER)
    assert data.isascii()
    message = read(data)
    assert set(message.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type", "MIME-Version")
    }
    plain, rich = message.iter_parts()
    found = [part.get_content().replace("\r\n", "\n") for part in (plain, rich)]
    assert found == [f"{text}\n", f"{html}\n"]


def server(**options: Any) -> MailServerSpec:
    declared = {"endpoint": "[::1]:587", "from": "clinic@example.org", **options}
    return MailServerSpec.model_validate_json(orjson.dumps(declared), strict=True)


def test_mail_server_is_looked_up_by_name() -> None:
    settings = SimpleNamespace(mail_servers={"office": server(), "relay": server(plain="on this machine")})
    found = find_mail_server(settings, "office", "adt")
    assert (found.host, found.port, found.tls, found.sender) == ("::1", 587, "starttls", Mailbox("clinic@example.org"))
    assert found.context is not None
    assert find_mail_server(settings, "relay", "adt").tls == "none"
    with pytest.raises(ConfigError, match=r"channel adt: mail server 'ofice' is not .* \(there: office, relay\)"):
        find_mail_server(settings, "ofice", "adt")


@pytest.mark.parametrize("options", [{"account": "a"}, {"password": "${env:X}"}, {"from": "clinic"}, {"tls": "no"}])
def test_mail_server_is_refused_when_it_cannot_work(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        server(**options)
