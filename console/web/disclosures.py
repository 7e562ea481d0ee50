"""This module words an accounting of disclosures: date, recipient, what, and why, as 45 CFR 164.528(b)(2) asks for.

Recipient and purpose are what the channel's file said of the destination when the message was processed. The patient
store is our own: what it takes in has been disclosed to nobody.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from broker.ids import show
from broker.queries_disclosed import Disclosed
from config.catalog import DESTINATIONS
from config.channel import DeliverSpec
from console.plain import iso


def account(found: Iterable[Disclosed]) -> list[dict[str, Any]]:
    """Return one object for each attempt that left for somebody else, in the order given."""
    blocks = ((each, _block(each.content, each.destination)) for each in found)
    return [_entry(each, block) for each, block in blocks if _discloses(block)]


def _block(content: str | None, destination: str) -> dict[str, Any]:
    """Return what the channel's file said of a destination; nothing where it cannot be read any more."""
    try:
        found = orjson.loads(content or "{}")
    except orjson.JSONDecodeError:
        found = None
    for name in ("channel", "deliver", destination):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _discloses(block: dict[str, Any]) -> bool:
    kinds = [DESTINATIONS[name] for name in block if name not in DeliverSpec.model_fields and name in DESTINATIONS]
    return all(kind.discloses for kind in kinds)


def _entry(each: Disclosed, block: dict[str, Any]) -> dict[str, Any]:
    return {
        "at": iso(each.started_at),
        "recipient": str(block.get("recipient") or each.destination),
        "address": each.via.address if each.via is not None else None,
        "description": each.type,
        "purpose": str(block["purpose"]) if block.get("purpose") else None,
        "outcome": each.outcome,
        "channel": each.channel,
        "destination": each.destination,
        "message_id": show(each.message_id),
        "delivery_id": show(each.delivery_id),
        "attempt": each.attempt,
        "certificate": each.via.sha256 or None if each.via is not None else None,
    }
