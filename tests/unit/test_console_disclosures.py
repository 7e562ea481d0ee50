"""An accounting of disclosures has what 45 CFR 164.528 asks for, and leaves out what was disclosed to nobody."""

from typing import Any

import orjson
import pytest

from broker import ids
from broker.delivery import Via
from broker.queries_disclosed import Disclosed
from console.web.disclosures import account

MESSAGE = ids.read("0D2C7YQ5M0000")


def disclosed(block: dict[str, Any] | None = None, content: str | None = None, via: Via | None = None) -> Disclosed:
    """Return a disclosure by a destination with this block in the channel's file (or this content of the file)."""
    told = orjson.dumps({"channel": {"deliver": {"ehr": block}}}).decode() if block is not None else content
    return Disclosed(1_800_000_000.0, MESSAGE, MESSAGE + 1, "adt", "ehr", "ADT^A04", 2, "delivered", via, told)


def test_entry_has_date_recipient_what_and_why() -> None:
    block = {"recipient": "Mercy General, 1 Main St", "purpose": "treatment", "fhir": {}}
    (entry,) = account([disclosed(block, via=Via("192.0.2.7:443", "TLSv1.3", "CN=x", "ab"))])
    assert entry == {
        "at": "2027-01-15T08:00:00.000Z",
        "recipient": "Mercy General, 1 Main St",
        "address": "192.0.2.7:443",
        "description": "ADT^A04",
        "purpose": "treatment",
        "outcome": "delivered",
        "channel": "adt",
        "destination": "ehr",
        "message_id": "0D2C7YQ5M0000",
        "delivery_id": "0D2C7YQ5M0001",
        "attempt": 2,
        "certificate": "ab",
    }


@pytest.mark.parametrize("content", [None, "", "nonsense", "[]", '{"channel": 1}', '{"channel": {"deliver": []}}'])
def test_disclosure_is_listed_when_its_channel_cannot_be_read_any_more(content: str | None) -> None:
    (entry,) = account([disclosed(content=content)])
    assert (entry["recipient"], entry["purpose"], entry["address"], entry["certificate"]) == ("ehr", None, None, None)


def test_what_our_own_patient_store_takes_is_disclosed_to_nobody() -> None:
    assert account([disclosed({"prm": {}, "purpose": "treatment"})]) == []
    assert len(account([disclosed({"somebody_elses_kind": {}})])) == 1
