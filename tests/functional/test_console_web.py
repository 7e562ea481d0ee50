"""The console answers over real sockets: counts for everybody on this machine, all else for the token."""

import asyncio
import io
import json
import socket
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker import ids
from broker.errors import NotReady
from broker.notices import Bug, Committed, ConfigurationRefused
from broker.units import Quarantine
from console.web.access import make_token
from dispatch import key_folder
from dispatch.patients.migrate import migrate as migrate_patients
from tests.console_engine import Practice, serving


@pytest.fixture
async def practice(tmp_path: Path) -> AsyncIterator[Practice]:
    """A console over a real, empty store."""
    async with serving(tmp_path) as practice:
        yield practice


@pytest.fixture
async def http(practice: Practice) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that knows the token."""
    async with aiohttp.ClientSession(practice.url, headers={"Authorization": f"Bearer {practice.token}"}) as session:
        yield session


async def got(http: aiohttp.ClientSession, path: str, status: int = 200, **options: Any) -> Any:
    """Ask, check the status, return the JSON."""
    async with http.request(options.pop("method", "GET"), path, **options) as response:
        assert response.status == status, await response.text()
        return await response.json()


async def test_first_page_shows_counts_without_a_token_and_with_strict_headers(practice: Practice) -> None:
    """Nothing on it names a patient, and it may load nothing from elsewhere."""
    await practice.filling.receive("C1", "SECRET-MRN")
    async with aiohttp.ClientSession(practice.url) as http, http.get("/") as response:
        page = await response.text()
        policy = response.headers["content-security-policy"]
    assert response.status == 200
    assert '<tr data-channel="adt">' in page
    assert "<caption>" in page
    assert "SECRET-MRN" not in page
    assert "C1" not in page
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page
    assert "style=" not in page


@pytest.mark.parametrize(
    "path",
    [
        "/messages",
        "/trace/x",
        "/dead",
        "/quarantine",
        "/counters",
        "/patients?mrn=1",
        "/status",
        "/deliveries",
        "/disclosures?mrn=1",
    ],
)
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}])
async def test_api_wants_the_token(practice: Practice, path: str, header: dict[str, str]) -> None:
    """No token, a wrong token and another scheme are all refused alike."""
    async with aiohttp.ClientSession(practice.url, headers=header) as http, http.get(f"/api/v1{path}") as response:
        assert response.status == 401
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:9", 200), ("evil.example", 421), ("127.0.0.1.evil", 421)],
)
async def test_only_names_of_this_machine_are_answered(practice: Practice, host: str, status: int) -> None:
    """A page of another site cannot reach us through a name that it points here."""
    async with (
        aiohttp.ClientSession(practice.url) as http,
        http.get("/health/live", headers={"Host": host}) as response,
    ):
        assert response.status == status


async def test_messages_and_trace_answer_with_stable_keys(practice: Practice, http: aiohttp.ClientSession) -> None:
    """What the command line prints comes from here."""
    message = await practice.filling.receive("C1", "77")
    await practice.filling.finish(message)
    await practice.filling.end(message, "waiting", "retry", "503")
    (row,) = (await got(http, "/api/v1/messages?mrn=77"))["messages"]
    assert row["id"] == ids.show(message)
    assert list(row) == [
        *("id", "channel", "type", "control_id", "state", "received_at", "processed_at", "peer", "revision"),
        *("step", "location", "reason", "deliveries"),
    ]
    found = await got(http, "/api/v1/trace/C1")
    for asked in (row["id"], row["id"].lower(), ids.show(message + 2)):
        assert await got(http, f"/api/v1/trace/{asked}") == found
    assert found["id"] == row["id"]
    assert found["steps"] == [{"name": "filter", "state": "done"}, {"name": "set", "state": "done"}]
    prm, ehr = found["deliveries"]
    assert (prm["state"], prm["class"], prm["attempts"][0]["outcome"]) == ("waiting", "retry", "retry")
    assert ehr["after"] == "prm"
    assert "control id" in (await got(http, "/api/v1/trace/nobody", 404))["error"]


async def test_steps_of_a_stopped_message_say_where_it_stopped(practice: Practice, http: aiohttp.ClientSession) -> None:
    """The step that failed and those that never ran can be told apart."""
    message = await practice.filling.receive("C1")
    await practice.filling.finish(message, "filtered", step="steps.1.filter", reason="not wanted")
    found = await got(http, f"/api/v1/trace/{ids.show(message)}")
    assert found["steps"] == [{"name": "filter", "state": "filtered"}, {"name": "set", "state": "skipped"}]


@pytest.mark.parametrize("query", ["state=nonsense", "limit=x", "since=-1", "since=nan", "before=xyz", "limit=-2"])
async def test_senseless_questions_are_refused(http: aiohttp.ClientSession, query: str) -> None:
    """The answer says what was expected."""
    assert (await got(http, f"/api/v1/messages?{query}", 400))["error"]


async def test_dead_letters_are_listed_replayed_and_discarded(practice: Practice, http: aiohttp.ClientSession) -> None:
    """The act reaches the engine with who and why."""
    first, second = await practice.filling.receive("C1"), await practice.filling.receive("C2")
    for message in (first, second):
        await practice.filling.finish(message)
        await practice.filling.end(message, "dead", "rejected", "422")
    assert [letter["id"] for letter in (await got(http, "/api/v1/dead"))["dead"]] == [
        ids.show(second + 1),
        ids.show(first + 1),
    ]
    asked = {"ids": [ids.show(first + 1)], "actor": "ann", "reason": "fixed"}
    assert await got(http, "/api/v1/dead/replay", method="POST", json=asked) == {"asked": 1, "count": 1}
    assert (practice.engine.acts[0].act, practice.engine.acts[0].actor, practice.engine.acts[0].reason) == (
        "replay",
        "ann",
        "fixed",
    )
    assert await got(http, "/api/v1/dead/discard", method="POST", json={"all": True}) == {"asked": 1, "count": 1}
    assert await got(http, "/api/v1/dead/replay", method="POST", json={"all": True}) == {"asked": 0, "count": 0}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("replay", b"", 400),
        ("replay", b"[]", 400),
        ("replay", b"{}", 400),
        ("replay", b'{"ids": ["nonsense"]}', 400),
        ("replay", b'{"all": "yes"}', 400),
        ("explode", b"{}", 404),
        ("replay", b"x" * (1 << 21), 413),
    ],
)
async def test_senseless_acts_change_nothing(
    practice: Practice, http: aiohttp.ClientSession, path: str, body: bytes, status: int
) -> None:
    """Only what is clearly meant is done."""
    assert (await got(http, f"/api/v1/dead/{path}", status, method="POST", data=io.BytesIO(body)))["error"]
    assert practice.engine.acts == []


async def test_quarantine_counters_and_status_answer(practice: Practice, http: aiohttp.ClientSession) -> None:
    """What the operator's other commands show."""
    unit = Quarantine(id=practice.filling.ids.next(), channel=1, at=5.0, peer="p", reason="no MSH", size=3, body=b"abc")
    await practice.filling.store.quarantine(unit)
    (row,) = (await got(http, "/api/v1/quarantine"))["quarantine"]
    assert row == {
        "id": ids.show(unit.id),
        "channel": "adt",
        "received_at": "1970-01-01T00:00:05.000Z",
        "peer": "p",
        "reason": "no MSH",
        "size": 3,
    }
    (channel,) = (await got(http, "/api/v1/counters"))["channels"]
    assert (channel["channel"], channel["today"]["quarantined"], channel["connections"]) == ("adt", 1, 2)
    assert {"version", "started_at", "intake", "channels", "pauses", "notices"} == set(
        await got(http, "/api/v1/status")
    )


