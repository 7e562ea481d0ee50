"""This module tests the conversation with a FHIR server: patches, Bundles, refused tokens, and what an EHR takes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from dispatch.ehr_profile import EhrProfile, find_profile
from dispatch.fhir_server import FhirServer, Server
from tests.contract.asking import spec
from tests.contract.scripted_server import Behaviour, ScriptedServer, reply, reset
from tests.contract.test_destination_contract import NOTHING, PATIENT
from tests.contract.test_fhir_contract import CREATED, SEARCH, UPDATED, match, methods
from tests.contract.token_server import TokenServer

pytestmark = pytest.mark.usefixtures("_secrets")

PATCH = '[{"op":"replace","path":"/status","value":"arrived"}]'


def request(resource: str = PATIENT, search: str = SEARCH, kind: str = "Patient", **more: Any) -> Delivery:
    content = {"resource": resource, "search": search, "type": kind, **more}
    return Delivery(id=1, route=1, key="k" * 32, request=orjson.dumps(content))


def bundle(kind: str = "transaction", entries: int = 2) -> Delivery:
    return request('{"resourceType":"Bundle"}', "", "Bundle", bundle=kind, entries=entries)


def answered(kind: str, *entries: dict[str, Any] | str) -> Behaviour:
    responses = [{"response": {"status": one} if isinstance(one, str) else one} for one in entries]
    content = {"resourceType": "Bundle", "type": f"{kind}-response", "entry": responses}
    return reply(200, orjson.dumps(content))


def failing(status: int, *codes: str, own: str = "", severity: str = "error", place: str = "") -> Behaviour:
    issues = [{"severity": severity, "code": code, "diagnostics": "Okafor 0012"} for code in codes]
    for issue in issues:
        if own:
            issue["details"] = {"coding": [{"system": "urn:oid:1.2.840.114350", "code": own}], "text": "Okafor"}  # type: ignore[assignment]  # JSON
        if place:
            issue["expression"] = [place]  # type: ignore[assignment]  # likewise
    return reply(status, orjson.dumps({"resourceType": "OperationOutcome", "issue": issues}))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


class Ehr:
    """Destinations for one scripted server, closed at the end."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self._open: list[FhirServer] = []

    async def send(self, delivery: Delivery, profile: EhrProfile | str = "generic", **options: Any) -> Outcome:
        known = find_profile(profile) if isinstance(profile, str) else profile
        about = {key: options.pop(key) for key in ("auth", "headers") if key in options}
        target = Server("ehr", f"{self.server.base}/fhir", profile=known, **about)
        destination = FhirServer(target, timeout=1.0, concurrency=4, **options)
        self._open.append(destination)
        await destination.open()
        async with asyncio.timeout(5):
            (outcome,) = await destination.send([delivery])
        if not isinstance(outcome, Delivered):
            assert not [told for told in ("Okafor", "0012") if told in outcome.reason]
        return outcome

    async def close(self) -> None:
        for destination in self._open:
            await destination.close()


@pytest.fixture
async def ehr(server: ScriptedServer) -> AsyncIterator[Ehr]:
    ehr = Ehr(server)
    yield ehr
    await ehr.close()


# ------------------------------------------------------------------------------------------------------------- patches


def patch() -> Delivery:
    return request(PATCH, patch=True)


