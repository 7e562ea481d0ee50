"""This module checks on each database what is kept of consent to texts, and who may not be sent any."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.canonical.model import Consent, Event, Patient, Source
from broker.delivery import Delivered, Delivery
from broker.errors import StoreError
from broker.message import Document
from broker.sql import Connection, connect
from dispatch.patients.consents import Consents, frame_consent, withdrawal_of
from dispatch.prm import render
from tests.prm_events import apply, mrn, told

NUMBER = "+12025550123"


@pytest.fixture
def store(laid_urls: str) -> Iterator[Connection]:
    """A connection to an empty patient store."""
    connection = connect(laid_urls)
    yield connection
    connection.close()


@pytest.fixture
async def consents(laid_urls: str, store: Connection) -> AsyncIterator[Consents]:
    """What texts ask."""
    asking = Consents(laid_urls)
    asking.open()
    yield asking
    await asking.close()


def said(number: int, kind: str, at: str | None, channel: str = "sms", purpose: str | None = None) -> Delivery:
    """Return delivery ``number``, in which somebody says yes or no."""
    event = Event(
        kind=f"consent.{kind}",
        source=Source(),
        patient=Patient(mobile=NUMBER),
        occurred_at=at,
        consent=Consent(channel=channel, purpose=purpose),
    )
    request = render(Document(message=None, received_at=0.0, event=event))
    return Delivery(id=(number << 22) + 1, route=1, key="k", request=request)


async def test_who_opted_out_is_known_until_they_opt_in(store: Connection, consents: Consents) -> None:
    assert await consents.ask(withdrawal_of, NUMBER) is None
    assert apply(store, said(1, "withdrawn", "2026-11-28T01:00:00Z")) == [Delivered()]
    withdrawal = await consents.ask(withdrawal_of, NUMBER)
    assert withdrawal is not None
    assert str(withdrawal).startswith("the recipient opted out of texts at 2026-11-28T01:00:00Z (delivery ")
    assert await consents.ask(withdrawal_of, "+12025550124") is None
    apply(store, said(2, "given", "2026-11-28T02:00:00+00:00"))
    assert await consents.ask(withdrawal_of, NUMBER) is None


async def test_what_was_said_last_counts_whatever_comes_last(store: Connection, consents: Consents) -> None:
    apply(store, said(1, "given", "2026-11-28T03:00:00Z"), said(2, "withdrawn", "2026-11-28T02:00:00Z"))
    assert await consents.ask(withdrawal_of, NUMBER) is None
    apply(store, said(3, "withdrawn", "2026-11-28T01:00:00Z"))
    assert await consents.ask(withdrawal_of, NUMBER) is None
    apply(store, said(4, "withdrawn", "2026-11-28T04:00:00Z"))
    apply(store, said(3, "withdrawn", "2026-11-28T01:00:00Z"), said(1, "given", "2026-11-28T03:00:00Z"))
    assert await consents.ask(withdrawal_of, NUMBER) is not None


async def test_consent_to_one_purpose_or_medium_is_another_matter(store: Connection, consents: Consents) -> None:
    apply(store, said(1, "withdrawn", None, purpose="marketing"), said(2, "withdrawn", None, channel="email"))
    assert await consents.ask(withdrawal_of, NUMBER) is None


async def test_consents_and_events_go_through_one_batch(store: Connection, consents: Consents) -> None:
    outcomes = apply(store, told(1, "0012", family="Okafor"), said(2, "withdrawn", None), told(3, "0013"))
    assert outcomes == [Delivered()] * 3
    assert await consents.ask(withdrawal_of, NUMBER) is not None
    assert store.rows("SELECT count(*) FROM patient")[0][0] == 2


def test_consent_of_a_known_patient_is_an_event_like_any_other() -> None:
    event = Event(kind="consent.given", source=Source(), patient=Patient(mrn=mrn("0012")), consent=Consent())
    assert frame_consent(event) is None
    assert frame_consent(Event(kind="consent.given", source=Source(), patient=Patient(mobile=NUMBER))) is None


async def test_store_that_fails_is_asked_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'patients.db'}"
    asking = Consents(url)
    asking.open()
    assert await asking.ask(withdrawal_of, NUMBER) is None  # an empty store is made where there is none
    connection = await asyncio.to_thread(connect, url)
    connection.run("ALTER TABLE consent RENAME TO mislaid")
    with pytest.raises(StoreError):
        await asking.ask(withdrawal_of, NUMBER)
    connection.run("ALTER TABLE mislaid RENAME TO consent")
    connection.close()
    assert await asking.ask(withdrawal_of, NUMBER) is None
    await asking.close()
    await asking.close()
