"""This module shows that what a FHIR server finds becomes messages once each, however the server pages and fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from broker.errors import Away, NotAccepted
from broker.notices_polls import PollFailed, PollRecovered, SearchRemarked
from broker.retry import RetryPolicy
from listeners.fhir_search import FhirSearchListener, FhirSearchSpec
from tests.contract.fhir_rig import build, listening, names
from tests.contract.poll_rig import Kept, Remembered, until
from tests.fhir_shelf import Shelf

GIVEN: dict[str, Any] = {"resource": "Observation", "page": 3}


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    """A server with seven resources, one changed each second."""
    shelf = Shelf()
    for number in range(7):
        shelf.put(f"o{number}", number)
    await shelf.start()
    yield shelf
    await shelf.stop()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing wait long until it is tried again."""
    monkeypatch.setattr("listeners.polling._AGAIN", 0.02)
    monkeypatch.setattr("listeners.polling._BACKOFF", RetryPolicy(attempts=0, first=0.01, max=0.05))


def searching(shelf: Shelf, kept: Kept, marks: Remembered | None = None, **given: Any) -> FhirSearchListener:
    listener = build(FhirSearchSpec, shelf.base, kept, marks or Remembered(), Path(), **{**GIVEN, **given})
    assert isinstance(listener, FhirSearchListener)
    return listener


@asynccontextmanager
async def polled(shelf: Shelf, kept: Kept, marks: Remembered, **given: Any) -> AsyncIterator[FhirSearchListener]:
    """Poll once, without a clock; more polls are up to the test."""
    listener = searching(shelf, kept, marks, **given)
    await listener._source.open()
    try:
        await listener._poll()
        yield listener
    finally:
        await listener._source.close()


async def reason(listener: FhirSearchListener) -> str:
    """Poll once more, and return why that could not be."""
    with pytest.raises(Away) as caught:
        await listener._poll()
    assert "?" not in str(caught.value)
    return str(caught.value)


