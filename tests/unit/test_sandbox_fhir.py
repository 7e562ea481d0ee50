"""This module tests the practice EHR's addresses: each leads to its interaction."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from console.sandbox.record import Record
from dispatch.fhir_check import faults
from tests.unit.test_sandbox_texts import Site

JSON = {"content-type": "application/fhir+json"}
PATIENT = b'{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"0012"}]}'


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    record = Record(tmp_path / "sandbox.db")
    yield Site(record)
    record.close()


async def test_capability_statement_is_served(site: Site) -> None:
    answer = await site.ask("GET", "/fhir/metadata")
    assert answer.headers["content-type"] == "application/fhir+json"
    assert orjson.loads(answer.body)["implementation"]["url"] == "http://127.0.0.1:8090/fhir"


async def test_resource_is_written_read_and_found_by_its_addresses(site: Site) -> None:
    made = await site.ask("PUT", "/fhir/Patient?identifier=urn:mrn|0012", PATIENT, **JSON)
    assert (made.status, made.headers["etag"]) == (201, 'W/"1"')
    again = await site.ask("PUT", "/fhir/Patient?identifier=urn:mrn|0012", PATIENT, **JSON)
    assert (again.status, again.headers["etag"]) == (200, 'W/"2"')
    stale = await site.ask(
        "PUT", "/fhir/Patient/1", PATIENT.replace(b"{", b'{"id":"1",', 1), **JSON, **{"if-match": 'W/"1"'}
    )
    assert stale.status == 412
    assert faults(orjson.loads(stale.body)) == []
    first = await site.ask("GET", "/fhir/Patient/1/_history/1")
    newest = await site.ask("GET", "/fhir/Patient/1")
    assert (first.headers["etag"], newest.headers["etag"]) == ('W/"1"', 'W/"2"')
    for found in (
        await site.ask("GET", "/fhir/Patient?identifier=0012"),
        await site.ask("POST", "/fhir/Patient/_search", b"identifier=0012"),
    ):
        assert [entry["resource"]["id"] for entry in orjson.loads(found.body)["entry"]] == ["1"]


async def test_conditional_create_is_read_from_its_header(site: Site) -> None:
    header = {"if-none-exist": "identifier=urn:mrn|0012"}
    statuses = [(await site.ask("POST", "/fhir/Patient", PATIENT, **JSON, **header)).status for _ in range(2)]
    assert statuses == [201, 200]


async def test_bundle_goes_to_the_base_and_a_patch_to_its_resource(site: Site) -> None:
    entry = {"resource": orjson.loads(PATIENT), "request": {"method": "POST", "url": "Patient"}}
    bundle = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    for path in ("/fhir", "/fhir/"):
        taken = await site.ask("POST", path, bundle, **JSON)
        assert orjson.loads(taken.body)["type"] == "transaction-response"
    patch = b'[{"op":"add","path":"/active","value":true}]'
    header = {"content-type": "application/json-patch+json"}
    changed = await site.ask("PATCH", "/fhir/Patient/1", patch, **header)
    assert (changed.status, changed.headers["etag"]) == (200, 'W/"2"')
    assert (await site.ask("PATCH", "/fhir/Patient/1", patch, **JSON)).status == 415


async def test_refusals_are_operation_outcomes(site: Site) -> None:
    refused = await site.ask("POST", "/fhir/Patient", b'{"resourceType":"Patient","gender":"F"}', **JSON)
    assert refused.status == 422
    outcome = orjson.loads(refused.body)
    assert outcome["issue"][0]["expression"] == ["Patient.gender"]
    assert faults(outcome) == []


def test_record_keeps_nothing_of_a_write_that_fails(tmp_path: Path) -> None:
    record = Record(tmp_path / "sandbox.db")
    record.add("write_back", "create", ("Patient", "1", 1), {"n": 1}, identifiers=[("urn:mrn", "old")])
    with pytest.raises(Exception, match="UNIQUE"):
        record.add("write_back", "create", ("Patient", "1", 1), {"n": 2}, identifiers=[("urn:mrn", "new")])
    assert record.find("Patient", "old", None) == {"1"}
    assert record.find("Patient", "new", None) == set()
    assert [arrival.body for arrival in record.log("write_back")] == [{"n": 1}]
    record.close()
