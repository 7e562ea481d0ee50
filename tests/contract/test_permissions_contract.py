"""On each database: what patients allow and forbid is kept by medium and purpose, and asked for before each attempt."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

from broker.canonical.model import Consent, Event, Patient, Source
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Suppressed
from broker.errors import StoreError
from broker.message import Document
from broker.sql import Connection, connect
from dispatch.consent import ConsentRenderer, ConsentSpec
from dispatch.consent_gate import ConsentGate
from dispatch.patients.consents import Consents
from tests.prm_events import deliver, delivery, merged, mrn, told

NOBODY = "nobody has consented to sms for appointment"


class Wire:
    """What is behind the gate: takes everything, and keeps it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Keep what came."""
        self.sent += [each.request for each in deliveries]
        return [Delivered(str(each.id)) for each in deliveries]


@pytest.fixture
def store(laid_urls: str) -> Iterator[Connection]:
    """A connection to an empty patient store."""
    connection = connect(laid_urls)
    yield connection
    connection.close()


@pytest.fixture
def wire() -> Wire:
    """Return what is behind the gate."""
    return Wire()


@pytest.fixture
async def gate(laid_urls: str, store: Connection, wire: Wire) -> AsyncIterator[ConsentGate]:
    """The gate of a destination for texts."""
    made = ConsentGate(wire, ConsentSpec(purpose="appointment"), "sms", Consents(laid_urls))
    await made.open()
    yield made
    await made.close()


def said(number: int, who: str, decision: str, at: str | None = None, **fields: Any) -> Delivery:
    """Return delivery ``number``, in which a patient says yes (permit) or no (deny)."""
    kind = "consent.given" if decision == "permit" else "consent.withdrawn"
    fields = {"purpose": "appointment", "decision": decision, "status": "active", "given_at": at, **fields}
    event = Event(kind=kind, source=Source(), patient=Patient(mrn=mrn(who)), consent=Consent(**fields))
    return delivery(number, event)


def text(who: str, number: int = 900) -> Delivery:
    """Return a delivery of a text that needs the consent of a patient."""
    event = Event(kind="appointment.booked", source=Source(), patient=Patient(mrn=mrn(who)))
    request = ConsentRenderer(lambda _: b"text")(Document(message=None, received_at=0.0, event=event))
    return Delivery(id=(number << 22) + 1, route=1, key="k", request=request)


async def reason(gate: ConsentGate, who: str = "0012") -> str:
    """Return why a text to a patient is suppressed; nothing where it is sent."""
    (outcome,) = await gate.send([text(who)])
    return outcome.reason if isinstance(outcome, Suppressed) else ""


async def test_only_what_was_agreed_to_is_sent(gate: ConsentGate, store: Connection, wire: Wire) -> None:
    assert await reason(gate) == NOBODY
    deliver(store, said(1, "0012", "permit", "2026-11-01T08:00:00Z"), told(2, "0013"))
    assert [await reason(gate), await reason(gate, "0013")] == ["", NOBODY]
    deliver(store, said(3, "0012", "deny", "2026-11-02T08:00:00Z"))
    assert (await reason(gate)).startswith("consent to sms for appointment was withdrawn at 2026-11-02T08:00:00Z (del")
    deliver(store, said(4, "0012", "permit", "2026-11-01T09:00:00Z"))  # said before, heard of later
    assert "withdrawn" in await reason(gate)
    assert wire.sent == [b"text"]


@pytest.mark.parametrize(
    ("general", "is_sent"),
    [
        ({"purpose": None}, False),
        ({"purpose": "marketing"}, True),
        ({"channel": "sms"}, False),
        ({"channel": "email"}, True),
        ({"ends_at": "2026-11-03"}, False),
        ({"starts_at": "2099"}, True),
        ({"status": "proposed"}, True),
    ],
)
async def test_a_no_holds_for_what_it_is_of(
    gate: ConsentGate, store: Connection, general: dict[str, Any], is_sent: bool
) -> None:
    yes = said(1, "0012", "permit", "2026-11-01T08:00:00Z", channel=None)
    deliver(store, yes, said(2, "0012", "deny", "2026-11-02T08:00:00Z", **general))
    assert (await reason(gate) == "") is is_sent


async def test_a_later_yes_to_just_this_takes_a_general_no_back(gate: ConsentGate, store: Connection) -> None:
    deliver(store, said(1, "0012", "deny", "2026-11-01", purpose=None))
    deliver(store, said(2, "0012", "permit", "2026-11-02", purpose="marketing"))
    assert "withdrawn" in await reason(gate)
    deliver(store, said(3, "0012", "permit", "2026-11-03"))
    assert await reason(gate) == ""


async def test_a_yes_ends_and_one_to_something_else_allows_nothing(gate: ConsentGate, store: Connection) -> None:
    deliver(store, said(1, "0012", "permit", None, ends_at="2026-10"), said(2, "0013", "permit", purpose=None))
    deliver(store, said(3, "0014", "permit", channel="email"))
    assert {await reason(gate, who) for who in ("0012", "0013", "0014")} == {NOBODY}


async def test_merged_records_speak_for_the_same_patient(gate: ConsentGate, store: Connection) -> None:
    deliver(store, said(1, "0012", "permit", "2026-11-01"), said(2, "0013", "deny", "2026-11-02"))
    assert await reason(gate) == ""
    deliver(store, merged(3, "0012", "0013"))
    assert "withdrawn" in await reason(gate, "0012")
    assert "withdrawn" in await reason(gate, "0013")


async def test_the_dead_are_left_in_peace(gate: ConsentGate, store: Connection) -> None:
    deliver(store, said(1, "0012", "permit"), told(2, "0012", deceased=True))
    assert await reason(gate) == "the patient has died, as the patient store has it"


async def test_of_a_batch_only_those_go_that_may(gate: ConsentGate, store: Connection, wire: Wire) -> None:
    deliver(store, said(1, "0012", "permit"))
    outcomes = await gate.send([text("0013", 1), text("0012", 2), text("0014", 3)])
    assert [type(each) for each in outcomes] == [Suppressed, Delivered, Suppressed]
    assert outcomes[1] == Delivered(str((2 << 22) + 1))
    assert wire.sent == [b"text"]


async def test_what_was_prepared_before_consent_was_asked_for_is_not_sent(gate: ConsentGate, wire: Wire) -> None:
    (outcome,) = await gate.send([Delivery(id=65, route=1, key="k", request=b"text")])
    assert isinstance(outcome, Rejected)
    assert wire.sent == []


async def test_where_a_no_is_enough_to_keep_out(laid_urls: str, store: Connection, wire: Wire) -> None:
    consent = ConsentSpec(purpose="appointment", needs="not_withdrawn")
    gate = ConsentGate(wire, consent, "sms", Consents(laid_urls))
    await gate.open()
    assert await reason(gate) == ""
    deliver(store, said(1, "0012", "deny"))
    assert "withdrawn" in await reason(gate)
    await gate.close()


async def test_destination_that_asks_for_consent_no_more_sends_the_bytes_alone(laid_urls: str, wire: Wire) -> None:
    gate = ConsentGate(wire, None, "sms", Consents(laid_urls))
    await gate.open()
    await gate.send([text("0012"), Delivery(id=65, route=1, key="k", request=b"plain")])
    await gate.close()
    assert wire.sent == [b"text", b"plain"]


@pytest.mark.parametrize("error", [StoreError("patient store: away"), ValueError("what somebody is called")])
async def test_text_waits_while_consent_cannot_be_looked_up(
    gate: ConsentGate, wire: Wire, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr("dispatch.consent_gate.read_standing", failing)
    (outcome,) = await gate.send([text("0012")])
    assert isinstance(outcome, Retry)
    assert "called" not in outcome.reason
    assert wire.sent == []
