"""This module runs the sandbox as a real process, and sends to it through the real destinations."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.request import urlopen

import orjson
import pytest

from broker.delivery import Delivered, Delivery, Rejected, Retry, Suppressed
from broker.parts import Destination, Tools
from broker.spec import DestinationSpec
from config.gateways import TwilioSpec
from dispatch.fhir import FhirSpec
from dispatch.sms import SmsSpec

ROOT = Path(__file__).parents[2]
ACCOUNT = "AC" + "0" * 32


def command(endpoint: str, data: Path) -> list[str]:
    return [sys.executable, "-m", "console.sandbox", endpoint, str(data)]


@contextmanager
def sandbox(data: Path, stop: signal.Signals | None = signal.SIGTERM) -> Iterator[str]:
    """Run the sandbox; yield its address. Without ``stop`` its stdin is closed instead."""
    process = subprocess.Popen(
        command("127.0.0.1:0", data), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
        if stop is None:
            process.stdin.close()
        else:
            process.send_signal(stop)
        assert process.wait(10) == (-signal.SIGKILL if stop == signal.SIGKILL else 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdin.close()
        process.stdout.close()


def log(address: str) -> dict[str, list[dict[str, Any]]]:
    with urlopen(f"{address}/log", timeout=10) as answer:
        return cast("dict[str, list[dict[str, Any]]]", orjson.loads(answer.read()))


@asynccontextmanager
async def opened(spec: DestinationSpec, address: str) -> AsyncIterator[Destination]:
    folder = await asyncio.to_thread(tempfile.mkdtemp)
    declared = {"base": address, "account": ACCOUNT, "token": "${env:X:-sandbox}", "from": "+12025550100"}
    gateway = TwilioSpec.model_validate_json(orjson.dumps(declared), strict=True)
    settings = SimpleNamespace(
        gateways={"twilio": gateway},
        patients=f"sqlite:///{folder}/patients.db",
        servers={"ehr": SimpleNamespace(base=f"{address}/fhir")},
    )
    nothing = cast("Any", None)
    destination = spec.build(Tools(channel="adt", intake=nothing, notify=lambda _: None, settings=settings))
    await destination.open()
    try:
        yield destination
    finally:
        await destination.close()
        await asyncio.to_thread(shutil.rmtree, folder)


def sms() -> SmsSpec:
    return SmsSpec.model_validate({"gateway": "twilio", "to": "x", "text": "x"})


def fhir(**options: Any) -> FhirSpec:
    return FhirSpec.model_validate({"server": "ehr", "resource": "x", "search": "identifier=x", **options})


def text(to: str) -> Delivery:
    return Delivery(id=1, route=1, key="k1", request=orjson.dumps({"text": "Welcome, Ada ö", "to": to}))


def patient(value: str, gender: str = "female", kind: str = "Patient", *, search: bool = True) -> Delivery:
    resource = (
        f'{{"resourceType":"{kind}","identifier":[{{"system":"urn:mrn","value":"{value}"}}],"gender":"{gender}"}}'
    )
    query = f"identifier=urn%3Amrn%7C{value}" if search else ""
    return Delivery(
        id=2, route=2, key="k2", request=orjson.dumps({"resource": resource, "search": query, "type": kind})
    )


async def test_what_arrived_is_still_there_after_a_kill(tmp_path: Path) -> None:
    with sandbox(tmp_path, signal.SIGKILL) as address:
        async with opened(sms(), address) as gateway, opened(fhir(), address) as ehr:
            (sent,) = await gateway.send([text("+12025550123")])
            (written,) = await ehr.send([patient("0012")])
        assert isinstance(sent, Delivered)
        assert isinstance(written, Delivered)
        before = log(address)
    with sandbox(tmp_path) as address:
        assert log(address) == before
    (arrived,) = before["texts"]
    assert f"twilio/{arrived['id']}" == sent.reference
    assert (arrived["to"], arrived["body"]) == ("+12025550123", "Welcome, Ada ö")
    (write,) = before["write_backs"]
    assert written.reference == f"Patient/{write['id']}/_history/1"
    assert write["request_id"] == "k2"


async def test_write_back_is_found_again_and_updated(tmp_path: Path) -> None:
    with sandbox(tmp_path) as address:
        async with opened(fhir(), address) as ehr, opened(fhir(on_match="keep"), address) as keeper:
            (first,) = await ehr.send([patient("0012")])
            (second,) = await ehr.send([patient("0012", "male")])
            (kept,) = await keeper.send([patient("0012", "other")])
        writes = log(address)["write_backs"]
    assert isinstance(first, Delivered)
    assert isinstance(second, Delivered)
    assert first.reference.replace("/_history/1", "/_history/2") == second.reference
    assert kept == Delivered(reference=second.reference)
    assert [(write["verb"], write["body"]["gender"]) for write in writes] == [("create", "female"), ("update", "male")]


async def test_write_backs_at_the_same_time_make_one_resource(tmp_path: Path) -> None:
    with sandbox(tmp_path) as address:
        async with opened(fhir(), address) as ehr:
            outcomes = await asyncio.gather(*(ehr.send([patient("0012")]) for _ in range(12)))
        writes = log(address)["write_backs"]
    assert all(isinstance(outcome, Delivered) for (outcome,) in outcomes)
    assert len({write["id"] for write in writes}) == 1
    assert [write["version"] for write in writes] == list(range(1, 13))


async def test_write_backs_of_two_engines_make_one_resource(tmp_path: Path) -> None:
    with sandbox(tmp_path) as address:
        async with opened(fhir(), address) as one, opened(fhir(), address) as other:
            outcomes = await asyncio.gather(*(ehr.send([patient("0012")]) for _ in range(6) for ehr in (one, other)))
        writes = log(address)["write_backs"]
    assert not [outcome for (outcome,) in outcomes if not isinstance(outcome, Delivered | Retry)]
    assert len({write["id"] for write in writes}) == 1


async def test_write_back_is_rejected_when_several_match(tmp_path: Path) -> None:
    with sandbox(tmp_path) as address:
        async with opened(fhir(search=None), address) as careless, opened(fhir(), address) as ehr:
            for _ in range(2):
                await careless.send([patient("0012", search=False)])
            (outcome,) = await ehr.send([patient("0012")])
    assert isinstance(outcome, Rejected)
    assert "several match" in outcome.reason


async def test_refusals_arrive_as_reasons_without_data(tmp_path: Path) -> None:
    with sandbox(tmp_path) as address:
        async with opened(sms(), address) as gateway, opened(fhir(search=None), address) as ehr:
            (opted_out,) = await gateway.send([text("+15005550004")])
            (invalid,) = await ehr.send([patient("0012", gender="unclear", search=False)])
            (unsupported,) = await ehr.send([patient("0012", kind="Slot", search=False)])
        assert log(address) == {"texts": [], "write_backs": []}
    assert isinstance(opted_out, Suppressed)
    assert opted_out.reason == "HTTP 400 from gateway twilio (code 21610): the recipient has opted out"
    assert isinstance(invalid, Rejected)
    assert (invalid.reason, invalid.location) == ("HTTP 422 from server ehr (invalid)", "Patient.gender")
    assert isinstance(unsupported, Rejected)
    assert unsupported.reason == "HTTP 404 from server ehr (not-supported)"


def test_sandbox_stops_when_its_parent_lets_go(tmp_path: Path) -> None:
    with sandbox(tmp_path, stop=None) as address:
        assert log(address) == {"texts": [], "write_backs": []}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_stops_cleanly_when_told(tmp_path: Path, stop: signal.Signals) -> None:
    with sandbox(tmp_path, stop) as address:
        assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("endpoint", ["0.0.0.0:0", "192.0.2.1:80", "example.org:80", "nonsense", "127.0.0.1:x"])
def test_sandbox_refuses_anything_but_loopback(tmp_path: Path, endpoint: str) -> None:
    done = subprocess.run(
        command(endpoint, tmp_path),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "127.0.0.1:8090" in done.stderr


def test_sandbox_refuses_a_taken_port_and_a_file_that_is_none(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            command(endpoint, tmp_path),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 3
    assert f"cannot listen on {endpoint} ({os.strerror(98)})" in done.stderr
    (tmp_path / "sandbox.db").write_bytes(b"not a database" * 1000)
    done = subprocess.run(
        command("127.0.0.1:0", tmp_path),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 3
    assert "sandbox.db cannot be used" in done.stderr
