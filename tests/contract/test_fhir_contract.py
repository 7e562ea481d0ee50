"""This module tests the conversation with a FHIR server: what is asked first, and what follows from each answer."""

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.parts import Destination
from tests.contract.scripted_server import Behaviour, ScriptedServer, hang_up, reply, reset, slow
from tests.contract.test_destination_contract import BY_SEARCH, NOTHING, PATIENT, _fhir, tools

SEARCH = "identifier=urn%3Amrn%7C0012"
CREATED = reply(201, Location="Patient/7/_history/1")
UPDATED = reply(200, ETag='W/"4"')


def match(version: str = "3", name: str = "7") -> Behaviour:
    resource = {"resourceType": "Patient", "id": name, "meta": {"versionId": version} if version else {}}
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [{"resource": resource}]}
    return reply(200, orjson.dumps(bundle))


def delivery(search: str = SEARCH) -> Delivery:
    request = orjson.dumps({"resource": PATIENT, "search": search, "type": "Patient"})
    return Delivery(id=1, route=1, key="k" * 32, request=request)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def ehr(server: ScriptedServer) -> AsyncIterator[Destination]:
    destination = _fhir(**BY_SEARCH).build(tools(server.base))
    await destination.open()
    yield destination
    await destination.close()


async def send(destination: Destination) -> Outcome:
    async with asyncio.timeout(5):
        (outcome,) = await destination.send([delivery()])
    return outcome


def methods(server: ScriptedServer) -> list[str]:
    return [request.method for request in server.requests]