async def test_patch_goes_to_what_is_found_and_names_its_version(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", match())
    server.on("PATCH", UPDATED)
    assert await ehr.send(patch(), creates=False) == Delivered(reference="Patient/7/_history/4")
    sent = server.requests[-1]
    assert (sent.method, sent.target, sent.body) == ("PATCH", "/fhir/Patient/7", PATCH.encode())
    assert sent.headers["content-type"] == "application/json-patch+json"
    assert sent.headers["if-match"] == 'W/"3"'


@pytest.mark.parametrize("status", [409, 412])
async def test_patch_looks_again_when_the_version_was_stale(server: ScriptedServer, ehr: Ehr, status: int) -> None:
    server.on("GET", match("3"), match("4"))
    server.on("PATCH", reply(status), UPDATED)
    assert isinstance(await ehr.send(patch(), creates=False), Delivered)
    assert methods(server) == ["GET", "PATCH", "GET", "PATCH"]


@pytest.mark.parametrize("delivery", [patch(), request()])
async def test_where_nothing_is_found_nothing_is_made(server: ScriptedServer, ehr: Ehr, delivery: Delivery) -> None:
    server.on("GET", NOTHING)
    outcome = await ehr.send(delivery, creates=False)
    assert outcome == Rejected("server ehr: nothing matches the search, so there is nothing to change")
    assert methods(server) == ["GET"]


async def test_patch_whose_answer_is_lost_is_unknown(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", match())
    server.on("PATCH", reset)
    assert isinstance(await ehr.send(patch(), creates=False), Unknown)


# ------------------------------------------------------------------------------------------------------------- Bundles


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_bundle_goes_to_the_base_and_names_what_was_written(server: ScriptedServer, ehr: Ehr, kind: str) -> None:
    made = {"status": "201 Created", "location": f"{server.base}/fhir/Patient/7/_history/1"}
    server.on("POST", answered(kind, made, {"status": "200", "location": "Task/8"}))
    outcome = await ehr.send(bundle(kind))
    assert isinstance(outcome, Delivered)
    assert outcome.reference == "Patient/7/_history/1 and 1 more"
    assert (server.requests[0].target, methods(server)) == ("/fhir", ["POST"])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answered("batch", "201", "422"), Rejected),
        (answered("batch", "422 Unprocessable Entity", "400"), Rejected),
        (answered("batch", "201", "503"), Unknown),
        (answered("batch", "422", "500"), Unknown),
        (answered("batch", "201", "429"), Unknown),
        (answered("batch", "201", ""), Unknown),
        (answered("batch", "201", "4222"), Unknown),
        (answered("batch", "201"), Unknown),
        (answered("transaction", "201", "201"), Unknown),
        (reply(200, b"<html>"), Unknown),
        (reply(200, b'{"resourceType":"Bundle","type":"batch-response","entry":7}'), Unknown),
        (reply(200, b'{"resourceType":"Bundle","type":"batch-response","entry":[7,{"response":7}]}'), Unknown),
        (reply(200), Unknown),
        (failing(400, "invalid"), Rejected),
        (failing(500, "exception"), Unknown),
        (failing(503, "transient"), Retry),
    ],
)
async def test_bundle_counts_by_its_entries(
    server: ScriptedServer, ehr: Ehr, answer: Behaviour, outcome: type[Outcome]
) -> None:
    server.on("POST", answer)
    assert isinstance(await ehr.send(bundle("batch")), outcome)


