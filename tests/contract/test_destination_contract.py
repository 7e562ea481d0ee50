"""This module holds every HTTP destination to one contract: which outcome follows from which misbehaviour."""

import asyncio
import atexit
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown, Via
from broker.parts import Destination, Tools
from broker.spec import DestinationSpec
from broker.tls import TlsSpec
from config.presets import every_preset
from config.systems import SystemSpec
from dispatch.fhir import FhirSpec
from dispatch.sms import SmsSpec
from dispatch.web.rendering import Frozen
from dispatch.web.spec import HttpSpec
from tests.contract.declared_gateways import GATEWAYS, declared
from tests.contract.scripted_server import (
    Behaviour,
    ScriptedServer,
    closed_port,
    endless,
    full_port,
    hang,
    hang_after_headers,
    hang_up,
    nonsense,
    reply,
    reset,
    slow,
    truncated,
)

SECRETS = ("+12025550123", "12025550123", "Okafor", "0012", "s3cret")
SID = "SM" + "0123456789abcdef" * 2
NOTHING = reply(200, b'{"resourceType":"Bundle","type":"searchset","total":0}', Content_Type="application/fhir+json")
ONE = reply(
    200,
    orjson.dumps(
        {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": 1,
            "entry": [{"resource": {"resourceType": "Patient", "id": "7", "meta": {"versionId": "3"}}}],
        }
    ),
)
TEXT = orjson.dumps({"text": "Welcome, Okafor", "to": "+12025550123"})
PATIENT = '{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"0012"}],"name":[{"family":"Okafor"}]}'


@dataclass(frozen=True)
class Kind:
    """One destination under test: ``method`` is the request that has the effect, ``good`` what success looks like."""

    spec: DestinationSpec
    request: bytes
    method: str
    good: Behaviour
    reference: str
    search: Behaviour | None = None
    repeatable: bool = False  # an attempt may be made again, so that a connection may serve many


def _fhir(**options: Any) -> FhirSpec:
    return FhirSpec.model_validate({"server": "ehr", "resource": PATIENT, "timeout": "200ms", **options})


def _written(search: str) -> bytes:
    return orjson.dumps({"resource": PATIENT, "search": search, "type": "Patient"})


def _text(gateway: str, good: Behaviour, reference: str) -> Kind:
    spec = SmsSpec.model_validate({"gateway": gateway, "to": "x", "text": "x", "timeout": "200ms"})
    return Kind(spec=spec, request=TEXT, method="POST", good=good, reference=reference)


CREATED = reply(201, Location="/fhir/Patient/7/_history/1", ETag='W/"1"')
PRESETS = every_preset(Path("channels"))
ACCOUNT = b'{"FirstName":"Okafor","MRN__c":"0012"}'


def _http(operation: str, **options: Any) -> HttpSpec:
    return HttpSpec.model_validate({"system": "crm", "operation": operation, "timeout": "200ms", **options})


def _frozen(method: str, path: str, **more: Any) -> bytes:
    return Frozen(method, path, {}, ACCOUNT, **more).packed()


BY_SEARCH = {"search": "identifier={{ patient.mrn.system }}|{{ patient.mrn.value }}"}
KINDS = {
    "sms by twilio": _text("twilio", reply(201, orjson.dumps({"sid": SID, "status": "queued"})), f"twilio/{SID}"),
    "sms by vonage-sms": _text(
        "vonage-sms", reply(200, orjson.dumps({"messages": [{"status": "0", "message-id": "0C01"}]})), "vonage-sms/0C01"
    ),
    "sms by vonage-messages": _text(
        "vonage-messages", reply(202, b'{"message_uuid":"aa-bb"}'), "vonage-messages/aa-bb"
    ),
    "sms by http": _text("http", reply(200, b'{"id":"m-1"}'), "http/m-1"),
    "fhir create": Kind(_fhir(), _written(""), "POST", CREATED, "Patient/7/_history/1"),
    "fhir create after search": Kind(
        _fhir(**BY_SEARCH), _written("identifier=urn%3Amrn%7C0012"), "POST", CREATED, "Patient/7/_history/1", NOTHING
    ),
    "fhir update": Kind(
        _fhir(**BY_SEARCH),
        _written("identifier=urn%3Amrn%7C0012"),
        "PUT",
        reply(200, ETag='W/"4"'),
        "Patient/7/_history/4",
        ONE,
    ),
    "http upsert": Kind(
        _http("upsert_patient"),
        _frozen("PATCH", "sobjects/Account/MRN__c/0012"),
        "PATCH",
        reply(201, b'{"id":"001","success":true,"errors":[],"created":true}'),
        "001",
        repeatable=True,
    ),
    "http rows": Kind(
        _http("upsert_patients"),
        _frozen("PATCH", "composite/sobjects/Account/MRN__c", around=('{"allOrNone":false,"records":', "}")),
        "PATCH",
        reply(200, b'[{"id":"001","success":true,"errors":[],"created":false}]'),
        "001",
        repeatable=True,
    ),
    "http create": Kind(
        HttpSpec.model_validate(
            {
                "system": "crm",
                "request": {"path": "notes", "body": {}, "success": {"form": "json", "references": ["id"]}},
                "timeout": "200ms",
            }
        ),
        _frozen("POST", "notes"),
        "POST",
        reply(201, b'{"id":7}'),
        "7",
    ),
    "http create after search": Kind(
        HttpSpec.model_validate(
            {
                "system": "crm",
                "request": {
                    "path": "notes",
                    "body": {},
                    "once": "search",
                    "find": {"path": "notes", "rows": "entry", "id": "resource.id"},
                    "success": {"form": "json", "references": ["id"]},
                },
                "timeout": "200ms",
            }
        ),
        _frozen("POST", "notes", find="notes?key=1"),
        "POST",
        reply(201, b'{"id":7}'),
        "7",
        reply(200, b'{"entry":[]}'),
        repeatable=True,
    ),
}