WAYS: dict[str, dict[str, Any]] = {
    "sorted": {},
    "sorted, without links": {"links": False},
    "unsorted": {"sorts": False, "claims": False},
    "sorted and not said": {"claims": False},
    "fewer than asked for": {"most": 2},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_each_version_comes_once_in_whatever_way_the_server_pages(way: dict[str, Any], shelf: Shelf) -> None:
    for name, value in way.items():
        setattr(shelf, name, value)
    kept, marks = Kept(), Remembered()
    async with polled(shelf, kept, marks) as listener:
        assert names(kept) == [f"o{number}" for number in range(7)]
        shelf.put("o3", 20, version="2", status="amended")
        shelf.put("o7", 20.5)
        await listener._poll()
        await listener._poll()
    assert names(kept)[7:] == ["o3", "o7"]
    assert kept.tries == 9  # what is searched again was left out
    async with polled(shelf, kept, marks):
        pass
    assert len(kept.messages) == 9
    assert "ge2026-03-18T14:14:20.500Z" in {request.query.get("_lastUpdated") for request in shelf.asked}


async def test_message_is_the_resource_as_it_was_sent(shelf: Shelf) -> None:
    shelf.kept.clear()
    shelf.put("x", valueQuantity={"value": 1.5})
    kept = Kept()
    wanted = {"code": "8302-2", "subject:Patient": "7", "_include": ["a", "b"]}
    async with polled(shelf, kept, Remembered(), parameters=wanted):
        [message] = kept.messages.values()
    assert orjson.loads(message.body) == shelf.kept["x"]
    assert (message.peer, message.key_decides) == ("server ehr", True)
    assert shelf.asked[0].query_string == (
        "code=8302-2&subject:Patient=7&_include=a&_include=b&_sort=_lastUpdated&_count=3"
    )


async def test_many_changes_of_one_moment_are_read_by_their_links(shelf: Shelf) -> None:
    for number in range(10, 20):
        shelf.put(f"o{number}", 7)
    kept = Kept()
    async with polled(shelf, kept, Remembered()):
        assert sorted(names(kept)) == sorted(f"o{number}" for number in [*range(7), *range(10, 20)])
    assert any("offset" in request.query for request in shelf.asked)


async def test_change_between_two_pages_hides_nothing(shelf: Shelf) -> None:
    """A page further on by count alone would begin behind what moved up."""
    kept = Kept()

    def change() -> None:
        if len(kept.messages) == 3:
            shelf.put("o0", 30, version="2")

    kept.on_accept = change
    async with polled(shelf, kept, Remembered()):
        assert names(kept) == [*(f"o{number}" for number in range(7)), "o0"]


async def test_resources_without_version_or_time_are_known_by_their_bytes(shelf: Shelf) -> None:
    shelf.kept.clear()
    shelf.put("a", version="")
    shelf.put("b", version="")
    del shelf.kept["b"]["meta"]["lastUpdated"]
    kept, marks = Kept(), Remembered()
    async with polled(shelf, kept, marks) as listener:
        shelf.put("a", version="", status="amended")
        await listener._poll()
        await listener._poll()
    assert sorted(names(kept)) == ["a", "a", "b"]


async def test_server_that_calls_every_version_the_first_hides_no_change(shelf: Shelf) -> None:
    kept = Kept()
    async with polled(shelf, kept, Remembered()) as listener:
        shelf.put("o2", 9, status="amended")
        await listener._poll()
    assert names(kept)[7:] == ["o2"]


async def test_server_that_only_claims_to_sort_is_read_by_its_links(shelf: Shelf) -> None:
    shelf.sorts = False
    shelf.put("o3", -5, version="2")  # last in the order of the shelf
    kept, marks = Kept(), Remembered()
    listener = searching(shelf, kept, marks)
    await listener._source.open()
    assert "heeds _sort" in await reason(listener)
    assert marks.kept[listener._kept.name] == b""  # taken back
    await listener._poll()
    await listener._source.close()
    assert sorted(names(kept)) == [f"o{number}" for number in range(7)]


async def test_server_that_gives_everything_each_time_is_read_once(shelf: Shelf) -> None:
    shelf.heeds = False
    kept = Kept()
    listener = searching(shelf, kept)
    await listener._source.open()
    assert "_lastUpdated" in await reason(listener)
    await listener._poll()
    await listener._poll()
    await listener._source.close()
    assert (len(kept.messages), kept.tries) == (7, 7)


async def test_entries_that_are_no_matches_are_what_they_are(shelf: Shelf) -> None:
    patient = {"resourceType": "Patient", "id": "p", "meta": {"versionId": "4"}}
    issue = {"severity": "warning", "code": "not-supported", "diagnostics": "Okafor"}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    shelf.extra = [
        {"resource": patient, "search": {"mode": "include"}},
        {"resource": outcome, "search": {"mode": "outcome"}},
        {"fullUrl": "urn:nothing"},
    ]
    kept = Kept()
    async with polled(shelf, kept, Remembered(), parameters={"_include": "Observation:subject"}) as listener:
        assert names(kept).count("p") == 1
        assert len(kept.messages) == 8
        assert [notice.codes for notice in kept.told(SearchRemarked)] == ["not-supported"]
        issue["severity"] = "error"
        assert await reason(listener) == "it says that its answer to the search is not whole (not-supported)"


async def test_match_and_what_came_along_can_be_one_message(shelf: Shelf) -> None:
    patient: dict[str, Any] = {"resourceType": "Patient", "id": "p", "meta": {"versionId": "4"}}
    shelf.extra = [{"resource": patient, "search": {"mode": "include"}}]
    shelf.put("o6", 6, subject={"reference": "Patient/p"})
    kept, marks = Kept(), Remembered()
    async with polled(shelf, kept, marks, take="bundle", parameters={"_include": "Observation:subject"}) as listener:
        patient["active"] = True
        await listener._poll()
    bundles = [orjson.loads(message.body) for message in kept.messages.values()]
    assert [len(bundle["entry"]) for bundle in bundles] == [1] * 6 + [2]
    async with polled(shelf, kept, marks, take="bundle", parameters={"_include": "Observation:subject"}):
        assert len(kept.messages) == 7


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://127.0.0.1:1/fhir/Observation?page=2",
        "https://127.0.0.1/fhir/Observation",
        "/other/Observation",
        "../metadata",
        "//evil.example/fhir/x",
        "http://[",
    ],
)
async def test_link_that_leads_elsewhere_is_not_followed(elsewhere: str, shelf: Shelf) -> None:
    shelf.following = elsewhere
    kept, marks = Kept(), Remembered()
    listener = searching(shelf, kept, marks)
    await listener._source.open()
    assert "leads out of its `base`" in await reason(listener)
    await listener._source.close()
    assert (len(shelf.asked), marks.kept) == (1, {})