async def test_entry_that_failed_is_named_with_its_code(server: ScriptedServer, ehr: Ehr) -> None:
    said = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "business-rule"}]}
    server.on("POST", answered("batch", "201", {"status": "422", "outcome": said}))
    outcome = await ehr.send(bundle("batch"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "server ehr: 1 of 2 entries were not written (HTTP 422, business-rule)"
    assert outcome.location == "Bundle.entry[1]"


# ------------------------------------------------------------------------------------------------------- authorisation


async def test_token_that_was_refused_is_renewed_once(server: ScriptedServer, ehr: Ehr, tokens: TokenServer) -> None:
    given = {"token_url": tokens.url, "client_id": "client-1", "client_secret": "${env:CLIENT_SECRET}"}
    server.on("GET", reply(401), NOTHING)
    server.on("POST", CREATED)
    outcome = await ehr.send(request(), auth=spec(client_credentials=given))
    assert isinstance(outcome, Delivered)
    assert methods(server) == ["GET", "GET", "POST"]
    assert [one.headers["authorization"] for one in server.requests] == [
        "Bearer token-1",
        "Bearer token-2",
        "Bearer token-2",
    ]
    server.on("GET", reply(401))
    refused = await ehr.send(request(), auth=spec(client_credentials=given))
    assert isinstance(refused, Rejected)
    assert "refused the credentials" in refused.reason


async def test_without_a_token_nothing_is_sent(server: ScriptedServer, ehr: Ehr, tokens: TokenServer) -> None:
    given = {"token_url": tokens.url, "client_id": "another", "client_secret": "${env:CLIENT_SECRET}"}
    for delivery in (request(), request(search="")):
        outcome = await ehr.send(delivery, auth=spec(client_credentials=given))
        assert isinstance(outcome, Retry)
        assert outcome.after == 60
    assert server.requests == []


async def test_token_that_ends_between_search_and_write_leaves_the_write_for_later(
    server: ScriptedServer, ehr: Ehr, tokens: TokenServer
) -> None:
    given = {"token_url": tokens.url, "client_id": "client-1", "client_secret": "${env:CLIENT_SECRET}"}

    async def refuse(writer: asyncio.StreamWriter) -> None:
        tokens.answer = failing_endpoint
        await reply(401)(writer)

    server.on("GET", NOTHING)
    server.on("POST", refuse)
    outcome = await ehr.send(request(), auth=spec(client_credentials=given))
    assert isinstance(outcome, Retry)
    assert methods(server) == ["GET", "POST"]


async def failing_endpoint(_request: Any) -> Any:
    from aiohttp import web  # noqa: PLC0415 - for this one answer

    return web.Response(status=503)


async def test_key_goes_into_the_query_where_the_server_wants_it_there(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", NOTHING)
    server.on("POST", CREATED)
    await ehr.send(request(), auth=spec(api_key={"query": "key", "secret": "${env:TOKEN}"}))
    assert [one.target for one in server.requests] == [f"/fhir/Patient?{SEARCH}&key=s3cret", "/fhir/Patient?key=s3cret"]


# ------------------------------------------------------------------------------------------------------ what EHRs take


@pytest.mark.parametrize(
    ("profile", "delivery", "reason"),
    [
        (
            "epic",
            request(search="", kind="Appointment"),
            "Epic takes no create of Appointment over FHIR; send SIU^S12 to S26 by mllp (Epic books over FHIR only in "
            "STU3, with Appointment.$book)",
        ),
        ("epic", bundle(), "Epic takes no Bundle of type transaction over FHIR; write each resource in a destination"),
        (
            "meditech",
            request(search="", kind="Task"),
            "MEDITECH takes no create of Task over FHIR; send HL7 v2 by mllp",
        ),
    ],
)
async def test_write_that_the_ehr_does_not_take_is_not_sent(
    server: ScriptedServer, ehr: Ehr, profile: str, delivery: Delivery, reason: str
) -> None:
    outcome = await ehr.send(delivery, profile)
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith(f"server ehr: {reason}")
    assert server.requests == []


async def test_half_of_a_write_that_the_ehr_does_not_take_is_not_sent(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", match(), NOTHING)
    for delivery, what in ((request(), "update of Patient"), (request(kind="Task"), "create of Task")):
        outcome = await ehr.send(delivery, "epic")
        assert isinstance(outcome, Rejected)
        assert f"Epic takes no {what}" in outcome.reason
    assert methods(server) == ["GET", "GET"]


async def test_version_that_is_required_is_read_where_the_search_does_not_say_it(
    server: ScriptedServer, ehr: Ehr
) -> None:
    one = reply(200, b'{"resourceType":"Patient","id":"7"}', ETag='W/"5"')
    server.on("GET", match(""), one)
    server.on("PATCH", UPDATED)
    assert isinstance(await ehr.send(patch(), "oracle-cerner", creates=False), Delivered)
    assert [request.target for request in server.requests[1:]] == ["/fhir/Patient/7"] * 2
    assert server.requests[-1].headers["if-match"] == 'W/"5"'


async def test_server_without_versions_gets_none(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", match("3"))
    server.on("PUT", UPDATED)
    versionless = replace_profile(versions="none")
    await ehr.send(request(), versionless)
    assert "if-match" not in server.requests[-1].headers


async def test_headers_of_profile_and_server_go_with_every_request(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("GET", NOTHING)
    server.on("POST", CREATED)
    await ehr.send(request(), replace_profile(headers={"Epic-Client-ID": "x"}), headers={"X-Practice": "7"})
    assert {one.headers["epic-client-id"] for one in server.requests} == {"x"}
    assert {one.headers["x-practice"] for one in server.requests} == {"7"}


def replace_profile(**fields: Any) -> EhrProfile:
    return find_profile("generic").model_copy(update=fields)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (failing(400, "processing", own="59141"), Delivered()),
        (
            failing(403, "throttled", own="4135"),
            Retry("HTTP 403 from server ehr (throttled; 4135): the daily limit is reached", after=21_600),
        ),
        (
            failing(500, "exception", own="59188", place="Observation.code"),
            Rejected(
                "HTTP 500 from server ehr (exception; 59188): no single flowsheet row for this code",
                location="Observation.code",
            ),
        ),
    ],
)
async def test_epics_own_codes_decide(server: ScriptedServer, ehr: Ehr, answer: Behaviour, outcome: Outcome) -> None:
    server.on("POST", answer)
    found = await ehr.send(request(search="", kind="Observation"), "epic")
    assert replace(found, response=b"") == outcome


async def test_own_code_in_a_warning_changes_nothing(server: ScriptedServer, ehr: Ehr) -> None:
    server.on("POST", failing(400, "processing", own="59141", severity="warning"))
    assert isinstance(await ehr.send(request(search="", kind="Observation"), "epic"), Rejected)


async def test_profile_may_want_fewer_requests_at_a_time(server: ScriptedServer) -> None:
    target = Server("ehr", server.base, profile=find_profile("epic"))
    assert FhirServer(target, timeout=1, concurrency=8)._http._limit == 2
    assert FhirServer(target, timeout=1, concurrency=1)._http._limit == 1