async def test_patients_are_read_from_their_store(practice: Practice, http: aiohttp.ClientSession) -> None:
    """Nobody found is an empty list; a store that cannot be read is told."""
    assert "store:" in (await got(http, "/api/v1/patients?mrn=1", 503))["error"]
    await asyncio.to_thread(migrate_patients, practice.settings.patients)
    assert await got(http, "/api/v1/patients?mrn=1&system=MERCY") == {"patients": []}
    assert "mrn" in (await got(http, "/api/v1/patients", 400))["error"]


async def test_reload_tells_what_came_of_it(practice: Practice, http: aiohttp.ClientSession) -> None:
    """The report of a refusal is the whole report."""
    assert (await got(http, "/api/v1/reload", method="POST"))["ok"] is True
    practice.engine.reloaded = ConfigurationRefused(findings=2, report="two things")
    found = await got(http, "/api/v1/reload", method="POST")
    assert (found["ok"], found["findings"], found["report"]) == (False, 2, "two things")


async def test_failure_inside_a_request_is_reported_without_its_text(
    practice: Practice, http: aiohttp.ClientSession
) -> None:
    """What an exception says may be about a patient."""

    def status() -> list[Any]:
        raise RuntimeError("Okafor")

    seen: list[Any] = []
    practice.console._app._notify = seen.append
    practice.engine.status = status  # type: ignore[method-assign]
    found = await got(http, "/health/ready", 500)
    assert "Okafor" not in json.dumps(found)
    assert seen == [Bug(where="console", error="RuntimeError")]


