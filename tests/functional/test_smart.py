"""The engine gets into an EHR as SMART Backend Services asks, with its own keys, and they are changed while it runs.

The EHR in front of the sandbox knows the engine by the key set that the console publishes, and by nothing else.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.contract.token_server import CLIENT, TokenServer
from tests.functional.running import Running

AUTH = """\
    auth:
      smart: {client_id: client-1, scope: system/Patient.crus}
"""


@dataclass
class GuardedEhr(TokenServer):
    """An EHR that lets nobody in without a token of its own; behind it is the sandbox's."""

    keys_at: str = ""
    behind: str = ""
    turned_away: int = 0
    revoked: int = 0  # tokens up to this number are not taken any more

    def add_routes(self, app: web.Application) -> None:
        """Guard everything below /fhir."""
        app.router.add_route("*", "/fhir/{path:.*}", self._guarded)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        async with aiohttp.ClientSession() as session, session.get(self.keys_at) as answer:
            self.jwks = await answer.json()
        return await super()._token(request)

    async def _guarded(self, request: web.Request) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        number = int(token.removeprefix("token-") or 0) if token.startswith("token-") else 0
        if scheme != "Bearer" or not self.revoked < number <= self.tokens:
            self.turned_away += 1
            return web.Response(status=401)
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Authorization"}}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, f"{self.behind}{request.path_qs}", headers=headers, data=await request.read()
            ) as answer,
        ):
            kept = {
                name: answer.headers[name] for name in ("ETag", "Location", "Content-Type") if name in answer.headers
            }
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


def prepare(engine: Running, ehr: GuardedEhr) -> None:
    """Let the shipped settings name this EHR."""
    path = engine.folder / "handoff.yaml"
    text = path.read_text()
    base = '    base: "${sandbox}/fhir"\n'
    assert base in text
    path.write_text(text.replace(base, f"    base: {ehr.base}/fhir\n{AUTH}"))
    ehr.keys_at = f"http://127.0.0.1:{engine.console}/.well-known/jwks.json"
    ehr.behind = f"http://127.0.0.1:{engine.sandbox}"


def outcome_of(journey: dict[str, Any]) -> str:
    (found,) = [each["state"] for each in journey["deliveries"] if each["destination"] == "ehr"]
    return str(found)


def command(engine: Running, *words: str) -> str:
    done = engine.run(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.timeout(180)
async def test_engine_gets_in_with_its_own_keys_and_they_are_changed_while_it_runs(tmp_path: Path) -> None:
    engine, ehr = Running(tmp_path), GuardedEhr()
    await ehr.start()
    try:
        await asyncio.to_thread(story, engine, ehr)
    finally:
        await ehr.stop()


def story(engine: Running, ehr: GuardedEhr) -> None:
    prepare(engine, ehr)
    first = command(engine, "keys", "make", "--algorithm", "ES384")
    with engine:
        engine.send("adt_a04")
        assert outcome_of(engine.settled("MERCY0000104")) == "delivered"
        second = command(engine, "keys", "make", "--algorithm", "ES384", "--now")
        command(engine, "keys", "retire", first)
        ehr.revoked = ehr.tokens  # the EHR ends the session; the next request gets 401, and a new token
        engine.send("adt_a08")
        assert outcome_of(engine.settled("MERCY0000308")) == "delivered"
        writes = engine.read("sandbox", "log")["write_backs"]
        log = engine.log.read_text()
    assert [(one["type"], one["verb"]) for one in writes] == [("Patient", "create"), ("Patient", "update")]
    assert [header["kid"] for header, _ in ehr.assertions] == [first, second]
    assert {claims["iss"] for _, claims in ehr.assertions} == {CLIENT}
    assert ehr.turned_away == 1
    assert not [word for word in ("token-", "eyJ", CLIENT) if word in log]
