"""Searches keep things from being made twice, tokens are renewed within an attempt, and webhooks are signed."""

import asyncio
import base64
import hashlib
import hmac
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broker.delivery import Delivered, Delivery, Rejected, Retry, Unknown
from broker.parts import Tools
from config.secrets import open_secrets
from config.systems import SystemSpec
from tests.contract.scripted_server import Behaviour, hang_up, reply, reset
from tests.contract.systems import (
    KEY,
    PRESETS,
    SECRET,
    Asked,
    VendorServer,
    destination,
    key_of,
    render,
    said,
    send,
    spec,
)


@pytest.fixture
async def server() -> Any:
    made = VendorServer()
    await made.start()
    yield made
    await made.stop()


# Searches


class Customers:
    """Kustomer: customers are looked up by externalId, updated by id, and 409 says that one is there."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.writes: list[tuple[str, str]] = []
        self.late: dict[str, str] = {}  # what somebody else makes after the first look
        self.then: list[Behaviour] = []  # what follows writes instead of an answer

    def __call__(self, asked: Asked) -> Behaviour:
        if asked.method == "GET":
            name = self.known.get(asked.path.partition("=")[2])
            self.known.update(self.late)
            return said(404, {"errors": [{"code": "notfound"}]}) if name is None else said(200, {"data": {"id": name}})
        self.writes.append((asked.method, asked.path))
        if asked.method == "POST" and asked.body["externalId"] in self.known:
            return said(409, {"errors": [{"status": 409, "code": "conflict"}]})
        name = self.known.setdefault(asked.body["externalId"], f"c{len(self.known)}")
        return self.then.pop(0) if self.then else said(201, {"data": {"id": name}})


async def test_customer_is_created_once_and_then_updated(server: VendorServer) -> None:
    customers = server.answers = Customers()
    declared = spec("kustomer", "upsert_patient")
    for _ in range(2):
        assert await send(declared, server, [render(declared)]) == [Delivered("c0", b'{"data":{"id":"c0"}}')]
    assert customers.writes == [("POST", "customers"), ("PUT", "customers/c0")]


async def test_customer_that_somebody_else_makes_meanwhile_is_looked_up_again(server: VendorServer) -> None:
    customers = server.answers = Customers()
    customers.late = {"MERCY|0012": "theirs"}
    declared = spec("kustomer", "upsert_patient")
    (outcome,) = await send(declared, server, [render(declared)])
    assert isinstance(outcome, Delivered)
    assert customers.writes == [("POST", "customers"), ("PUT", "customers/theirs")]


async def test_two_deliveries_of_one_customer_at_a_time_make_one(server: VendorServer) -> None:
    customers = server.answers = Customers()
    declared = spec("kustomer", "upsert_patient")
    made = destination(declared, f"{server.base}/api")
    await made.open()
    request = render(declared)
    outcomes = await asyncio.gather(
        *(made.send([Delivery(id=n, route=1, key=key_of(n), request=request)]) for n in range(8))
    )
    await made.close()
    assert all(isinstance(outcome, Delivered) for (outcome,) in outcomes)
    assert len(customers.known) == 1
    assert [method for method, _ in customers.writes].count("POST") == 1


@pytest.mark.parametrize("then", [reset, hang_up, reply(500), reply(201, b"<html>")])
async def test_customer_is_made_once_though_the_answer_was_lost(server: VendorServer, then: Behaviour) -> None:
    customers = server.answers = Customers()
    customers.then = [then]
    declared = spec("kustomer", "upsert_patient")
    (first,) = await send(declared, server, [render(declared)])
    assert isinstance(first, Unknown)
    (second,) = await send(declared, server, [render(declared)], attempt=2)
    assert isinstance(second, Delivered)
    assert len(customers.known) == 1


async def test_ticket_that_an_earlier_attempt_made_is_found_by_its_external_id(server: VendorServer) -> None:
    server.answers = lambda asked: (
        said(200, {"tickets": [{"id": 35}], "count": 1}) if asked.method == "GET" else reply(500)
    )
    declared = spec("zendesk", "create_ticket", {"subject": "Help", "text": "x"})
    (outcome,) = await send(declared, server, [render(declared)])
    assert outcome == Delivered(reference="35")
    assert server.asked[0].query == {"external_id": KEY}
    assert "idempotency-key" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("search", "kind"),
    [
        (said(200, {"tickets": [{"id": 1}, {"id": 2}]}), Rejected),
        (said(200, {"results": []}), Retry),
        (said(200, {"tickets": [{"name": "x"}]}), Retry),
        (said(200, {"tickets": [{"id": None}]}), Retry),
        (said(200, [1]), Retry),
        (reply(200, b"<html>"), Retry),
        (said(500), Retry),
        (said(429, None, Retry_After="3"), Retry),
        (said(403), Rejected),
        (reset, Retry),
    ],
)
async def test_nothing_is_made_when_the_search_does_not_say(
    server: VendorServer, search: Behaviour, kind: type[object]
) -> None:
    server.answers = lambda asked: search if asked.method == "GET" else said(201, {"ticket": {"id": 9}})
    declared = spec("zendesk", "create_ticket", {"subject": "Help", "text": "x"})
    (outcome,) = await send(declared, server, [render(declared)])
    assert type(outcome) is kind, outcome
    assert {asked.method for asked in server.asked} == {"GET"}


# Tokens


class Tokens:
    """A token endpoint and an API that takes only the newest token; tokens may be withdrawn."""

    def __init__(self) -> None:
        self.issued = 0
        self.valid = 0

    def __call__(self, asked: Asked) -> Behaviour:
        if asked.path == "token":
            self.issued += 1
            self.valid = self.issued if not self.broken else -1
            return said(200, {"access_token": f"t{self.issued}", "token_type": "bearer", "expires_in": 3600})
        if asked.headers["authorization"] == f"Zoho-oauthtoken t{self.valid}":
            return said(200, {"data": [{"status": "success", "details": {"id": "5"}}]})
        return said(401, {"code": "INVALID_TOKEN", "status": "error"})

    broken = False


def by_client(server: VendorServer) -> dict[str, Any]:
    how = {
        "token_url": f"{server.base}/api/token",
        "client_id": "c",
        "client_secret": "${env:S}",
        "scheme": "Zoho-oauthtoken",
    }
    return {"auth": {"client_credentials": how}}


async def test_withdrawn_token_is_renewed_once_within_the_same_attempt(server: VendorServer) -> None:
    tokens = server.answers = Tokens()
    declared = spec("zoho-crm", "upsert_patients")
    made = destination(declared, f"{server.base}/api", **by_client(server))
    await made.open()
    delivery = Delivery(id=1, route=1, key=KEY, request=render(declared))
    assert isinstance((await made.send([delivery]))[0], Delivered)
    tokens.valid = 0
    assert isinstance((await made.send([delivery]))[0], Delivered)
    assert tokens.issued == 2
    tokens.broken, tokens.valid = True, 0
    (outcome,) = await made.send([delivery])
    assert isinstance(outcome, Rejected)
    assert "mend systems.zoho-crm.auth" in outcome.reason
    assert tokens.issued == 3
    await made.close()


async def test_delivery_waits_when_no_token_can_be_had(server: VendorServer) -> None:
    server.answers = lambda _: said(200, {"error": "invalid_code"})  # Zoho's way: 200 with an error
    declared = spec("zoho-crm", "upsert_patients")
    (outcome,) = await send(declared, server, [render(declared)], **by_client(server))
    assert isinstance(outcome, Retry)
    assert [asked.path for asked in server.asked] == ["token"]


async def test_requests_go_to_the_host_that_came_with_the_token(server: VendorServer) -> None:
    def answers(asked: Asked) -> Behaviour:
        if asked.path == "token":
            return said(200, {"access_token": "t", "token_type": "Bearer", "instance_url": server.base})
        return said(201, {"id": "001", "success": True, "errors": []})

    server.answers = answers
    declared = spec("salesforce", "upsert_patient")
    made = by_client(server)
    made["auth"]["client_credentials"] |= {"scheme": "Bearer", "base_from": "instance_url"}
    found = destination(declared, "https://login.invalid/api/services/data/v67.0", **made)
    await found.open()
    (outcome,) = await found.send([Delivery(id=1, route=1, key=KEY, request=render(declared))])
    await found.close()
    assert isinstance(outcome, Delivered), outcome
    assert server.asked[-1].path.startswith("services/data/v67.0/sobjects/")


# Webhooks


def is_signed(asked: Asked, secret: str) -> bool:
    """Say whether a receiver that follows Standard Webhooks takes a request: id, time and body under one signature."""
    content = f"{asked.headers['webhook-id']}.{asked.headers['webhook-timestamp']}.".encode() + asked.raw
    digest = base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()
    return f"v1,{digest}" in asked.headers["webhook-signature"].split(" ")


async def test_webhook_is_signed_over_what_is_sent_and_repeats_have_the_same_id(server: VendorServer) -> None:
    server.answers = lambda _: reply(200)
    declared = spec("webhook", "send")
    request = render(declared)
    for attempt in (1, 2):
        (outcome,) = await send(declared, server, [request], attempt)
        assert isinstance(outcome, Delivered)
    first, second = server.asked
    assert is_signed(first, SECRET)
    assert is_signed(second, SECRET)
    assert not is_signed(first, "another secret")
    assert first.raw == second.raw
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == KEY
    assert abs(int(first.headers["webhook-timestamp"]) - time.time()) < 60
    assert first.body["data"]["patient"]["family"] == "O'Hara"


async def test_secret_address_is_used_as_it_is_and_shown_nowhere(server: VendorServer) -> None:
    server.answers = lambda _: reply(404, b"no_service")
    declared = spec("slack-alerts", "send", {"text": "It is down"})
    base = f"{server.base}/api/T0/B0/s3cret?sig=s3cret"
    found = SystemSpec.model_validate({"preset": "slack-alerts", "base_secret": "${env:S}"})
    open_secrets(found, {"S": base})
    settings = SimpleNamespace(systems={"slack-alerts": found}, data=None)
    made = declared.build(Tools("feed", cast("Any", None), lambda _: None, settings, presets=PRESETS))
    await made.open()
    (outcome,) = await made.send([Delivery(id=1, route=1, key=KEY, request=render(declared))])
    await made.close()
    assert (server.asked[0].path, server.asked[0].query) == ("T0/B0/s3cret", {"sig": "s3cret"})
    assert isinstance(outcome, Rejected)
    assert "s3cret" not in repr(outcome)