PATIENTS = Path(tempfile.mkdtemp(prefix="handoff-")) / "patients.db"  # nobody has opted out
atexit.register(shutil.rmtree, PATIENTS.parent, ignore_errors=True)


def tools(base: str, tls: TlsSpec | None = None) -> Tools:
    settings = SimpleNamespace(
        gateways={kind: declared(kind, base).model_copy(update={"tls": tls}) for kind in GATEWAYS},
        patients=f"sqlite:///{PATIENTS}",
        servers={"ehr": SimpleNamespace(base=f"{base}/fhir", token="s3cret", tls=tls)},
        systems={
            "crm": SystemSpec.model_validate(
                {"base": f"{base}/api", "tls": tls, "auth": {"bearer": {"token": "${env:T}"}}}
            )
        },
    )
    settings.systems["crm"].auth.bearer.token.reveal({"T": "s3cret"})
    nothing = cast("Any", None)
    return Tools(
        channel="adt",
        intake=nothing,
        notify=lambda _: None,
        settings=settings,
        presets={"crm": PRESETS["salesforce"]},
    )


def delivery(request: bytes, attempt: int = 1) -> Delivery:
    return Delivery(id=1, route=1, key="k" * 32, request=request, attempt=attempt)


@dataclass
class Rig:
    kind: Kind
    server: ScriptedServer
    destination: Destination

    async def attempt(self, number: int = 1) -> Outcome:
        async with asyncio.timeout(5):
            (outcome,) = await self.destination.send([delivery(self.kind.request, number)])
        return outcome

    async def meets(self, *behaviours: Behaviour) -> Outcome:
        self.server.on(self.kind.method, *behaviours)
        if self.kind.search:
            self.server.on("GET", self.kind.search)
        return await self.attempt()

    def writes(self) -> list[tuple[str, bytes]]:
        return [(r.target, r.body) for r in self.server.requests if r.method == self.kind.method]


@pytest.fixture(params=list(KINDS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    kind = KINDS[request.param]
    server = ScriptedServer()
    await server.start()
    destination = kind.spec.build(tools(server.base))
    await destination.open()
    yield Rig(kind, server, destination)
    await destination.close()
    await server.stop()


async def test_success_names_what_was_made(rig: Rig) -> None:
    outcome = await rig.meets(rig.kind.good)
    assert isinstance(outcome, Delivered)
    assert outcome.reference == rig.kind.reference
    assert len(rig.writes()) == 1


@pytest.mark.parametrize("behaviour", [None, reply(422), reply(429), hang], ids=["good", "422", "429", "hangs"])
async def test_outcome_says_whom_it_reached_whatever_it_is(rig: Rig, behaviour: Behaviour | None) -> None:
    outcome = await rig.meets(behaviour or rig.kind.good)
    assert outcome.via == Via(rig.server.base.removeprefix("http://"))


UNKNOWN: dict[str, Behaviour] = {
    "hangs": hang,
    "hangs after headers": hang_after_headers,
    "answers too late": slow(1.0, reply(201)),
    "resets": reset,
    "hangs up": hang_up,
    "truncates": truncated,
    "talks nonsense": nonsense,
    "never stops": endless,
    "500": reply(500),
    "502": reply(502, b"<html>Bad gateway</html>"),
    "504": reply(504),
    "2xx with a page in it": reply(200, b"<html>Log in to the hospital's guest network</html>"),
}


@pytest.mark.parametrize("misbehaviour", list(UNKNOWN))
async def test_outcome_is_unknown_when_the_request_may_have_taken_effect(rig: Rig, misbehaviour: str) -> None:
    outcome = await rig.meets(UNKNOWN[misbehaviour])
    assert isinstance(outcome, Unknown), outcome
    assert len(rig.writes()) <= (2 if rig.kind.method == "PUT" else 1)  # an update is the same if it is done again


@pytest.mark.parametrize("status", [408, 425, 429, 503])
async def test_outcome_is_retry_when_the_other_side_asks_for_later(rig: Rig, status: int) -> None:
    outcome = await rig.meets(reply(status, b"", Retry_After="7"))
    assert isinstance(outcome, Retry), outcome
    assert outcome.after == 7.0


async def test_retry_after_is_read_when_it_is_a_date(rig: Rig) -> None:
    outcome = await rig.meets(reply(429, b"", Retry_After=formatdate(time.time() + 90, usegmt=True)))
    assert isinstance(outcome, Retry)
    assert outcome.after is not None
    assert 60 < outcome.after <= 90


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 405, 410, 413, 415, 422, 501])
async def test_outcome_is_rejected_when_the_same_bytes_cannot_work(rig: Rig, status: int) -> None:
    outcome = await rig.meets(reply(status, b"", Location="http://127.0.0.1:1/elsewhere"))
    assert isinstance(outcome, Rejected), outcome
    assert str(status) in outcome.reason
    assert len(rig.writes()) == 1  # a redirect is not followed


