"""This module declares one gateway of each kind, as handoff.yaml would, for tests of what they all promise."""

from typing import Any

import orjson
from pydantic import TypeAdapter

from config.gateways import AnyGateway

SECRET = "${env:CONTRACT_SECRET:-sandbox}"
GATEWAYS: dict[str, dict[str, Any]] = {
    "twilio": {"account": "AC1", "token": SECRET, "from": "+12025550100"},
    "vonage-sms": {"account": "abcd1234", "secret": SECRET, "from": "+12025550100"},
    "vonage-messages": {"account": "abcd1234", "secret": SECRET, "from": "+12025550100"},
    "http": {
        "body": {"to": "{{ to }}", "text": "{{ text }}"},
        "authorization": "bearer",
        "secret": SECRET,
        "success": {"field": "id"},
        "reference": "id",
    },
}


def declared(kind: str, base: str) -> Any:
    """Return a gateway as `config.gateways` reads it."""
    found = {"kind": kind, "base": base, **GATEWAYS[kind]}
    return TypeAdapter(AnyGateway).validate_json(orjson.dumps(found), strict=True)