async def test_events_stream_what_changed(practice: Practice) -> None:
    """A new message shows within two seconds, and an unchanged picture is not sent again."""
    async with aiohttp.ClientSession(practice.url) as http, http.get("/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert (await event(response))["channels"][0]["today"]["received"] == 0
        await practice.filling.receive("C1")
        practice.report(Committed(units=1, seconds=0.001))
        assert (await asyncio.wait_for(event(response), 2))["channels"][0]["today"]["received"] == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(event(response), 1)


async def event(response: aiohttp.ClientResponse) -> Any:
    """Return the next event's data."""
    while line := await response.content.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    raise AssertionError("the stream ended")


async def test_stop_ends_open_streams_at_once(tmp_path: Path) -> None:
    """A browser that looks on does not hold the engine up."""
    async with (
        serving(tmp_path) as practice,
        aiohttp.ClientSession(practice.url) as http,
        http.get("/events") as response,
    ):
        await event(response)
        begun = time.monotonic()
        await practice.console.stop()
        assert time.monotonic() - begun < 0.5
        with pytest.raises((AssertionError, aiohttp.ClientError)):
            await event(response)


async def test_readiness_follows_the_channels(practice: Practice, http: aiohttp.ClientSession) -> None:
    """A load balancer or a probe learns that messages cannot be taken."""
    assert (await got(http, "/health/live")) == {"live": True}
    assert (await got(http, "/health/ready"))["ready"] is True
    practice.engine.state.state = "failed"
    assert (await got(http, "/health/ready", 503))["channels"] == {"adt": "failed"}


async def test_metrics_show_queues(practice: Practice, http: aiohttp.ClientSession) -> None:
    """Queues are read from the store."""
    await practice.filling.receive("C1")
    async with http.get("/metrics") as response:
        text = await response.text()
    assert 'handoff_queue_depth{channel="adt",destination=""} 1.0' in text


async def test_taken_port_is_told_in_one_sentence(practice: Practice) -> None:
    """The operator learns which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        practice.settings.console.endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            NotReady, match=r"^console: cannot listen on [\d.:]+ \(address already in use\); .*console.endpoint$"
        ):
            practice.console.open()


def test_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """The second run finds the first run's token; a readable file is refused."""
    token = make_token(tmp_path)
    path = tmp_path / "console.token"
    assert make_token(tmp_path) == token
    assert len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(NotReady, match="chmod 600"):
        make_token(tmp_path)
    path.chmod(0o600)
    path.write_text("")
    with pytest.raises(NotReady, match="empty"):
        make_token(tmp_path)


async def test_public_keys_are_for_everybody_and_nothing_private_is(practice: Practice) -> None:
    """An EHR fetches them without a token, and may keep a copy for an hour."""
    made = key_folder.make(practice.settings.data, "ES384", time.time())
    async with aiohttp.ClientSession(practice.url) as http, http.get("/.well-known/jwks.json") as response:
        assert response.status == 200
        assert response.headers["cache-control"] == "public, max-age=3600"
        (key,) = (await response.json())["keys"]
    assert key == made.key.public_jwk()
    assert set(key) == {"alg", "crv", "kid", "kty", "use", "x", "y"}


async def test_keys_that_cannot_be_read_say_where_to_look(practice: Practice) -> None:
    made = key_folder.make(practice.settings.data, "ES384", time.time())
    path = practice.settings.data / "keys" / f"{made.key.name}.json"
    path.chmod(0o644)
    async with aiohttp.ClientSession(practice.url) as http:
        assert "handoff keys list" in (await got(http, "/.well-known/jwks.json", 503))["error"]
