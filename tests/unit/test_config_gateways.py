"""This module tests how gateways are declared, as far as it is not a matter of one kind alone."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_curve_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import TypeAdapter, ValidationError

from broker.errors import ConfigError
from config.gateways import AnyGateway, GatewaySpec, TwilioSpec, VonageMessagesSpec, VonageSmsSpec
from dispatch.texts.gateway import HttpGateway
from dispatch.texts.twilio import Twilio
from dispatch.texts.vonage_messages import VonageMessages
from dispatch.texts.vonage_sms import VonageSms

TOOLS = cast("Any", SimpleNamespace())
SECRET = "${env:GATEWAY_SECRET:-sandbox}"


def declared(**options: Any) -> GatewaySpec:
    found: GatewaySpec = TypeAdapter(AnyGateway).validate_json(orjson.dumps(options), strict=True)
    return found


def built(spec: GatewaySpec) -> Any:
    gateway = spec.build("phone", TOOLS, timeout=1.0, limit=2)
    assert isinstance(gateway, HttpGateway)
    return gateway.api


def test_kind_is_twilio_when_nothing_is_said() -> None:
    spec = declared(base="https://api.twilio.com/", account="AC1", token=SECRET, **{"from": "+12025550100"})
    assert isinstance(spec, TwilioSpec)
    api = built(spec)
    assert isinstance(api, Twilio)
    assert (api.base, api.account, api.sender, api.callback) == ("https://api.twilio.com", "AC1", "+12025550100", "")


def test_vonage_has_the_vendors_addresses() -> None:
    spec = declared(kind="vonage-sms", account="k", secret=SECRET, **{"from": "Clinic"})
    assert isinstance(spec, VonageSmsSpec)
    assert isinstance(built(spec), VonageSms)
    assert built(spec).base == "https://rest.nexmo.com"
    spec = declared(kind="vonage-messages", account="k", secret=SECRET, **{"from": "Clinic"})
    assert isinstance(spec, VonageMessagesSpec)
    assert isinstance(built(spec), VonageMessages)


@pytest.mark.parametrize(
    "identity",
    [
        {},
        {"account": "k"},
        {"secret": SECRET},
        {"application": "a"},
        {"private_key": SECRET},
        {"account": "k", "secret": SECRET, "application": "a", "private_key": SECRET},
        {"account": "k", "private_key": SECRET},
    ],
)
def test_vonage_messages_has_one_identity(identity: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="give one pair"):
        declared(kind="vonage-messages", **{"from": "Clinic"}, **identity)


def _pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def test_private_key_is_read_before_anything_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(0o600)
    spec = {"kind": "vonage-messages", "application": "a", "private_key": f"${{file:{file}}}", "from": "Clinic"}
    file.write_text(_pem(generate_private_key(65537, 2048)))
    assert built(declared(**spec)).application == "a"
    for text in ("nothing of the kind", _pem(generate_curve_key(SECP256R1()))):
        file.write_text(text)
        with pytest.raises(ConfigError, match=r"gateways\.phone\.private_key: this (is no|key cannot)") as refusal:
            built(declared(**spec))
        assert text not in str(refusal.value)


def test_price_is_exact() -> None:
    price = {"segment": "0.0079", "currency": "USD"}
    spec = declared(base="https://x", account="a", token=SECRET, price=price, **{"from": "+1"})
    assert spec.price is not None
    assert str(spec.price.segment * 3) == "0.0237"