async def test_create_asks_first_and_guards_with_the_same_search(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", NOTHING)
    server.on("POST", CREATED)
    assert isinstance(await send(ehr), Delivered)
    look, create = server.requests
    assert (look.method, look.target) == ("GET", f"/fhir/Patient?{SEARCH}")
    assert (create.method, create.target) == ("POST", "/fhir/Patient")
    assert create.headers["if-none-exist"] == SEARCH
    assert create.headers["content-type"] == "application/fhir+json"
    assert create.headers["authorization"] == "Bearer s3cret"
    assert create.headers["x-request-id"] == "k" * 32
    assert create.body == PATIENT.encode()


@pytest.mark.parametrize(("version", "header"), [("3", 'W/"3"'), ("", None)])
async def test_update_names_the_version_that_was_seen(
    server: ScriptedServer, ehr: Destination, version: str, header: str | None
) -> None:
    server.on("GET", match(version))
    server.on("PUT", UPDATED)
    assert await send(ehr) == Delivered(reference="Patient/7/_history/4")
    update = server.requests[-1]
    assert update.target == "/fhir/Patient/7"
    assert update.headers.get("if-match") == header
    assert update.body == b'{"id":"7",' + PATIENT.encode()[1:]
    assert orjson.loads(update.body) == {"id": "7", **orjson.loads(PATIENT)}


async def test_match_is_kept_when_told_so(server: ScriptedServer) -> None:
    server.on("GET", match())
    keeper = _fhir(**BY_SEARCH, on_match="keep").build(tools(server.base))
    await keeper.open()
    outcome = await send(keeper)
    await keeper.close()
    assert outcome == Delivered(reference="Patient/7/_history/3")
    assert methods(server) == ["GET"]


@pytest.mark.parametrize("status", [409, 412])
async def test_update_looks_again_when_the_version_was_stale(
    server: ScriptedServer, ehr: Destination, status: int
) -> None:
    server.on("GET", match("3"), match("4"))
    server.on("PUT", reply(status), UPDATED)
    assert isinstance(await send(ehr), Delivered)
    assert methods(server) == ["GET", "PUT", "GET", "PUT"]
    assert [r.headers["if-match"] for r in server.requests if r.method == "PUT"] == ['W/"3"', 'W/"4"']


@pytest.mark.parametrize("status", [409, 412])
async def test_update_is_left_for_later_when_the_version_stays_stale(
    server: ScriptedServer, ehr: Destination, status: int
) -> None:
    server.on("GET", match())
    server.on("PUT", reply(status))
    assert isinstance(await send(ehr), Retry)
    assert methods(server) == ["GET", "PUT"] * 2


async def test_create_is_rejected_when_several_match(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", NOTHING)
    server.on("POST", reply(412))
    outcome = await send(ehr)
    assert isinstance(outcome, Rejected)
    assert "several match" in outcome.reason


async def test_create_is_tried_again_when_somebody_wrote_at_the_same_time(
    server: ScriptedServer, ehr: Destination
) -> None:
    server.on("GET", NOTHING)
    server.on("POST", reply(409))
    assert isinstance(await send(ehr), Retry)


async def test_create_becomes_an_update_when_one_appeared_meanwhile(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", NOTHING)
    server.on("POST", reply(200, Location="/fhir/Patient/7/_history/3"))
    server.on("PUT", UPDATED)
    assert isinstance(await send(ehr), Delivered)
    assert methods(server) == ["GET", "POST", "PUT"]


async def test_create_looks_again_when_the_answer_does_not_say_which_matched(
    server: ScriptedServer, ehr: Destination
) -> None:
    server.on("GET", NOTHING, match())
    server.on("POST", reply(200))
    server.on("PUT", UPDATED)
    assert isinstance(await send(ehr), Delivered)
    assert methods(server) == ["GET", "POST", "GET", "PUT"]


async def test_create_is_never_sent_twice_in_one_attempt(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", NOTHING)
    server.on("POST", reply(200))
    assert isinstance(await send(ehr), Unknown)
    assert methods(server) == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    "answer", [reset, hang_up, reply(500), reply(503), reply(204), reply(200, b"<html>"), slow(1, NOTHING)]
)
async def test_search_that_fails_is_tried_again_because_nothing_was_written(
    server: ScriptedServer, ehr: Destination, answer: Behaviour
) -> None:
    server.on("GET", answer)
    assert isinstance(await send(ehr), Retry)
    assert set(methods(server)) == {"GET"}


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_search_that_is_refused_rejects(server: ScriptedServer, ehr: Destination, status: int) -> None:
    server.on("GET", reply(status))
    assert isinstance(await send(ehr), Rejected)
    assert methods(server) == ["GET"]


async def test_attempt_after_an_unknown_outcome_finds_what_was_made(server: ScriptedServer, ehr: Destination) -> None:
    """The first create took effect but its answer was lost; the second attempt must not create again."""
    server.on("GET", NOTHING)
    server.on("POST", reset)
    assert isinstance(await send(ehr), Unknown)
    server.on("GET", match("1"))
    server.on("PUT", UPDATED)
    assert isinstance(await send(ehr), Delivered)
    assert methods(server).count("POST") == 1


async def test_connection_that_the_server_closed_meanwhile_costs_nothing(
    server: ScriptedServer, ehr: Destination
) -> None:
    async def answer_and_close(writer: asyncio.StreamWriter) -> None:
        await match()(writer)
        writer.close()

    server.on("GET", answer_and_close)
    server.on("PUT", UPDATED)
    assert isinstance(await send(ehr), Delivered)
    assert isinstance(await send(ehr), Delivered)


async def test_same_search_is_served_one_after_the_other(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", slow(0.02, NOTHING))
    server.on("POST", slow(0.02, CREATED))
    await asyncio.gather(*(send(ehr) for _ in range(4)))
    assert methods(server) == ["GET", "POST"] * 4


async def test_other_searches_are_served_at_the_same_time(server: ScriptedServer, ehr: Destination) -> None:
    server.on("GET", slow(0.05, NOTHING))
    server.on("POST", CREATED)
    await asyncio.gather(*(ehr.send([delivery(f"identifier={number}")]) for number in range(4)))
    assert methods(server)[:4] == ["GET"] * 4