async def test_outcome_is_retry_when_the_port_is_closed(rig: Rig) -> None:
    destination = rig.kind.spec.build(tools(f"http://127.0.0.1:{closed_port()}"))
    await destination.open()
    (outcome,) = await destination.send([delivery(rig.kind.request)])
    await destination.close()
    assert outcome.via is None  # nobody was reached
    assert isinstance(outcome, Retry)
    assert "refused" in outcome.reason


async def test_outcome_is_retry_when_the_name_cannot_be_resolved(rig: Rig) -> None:
    destination = rig.kind.spec.build(tools("http://gateway.invalid"))
    await destination.open()
    (outcome,) = await destination.send([delivery(rig.kind.request)])
    await destination.close()
    assert isinstance(outcome, Retry)


async def test_outcome_is_retry_when_tls_cannot_be_set_up(rig: Rig) -> None:
    rig.server.on(rig.kind.method, rig.kind.good)
    destination = rig.kind.spec.build(tools(rig.server.base.replace("http:", "https:")))
    await destination.open()
    (outcome,) = await destination.send([delivery(rig.kind.request)])
    await destination.close()
    assert isinstance(outcome, Retry), outcome
    assert not rig.server.requests


async def test_outcome_is_retry_when_nobody_takes_the_connection(rig: Rig) -> None:
    with full_port() as port:
        destination = rig.kind.spec.build(tools(f"http://127.0.0.1:{port}"))
        await destination.open()
        (outcome,) = await destination.send([delivery(rig.kind.request)])
        await destination.close()
    assert isinstance(outcome, Retry), outcome
    assert "time allowed" in outcome.reason


@pytest.mark.parametrize("first", [reset, hang, reply(503), reply(500), reply(429)])
async def test_second_attempt_sends_the_same_bytes(rig: Rig, first: Behaviour) -> None:
    outcome = await rig.meets(first)
    assert isinstance(outcome, Retry | Unknown)
    rig.server.on(rig.kind.method, rig.kind.good)
    assert isinstance(await rig.attempt(2), Delivered)
    assert len(set(rig.writes())) == 1
    assert len(rig.writes()) >= 2


EVERYTHING: list[Callable[[asyncio.StreamWriter], Awaitable[None]]] = [
    *UNKNOWN.values(),
    *(reply(status, b'{"code":21211,"message":"Invalid number +12025550123"}') for status in (400, 401, 429, 500)),
    reply(
        422,
        orjson.dumps(
            {
                "resourceType": "OperationOutcome",
                "issue": [
                    {
                        "severity": "error",
                        "code": "value",
                        "diagnostics": "Okafor with 0012 is wrong",
                        "expression": ["Patient.name.where(family='Okafor')"],
                    }
                ],
            }
        ),
    ),
]


async def test_reasons_hold_no_data_and_no_query_whatever_happens(rig: Rig) -> None:
    for behaviour in EVERYTHING:
        outcome = await rig.meets(behaviour)
        assert not isinstance(outcome, Delivered)
        shown = repr(outcome)
        assert not [secret for secret in SECRETS if secret in shown]
        assert "http://" not in shown
        assert "?" not in outcome.reason


async def test_connection_serves_once_unless_an_attempt_can_be_repeated(rig: Rig) -> None:
    """A peer may close an idle connection just when the next request is on its way; then nobody knows."""
    rig.server.on(rig.kind.method, rig.kind.good)
    if rig.kind.search:
        rig.server.on("GET", rig.kind.search)
    # Thirty at once are slow together on a machine that has much else to do; this is not about how long one may take.
    patient = rig.kind.spec.model_copy(update={"timeout": 20.0}).build(tools(rig.server.base))
    await patient.open()
    sent = await asyncio.gather(*(patient.send([delivery(rig.kind.request)]) for _ in range(30)))
    await patient.close()
    outcomes = [outcome for (outcome,) in sent]
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    if rig.kind.search or rig.kind.repeatable:
        assert rig.server.connections <= 8
    else:
        assert rig.server.connections == 30
