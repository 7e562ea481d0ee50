"""Who calls over SOAP is known by HTTP, a token of WS-Security, or the request itself, and nobody else is served."""

import asyncio
import base64
import time
from typing import Final

import pytest

from broker.notices import PeerRefused
from listeners.soap import SoapSpec
from tests.http_peer import serving
from tests.soap_peer import CDC, V11, V12, envelope, fault, inner, kind, submit, token

CLINIC: Final = {"clinic": {"basic": {"user": "clinic", "password": "${env:CLINIC}"}}}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINIC", "pass<word>")


async def test_who_calls_is_known_by_http_a_token_or_the_request() -> None:
    body, good = envelope(submit()), "pass&lt;word&gt;"
    async with serving(SoapSpec, "hl7", CLINIC, preset="cdc_2011") as world:
        now = time.time()
        taken = [
            (body, {"Authorization": "Basic " + base64.b64encode(b"clinic:pass<word>").decode()}),
            (envelope(submit(user="clinic", password=good)), {}),
            (envelope(submit(), V11, token("clinic", good)), {}),
            (envelope(submit(), V11, token("clinic", "pass<word>", now, b"n1", digest=True)), {}),
        ]
        for sent, headers in taken:
            assert (await world.ask("POST", "/", data=sent, headers=kind() | headers))[0] == 200
        for sent in (
            envelope(submit(user="clinic", password="guess")),
            envelope(submit(user="other", password=good)),
            envelope(submit(), V11, token("clinic", "guess")),
            envelope(submit(), V11, token("clinic", "guess", now, b"n2", digest=True)),
        ):
            status, answer, _ = await world.ask("POST", "/", data=sent, headers=kind())
            assert (status, fault(answer)[1]) == (
                500,
                "nobody knows this caller; check its credentials against `callers` in handoff.yaml",
            )
        status, answer, told = await world.ask("POST", "/", data=body, headers=kind())
        assert (status, told["www-authenticate"]) == (401, 'Basic realm="handoff", charset="UTF-8"')
        assert b"<SecurityFault " in answer
        echo = envelope(f'<connectivityTest xmlns="{CDC}"><echoBack>hi</echoBack></connectivityTest>', V12)
        status, answer, _ = await world.ask("POST", "/", data=echo, headers=kind(V12))
        assert (status, inner(answer, V12)[0].text) == (200, "hi")  # anybody may try the connection
        assert len(world.kept.messages) == 1  # it is the same message each time
        assert len([notice for notice in world.kept.notices if isinstance(notice, PeerRefused)]) == 5


async def test_strangers_send_no_body_where_nothing_in_it_could_say_who_they_are() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nContent-Type: text/xml\r\n\r\n"
    callers = {"them": {"bearer": {"token": "${env:CLINIC}"}}}
    async with serving(
        SoapSpec, callers=callers, service={"namespace": "urn:a", "operations": {"put": {"message": "a"}}}
    ) as world:
        assert (await world.raw(head)).startswith(b"HTTP/1.1 401 ")
        body = envelope(f"<put xmlns='urn:a'><a>{{}}{' ' * 100_000}</a></put>")
        bearer = {"Authorization": "Bearer pass<word>"}
        assert (await world.ask("POST", "/", data=body, headers=kind() | bearer))[0] == 200


async def test_a_token_is_taken_once_and_while_it_is_new() -> None:
    now = time.time()
    async with serving(SoapSpec, "hl7", CLINIC, preset="cdc_2011") as world:

        async def send(header: str) -> str:
            _, answer, _ = await world.ask("POST", "/", data=envelope(submit(), V12, header), headers=kind(V12))
            return fault(answer, V12)[0] if b":Fault>" in answer else ""

        once = token("clinic", "pass<word>", now, b"n1", digest=True)
        assert [await send(once), await send(once)] == ["", "Sender FailedAuthentication"]
        found = await asyncio.gather(*(send(token("clinic", "pass<word>", now, b"n2", digest=True)) for _ in range(20)))
        assert sorted(found) == [""] + ["Sender FailedAuthentication"] * 19
        for late in (-400, 400):
            old = token("clinic", "pass<word>", now + late, b"n3", digest=True)
            assert await send(old) == "Sender MessageExpired"
        plain = "pass&lt;word&gt;"
        assert await send(token("clinic", plain, now - 400, b"n4")) == "Sender MessageExpired"
        assert await send(token("clinic", "pass<word>", None, b"n5", digest=True)) == "Sender InvalidSecurityToken"
        assert await send(token("clinic", "pass<word>", now, digest=True)) == "Sender InvalidSecurityToken"
        strange = token("clinic", plain).replace("<UsernameToken>", "<BinarySecurityToken/><UsernameToken>")
        assert await send(strange) == "Sender UnsupportedSecurityToken"