async def test_rest_that_a_server_keeps_is_told(shelf: Shelf) -> None:
    shelf.links, shelf.claims = False, False
    listener = searching(shelf, Kept())
    await listener._source.open()
    assert "found 7, gave 3" in await reason(listener)
    await listener._source.close()


async def test_limits_end_a_poll_and_the_next_one_goes_on(shelf: Shelf) -> None:
    kept = Kept()
    async with polled(shelf, kept, Remembered(), pages=2, overlap=0) as listener:
        assert len(kept.messages) == 5
        await listener._poll()
        assert len(kept.messages) == 7
    shelf.sorts = shelf.claims = False
    for limit in ({"pages": 2}, {"duration": "1ms"}):
        listener = searching(shelf, Kept(), **limit)
        await listener._source.open()
        assert "not in the order" in await reason(listener)
        await listener._source.close()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda: web.Response(status=401), "mend its entry under `servers:`"),
        (lambda: web.json_response({"resourceType": "OperationOutcome", "issue": [{"code": "throttled"}]}, status=429),
         "HTTP 429 from server ehr (throttled)"),
        (lambda: web.Response(body=b"<html>"), "cannot be read (not usable JSON"),
        (lambda: web.json_response({"resourceType": "Patient"}), "something other than a Bundle"),
        (lambda: web.Response(body=b" " * (17 * 1024 * 1024)), "more than"),
    ],
)  # fmt: skip
async def test_answer_that_is_no_page_is_told(answer: Callable[[], web.Response], told: str, shelf: Shelf) -> None:
    shelf.refuses = [answer()]
    kept, marks = Kept(), Remembered()
    listener = searching(shelf, kept, marks)
    await listener._source.open()
    assert told in await reason(listener)
    await listener._poll()
    await listener._source.close()
    assert len(kept.messages) == 7


async def test_server_that_is_away_is_told_once_and_once_when_it_is_back(shelf: Shelf) -> None:
    kept = Kept()
    port = int(shelf.base.split(":")[2].split("/")[0])
    async with listening(searching(shelf, kept)) as listener:
        assert (listener.endpoints, listener.connections) == (("server ehr",), 0)
        await until(lambda: len(kept.messages) == 7)
        await shelf.stop()
        await until(lambda: bool(kept.told(PollFailed)))
        await shelf.start(port)
        await until(lambda: bool(kept.told(PollRecovered)))
    assert not listener.endpoints
    [failed] = kept.told(PollFailed)
    assert failed.reason.startswith("server ehr: ")
    await listener.stop()


async def test_server_that_wants_time_is_given_it(shelf: Shelf) -> None:
    shelf.refuses = [web.Response(status=503, headers={"Retry-After": "2"})]
    kept = Kept()
    loop = asyncio.get_running_loop()
    async with listening(searching(shelf, kept)):
        await until(lambda: len(shelf.asked) == 1)
        asked = loop.time()
        await until(lambda: len(kept.messages) == 7)
        assert 1.8 < loop.time() - asked < 10


async def test_store_that_is_away_and_a_resource_that_it_does_not_take(shelf: Shelf) -> None:
    kept, marks = Kept(), Remembered()
    kept.refusals = [NotAccepted("away"), NotAccepted("no", code="AR", condition=101)]
    async with polled(shelf, kept, marks):
        pass
    assert names(kept) == [f"o{number}" for number in range(1, 7)]
    assert [orjson.loads(body)["id"] for body in kept.quarantined] == ["o0"]
    kept.refusals = [NotAccepted("away")] * 1000
    marks.kept.clear()
    async with listening(searching(shelf, kept, marks)):
        await until(lambda: len(kept.refusals) < 1000)
    assert not marks.kept


async def test_search_has_our_credentials(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret")
    async with polled(shelf, Kept(), Remembered(), settings={"auth": {"bearer": {"token": "${env:TOKEN}"}}}):
        pass
    assert {request.headers["Authorization"] for request in shelf.asked} == {"Bearer s3cret"}
