"""This module tests text messages: what is rendered and frozen, and which gateway takes it."""

from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from pydantic import ValidationError

from broker.canonical.model import Event, Patient, Source
from broker.delivery import Delivered, Delivery, Outcome, Retry, Suppressed
from broker.errors import ConfigError, StepError
from broker.message import Document
from broker.notices import Notice
from broker.notices_texts import ReplyRefused, TextSent
from broker.parts import Tools
from config.gateways import PriceSpec
from dispatch.sms import SmsSpec
from dispatch.texts.gateway import Text
from dispatch.texts.number import e164
from transforms.template import compile_template, compile_value

KIT = SimpleNamespace(template=compile_template, value=compile_value)


def document(mobile: str | None = "+12025550123", given: str | None = "Ada") -> Document:
    event = Event(kind="patient.registered", source=Source(), patient=Patient(mobile=mobile, given=given))
    return Document(message=None, received_at=0.0, event=event)


def spec(**options: Any) -> SmsSpec:
    return SmsSpec.model_validate(
        {"gateway": "twilio", "to": "{{ patient.mobile }}", "text": "Welcome, {{ patient.given }}", **options}
    )


def render(found: Document, **options: Any) -> bytes:
    return spec(**options).build_renderer(KIT)(found)


def test_request_is_frozen_as_sorted_json() -> None:
    assert render(document()) == b'{"encoding":"GSM-7","segments":1,"text":"Welcome, Ada","to":"+12025550123"}'


def test_request_is_the_same_each_time() -> None:
    assert render(document()) == render(document())


@pytest.mark.parametrize(
    ("number", "region", "expected"),
    [
        ("+1 (202) 555-0123", "", "+12025550123"),
        ("(202) 555-0123", "US", "+12025550123"),
        ("+44 20 7946 0958", "US", "+442079460958"),
        ("030 123456", "DE", "+4930123456"),
        (" +15005550006 ", "", "+15005550006"),
    ],
)
def test_number_becomes_e164(number: str, region: str, expected: str) -> None:
    assert e164(number, region) == expected


@pytest.mark.parametrize(
    "number", ["2025550123", "+1202555", "ask the nurse", "+999999999999999999", "+1 202 555 0123 99"]
)
def test_number_is_refused_without_being_shown(number: str) -> None:
    with pytest.raises(StepError) as caught:
        e164(number)
    assert "country code" in str(caught.value)
    assert number not in str(caught.value)


@pytest.mark.parametrize("number", [None, "", "  "])
def test_number_is_refused_when_there_is_none(number: str | None) -> None:
    with pytest.raises(StepError, match="no number"):
        render(document(mobile=number))


def test_text_is_refused_when_empty() -> None:
    with pytest.raises(StepError, match="empty"):
        render(document(given=None), text="{{ patient.given | default('') }}")


def test_text_is_refused_when_a_hole_gives_nothing() -> None:
    """`Your visit on  at ` is worse than no text: the analyst says what stands there instead."""
    with pytest.raises(StepError, match=r"a hole gives nothing; write `\| default\(''\)`"):
        render(document(given=None), text="Hello {{ patient.given }}")
    assert b"Hello you" in render(document(given=None), text="Hello {{ patient.given | default('you') }}")


def test_text_is_refused_when_too_long_and_taken_at_the_limit() -> None:
    assert len(orjson.loads(render(document(given="x" * 1600), text="{{ patient.given }}"))["text"]) == 1600
    with pytest.raises(StepError, match="1601 characters"):
        render(document(given="x" * 1601), text="{{ patient.given }}")


def test_policy_is_to_hold_when_the_outcome_is_unknown() -> None:
    assert spec().unknown_policy() == "hold"


