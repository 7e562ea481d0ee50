"""This module shows that requests over HTTP become patients, and that a kill breaks no promise of an answer."""

import json
import signal
import socket
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from broker.ids import show
from tests.fhir_resources import resource
from tests.functional.running import ROOT, Running
from tests.ports import free_port

CHANNEL: Final = """\
channel: portal
listen:
  http: {{endpoint: "127.0.0.1:{port}", path: /portal, callers: [portal]}}
format: json
index: {{mrn: message.mrn}}
steps:
  - canonical:
      kind: patient.updated
      patient: {{mrn: message.mrn, family: message.family}}
deliver:
  patient-store:
    prm: {{}}
"""
LOOKUP: Final = """\
channel: lookup
listen:
  http:
    endpoint: "127.0.0.1:{port}"
    path: /lookup
    callers: [portal]
    answer: {{from: deliver.reply, status: 200}}
format: json
steps:
  - filter: message.kind == 'lookup'
  - canonical:
      kind: patient.updated
      patient: {{mrn: message.mrn, family: message.family}}
deliver:
  patient-store:
    prm: {{}}
  reply:
    after: patient-store
    answer: '{{"mrn": {{{{ patient.mrn.value }}}}, "family": {{{{ patient.family }}}}}}'
"""
ORDERS: Final = """\
channel: orders
listen:
  http: {{endpoint: "127.0.0.1:{port}", path: /orders, callers: [portal]}}
deliver:
  patient-store:
    prm: {{}}
"""
DEVICE: Final = """\
channel: device
listen:
  tcp: {{endpoint: "127.0.0.1:{port}", framing: {{length: {{size: 4}}}}, accepted: "\\x06", refused: "\\x15"}}
deliver:
  patient-store:
    prm: {{}}
"""
CALLERS: Final = "\ncallers:\n  portal: {bearer: {token: '${env:PORTAL_TOKEN}'}}\n"


def prepare(folder: Path) -> tuple[Running, str]:
    engine, port = Running(folder), free_port()
    (folder / "channels" / "portal.yaml").write_text(CHANNEL.format(port=port))
    (folder / "channels" / "lookup.yaml").write_text(LOOKUP.format(port=port))
    settings = folder / "handoff.yaml"
    settings.write_text(settings.read_text() + CALLERS)
    engine.environment["PORTAL_TOKEN"] = "sesame"
    return engine, f"http://127.0.0.1:{port}/portal"


def post(url: str, body: Any, **headers: str) -> tuple[int, Any]:
    given = {"Authorization": "Bearer sesame", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), given)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_requests_become_patients_once_each(tmp_path: Path) -> None:
    engine, url = prepare(tmp_path)
    with engine:
        status, told = post(url, {"mrn": "17", "family": "Okafor"}, **{"Idempotency-Key": "a"})
        assert (status, told["duplicate"]) == (202, False)
        assert post(url, {"mrn": "17", "family": "Okafor"}, **{"Idempotency-Key": "a"}) == (
            202,
            {"message": told["message"], "duplicate": True},
        )
        assert post(url, {"mrn": "18"}, Authorization="Bearer guess")[0] == 401
        _see_answers(url.replace("/portal", "/lookup"))
        until = time.monotonic() + 20
        while (found := engine.read("messages", "--index", "mrn=17")["messages"])[0]["state"] == "received":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert [(row["state"], row["id"]) for row in found] == [("processed", told["message"])]
        log = engine.log.read_text()
        assert "Okafor" not in log
        assert "sesame" not in log
        assert "nobody knows this caller" in log


def _see_answers(url: str) -> None:
    """See that an answer from a delivery is its text, the same each time, and says what kept it from being."""
    asked = {"kind": "lookup", "mrn": "0019", "family": 'O"Neil'}
    for _ in range(2):
        assert post(url, asked, **{"Idempotency-Key": "q"}) == (200, {"mrn": "0019", "family": 'O"Neil'})
    assert post(url, {"kind": "other"}) == (204, None)
    status, told = post(url, {"kind": "lookup", "family": "Okafor"})
    assert (status, "the steps ended as failed: " in told["detail"]) == (422, True)
    assert "Okafor" not in str(told)


def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    engine, url = prepare(tmp_path)
    with engine:
        answered = [post(url, {"mrn": str(number), "family": "F"})[1]["message"] for number in range(50)]
        engine.stop(signal.SIGKILL)
    with closing(sqlite3.connect(tmp_path / "var" / "handoff.db")) as store:
        kept = {show(row[0]) for row in store.execute("SELECT id FROM message")}
    assert set(answered) <= kept


FHIR: Final = """\
channel: ehr-fhir
listen:
  fhir: {{endpoint: "127.0.0.1:{port}", path: /fhir}}
format: fhir
steps:
  - canonical: {{}}
deliver:
  patient-store:
    prm: {{}}
"""


def test_fhir_resources_become_patients_and_invalid_ones_outcomes(tmp_path: Path) -> None:
    engine, port = Running(tmp_path), free_port()
    (tmp_path / "channels" / "ehr-fhir.yaml").write_text(FHIR.format(port=port))
    kind = {"Content-Type": "application/fhir+json"}
    with engine:
        base = f"http://127.0.0.1:{port}/fhir"
        assert post(f"{base}/Patient", resource("Patient"), **kind)[0] == 201
        entries = [
            {"resource": resource("Patient"), "request": {"method": "POST", "url": "Patient"}},
            {"resource": {"resourceType": "Patient", "gender": "x"}, "request": {"method": "POST", "url": "Patient"}},
        ]
        status, told = post(base, {"resourceType": "Bundle", "type": "batch", "entry": entries}, **kind)
        assert (status, [each["response"]["status"][:3] for each in told["entry"]]) == (200, ["201", "422"])
        status, told = post(base, {"resourceType": "Bundle", "type": "transaction", "entry": entries[:1]}, **kind)
        assert (status, told["type"]) == (200, "transaction-response")
        until = time.monotonic() + 20
        while len(engine.read("messages", "--channel", "ehr-fhir", "--state", "processed")["messages"]) < 3:
            assert time.monotonic() < until, engine.log.read_text()
            time.sleep(0.1)


def test_second_message_of_a_body_is_never_lost_in_the_first(tmp_path: Path) -> None:
    """One answer is for one message: whoever sends two at once is told so, and keeps both."""
    engine, url = prepare(tmp_path)
    device = free_port()
    (tmp_path / "channels" / "orders.yaml").write_text(ORDERS.format(port=url.rpartition(":")[2].partition("/")[0]))
    (tmp_path / "channels" / "device.yaml").write_text(DEVICE.format(port=device))
    message = (
        (ROOT / "channels" / "messages" / "adt_a08.hl7").read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    )
    headers = {"Authorization": "Bearer sesame", "Content-Type": "application/hl7-v2"}
    with engine:
        request = urllib.request.Request(url.replace("/portal", "/orders"), message * 2, headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        with refused.value as error:
            assert (error.code, "another message stands behind" in json.loads(error.read())["detail"]) == (400, True)
        with socket.create_connection(("127.0.0.1", device), 20) as peer:
            for body, answer in ((message * 2, b"\x15"), (message, b"\x06")):
                peer.sendall(len(body).to_bytes(4) + body)
                assert peer.recv(1) == answer
        assert len(engine.read("messages")["messages"]) == 1
        assert len(engine.read("quarantine")["quarantine"]) == 2