@pytest.mark.parametrize(
    "options",
    [
        {"segments": {"most": 0}},
        {"segments": {}},
        {"segments": 3},
        {"region": "us"},
        {"timeout": "0s"},
        {"timeout": 5},
        {"concurrency": 0},
        {"number": "x"},
    ],
)
def test_options_are_refused_when_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(**options)


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("€" * 80, "GSM-7", 1),
        ("“a”", "UCS-2", 1),
        ("é" * 70 + "ê", "UCS-2", 2),
    ],
)
def test_request_says_what_the_text_takes(text: str, encoding: str, segments: int) -> None:
    request = orjson.loads(render(document(given=text), text="{{ patient.given }}"))
    assert (request["encoding"], request["segments"]) == (encoding, segments)


def test_text_is_refused_when_it_takes_more_than_it_may() -> None:
    options = {"text": "{{ patient.given }}", "segments": {"most": 2}}
    assert orjson.loads(render(document(given="a" * 306), **options))["segments"] == 2
    expected = r"takes 3 short messages in GSM-7 and may take 2 \(306 characters in that alphabet\); shorten it"
    with pytest.raises(StepError, match=expected):
        render(document(given="a" * 307), **options)
    with pytest.raises(StepError, match=r"2 short messages in UCS-2 and may take 1 \(70 characters"):
        render(document(given="日" * 71), text="{{ patient.given }}", segments={"most": 1})


def test_gateway_is_refused_when_nobody_declared_it() -> None:
    nothing = cast("Any", None)
    settings = SimpleNamespace(gateways={"twilio": None})
    tools = Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=settings)
    with pytest.raises(ConfigError, match=r"channel adt: gateway 'twillio' is not in handoff.yaml .*\(there: twilio\)"):
        spec(gateway="twillio").build(tools)


class Phone:
    """A gateway that ends every text as it is told to."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.texts: list[Text] = []

    async def open(self) -> None:
        """Need nothing."""

    async def close(self) -> None:
        """Hold nothing."""

    async def send(self, text: Text) -> Outcome:
        """Take one text."""
        self.texts.append(text)
        return self.outcome


async def sent(outcome: Outcome, patients: str, price: Any = None) -> tuple[Outcome, Phone, list[Notice]]:
    """Send one text of two segments through such a gateway."""
    phone, notices = Phone(outcome), list[Notice]()
    declared = SimpleNamespace(build=lambda *_args, **_options: phone, replies="", price=price)
    settings = SimpleNamespace(gateways={"twilio": declared}, patients=patients)
    texts = spec().build(Tools("adt", cast("Any", None), notices.append, settings))
    await texts.open()
    request = orjson.dumps({"text": "a" * 200, "to": "+12025550123"})
    (ended,) = await texts.send([Delivery(id=65, route=1, key="k", request=request)])
    await texts.close()
    return ended, phone, notices


async def test_text_that_was_taken_is_counted_with_its_cost(sqlite_url: str) -> None:
    price = PriceSpec(segment=Decimal("0.0079"), currency="USD")
    ended, phone, notices = await sent(Delivered(reference="m1 m2"), sqlite_url, price)
    assert ended == Delivered(reference="twilio/m1 twilio/m2")
    assert notices == [TextSent(gateway="twilio", segments=2, cost=0.0158, currency="USD")]
    assert [(text.to, text.key) for text in phone.texts] == [("+12025550123", "k")]
    assert (await sent(Delivered(), sqlite_url))[2] == [TextSent(gateway="twilio", segments=2, cost=0.0, currency="")]


async def test_text_waits_when_nobody_can_say_who_opted_out(tmp_path: Path) -> None:
    ended, phone, _ = await sent(Delivered(), f"sqlite:///{tmp_path}")
    assert isinstance(ended, Retry)
    assert phone.texts == []
    ended, phone, _ = await sent(Delivered(), "nonsense://")
    assert isinstance(ended, Retry)
    assert phone.texts == []


async def test_opting_out_is_told_when_no_channel_takes_it(sqlite_url: str) -> None:
    ended, _, notices = await sent(Suppressed("the recipient has opted out"), sqlite_url)
    assert ended == Suppressed("the recipient has opted out")
    assert notices == [ReplyRefused(gateway="twilio", kind="opted_out")]
