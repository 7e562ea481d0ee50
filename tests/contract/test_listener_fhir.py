"""FHIR endpoints keep the contract: 200 and 201 mean committed, and every refusal is an OperationOutcome."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.observation import Observation
from fhir.resources.R4B.operationoutcome import OperationOutcome
from jwt.algorithms import ECAlgorithm

from broker.errors import NotAccepted
from broker.fhir.check import check
from listeners.fhir import FhirSpec
from tests.fhir_resources import resource
from tests.http_peer import World, serving

TYPE: Final = {"Content-Type": "application/fhir+json; charset=utf-8"}
PATIENT: Final = b'{"resourceType": "Patient", "id": "p1", "name": [{"family": "Okafor"}], "gender": "female"}'
MODELS: Final = {each.__name__: each for each in (Bundle, CapabilityStatement, Observation, OperationOutcome)}
FIRST: Final = "0000000000001"
SECOND: Final = "0000000000002"


async def ask(
    world: World, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, Mapping[str, str]]:
    """Send a resource; return status, what the answer holds, and headers."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    status, answer, found = await world.ask(method, f"/fhir{path}", data=data, headers={**TYPE, **headers})
    told = json.loads(answer) if answer else None
    if told is not None:
        MODELS[told["resourceType"]].model_validate(told)  # and what another reader takes
        assert found["content-type"] == "application/fhir+json"
        assert not [fault for fault in check(told) if fault.error], told  # every answer is FHIR itself
        if status >= 400:
            assert told["resourceType"] == "OperationOutcome"
            assert "Okafor" not in answer.decode()
    return status, told, found


def code(outcome: Any) -> str:
    return str(outcome["issue"][0]["code"])


async def test_a_create_is_answered_once_it_is_committed() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        world.kept.delay = 0.1
        status, told, headers = await ask(world, "POST", "/Patient", PATIENT)
        assert (status, code(told)) == (201, "informational")
        assert headers["location"] == f"/fhir/Patient/{FIRST}/_history/{FIRST}"
        assert headers["etag"] == f'W/"{FIRST}"'
        assert "GMT" in headers["last-modified"]
        assert world.kept.bodies == [PATIENT]
        assert (await ask(world, "POST", "/Patient", PATIENT))[0] == 201
        assert len(world.kept.bodies) == 2  # a create is not the same as another


async def test_what_is_answered_follows_prefer() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        assert (await ask(world, "POST", "/Patient", PATIENT, Prefer="return=minimal"))[1] is None
        body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10}}'
        _, told, _ = await ask(world, "POST", "/Observation", body, Prefer="return=representation")
        assert (told["id"], told["meta"]["versionId"], told["valueQuantity"]["value"]) == (SECOND, SECOND, 1.1)


async def test_an_update_keeps_its_id() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        status, _, headers = await ask(world, "PUT", "/Patient/p1", PATIENT)
        assert (status, headers["location"]) == (200, f"/fhir/Patient/p1/_history/{FIRST}")
        assert (await ask(world, "PUT", "/Patient/p2", PATIENT))[0] == 400
        assert (await ask(world, "PUT", "/Patient/p_1", PATIENT))[0] == 400
        assert (await ask(world, "PUT", "/Patient", PATIENT))[0] == 405
        assert (await ask(world, "PUT", "/Patient/p1", PATIENT, **{"If-Match": 'W/"3"'}))[0] == 412
        assert (await ask(world, "PUT", "/Patient/p1", PATIENT, **{"If-Match": "*"}))[0] == 200
        assert world.kept.bodies == [PATIENT, PATIENT]


async def test_conditions_go_on_with_the_resource() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        for expected in (201, 200):  # sent again, it is the same
            status, _, _ = await ask(world, "POST", "/Patient", PATIENT, **{"If-None-Exist": "identifier=urn:x|1"})
            assert status == expected
        assert (await ask(world, "PUT", "/Patient?identifier=urn:x%7C2", PATIENT))[0] == 200
        created, updated = map(json.loads, world.kept.bodies)
        assert created["entry"][0]["request"] == {
            "method": "POST",
            "url": "Patient",
            "ifNoneExist": "identifier=urn:x|1",
        }
        assert updated["entry"][0]["request"] == {"method": "PUT", "url": "Patient?identifier=urn:x%7C2"}
        assert created["entry"][0]["resource"] == json.loads(PATIENT)
        wrong = PATIENT.replace(b"female", b"Okafor")
        status, told, _ = await ask(world, "PUT", "/Patient?identifier=urn:x%7C2", wrong)
        assert (status, told["issue"][0]["expression"]) == (422, ["Patient.gender"])  # the place in what was sent
        assert PATIENT in world.kept.bodies[0]


def entry(method: str, url: str, **more: Any) -> dict[str, Any]:
    return {"resource": json.loads(PATIENT), "request": {"method": method, "url": url, **more}}


async def test_a_transaction_is_one_message_or_none() -> None:
    whole = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [entry("POST", "Patient"), entry("PUT", "Patient/p1")],
    }
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        status, told, _ = await ask(world, "POST", "", whole)
        assert (status, told["type"]) == (200, "transaction-response")
        assert [each["response"]["status"] for each in told["entry"]] == ["201 Created", "200 OK"]
        assert [each["response"]["location"] for each in told["entry"]] == [
            f"Patient/{FIRST}.1/_history/{FIRST}",
            f"Patient/p1/_history/{FIRST}",
        ]
        assert len(world.kept.bodies) == 1
        refused: tuple[dict[str, Any], ...] = (
            entry("GET", "Patient/1"),
            entry("POST", "Observation"),
            entry("PUT", "Patient/p1", ifMatch='W/"1"'),
            entry("PUT", "Patient/p1", ifNoneMatch="*"),
            {},
        )
        for bad in refused:
            status, told, _ = await ask(world, "POST", "", {**whole, "entry": [entry("POST", "Patient"), bad]})
            assert status in {400, 405, 412}
            assert told["issue"][0]["expression"] == ["Bundle.entry[1].request"]
        again = entry("PUT", "Patient?identifier=a&active=true")
        twice: tuple[tuple[str, list[dict[str, Any]]], ...] = (
            ("fullUrl", [entry("POST", "Patient") | {"fullUrl": "urn:uuid:a"} for _ in range(2)]),
            ("request.url", [entry("PUT", "Patient/p1")] * 2),
            ("request.url", [again, entry("PUT", "Patient?active=true&identifier=a")]),
        )
        for place, entries in twice:
            status, told, _ = await ask(world, "POST", "", {**whole, "entry": entries})
            assert (status, told["issue"][0]["expression"]) == (422, [f"Bundle.entry[1].{place}"])
        wrong = entry("POST", "Patient")
        wrong["resource"]["gender"] = "Okafor"
        status, told, _ = await ask(world, "POST", "", {**whole, "entry": [entry("POST", "Patient"), wrong]})
        assert (status, told["issue"][0]["expression"]) == (422, ["Bundle.entry[1].resource.gender"])
        assert len(world.kept.bodies) == 1


async def test_entries_of_a_batch_stand_for_themselves() -> None:
    wrong = entry("POST", "Patient")
    wrong["resource"]["gender"] = "Okafor"
    entries = [entry("POST", "Patient"), wrong, entry("GET", "Patient/1"), entry("PUT", "Patient?name=x")]
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        status, told, _ = await ask(world, "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": entries})
        assert (status, told["type"]) == (200, "batch-response")
        assert [each["response"]["status"][:3] for each in told["entry"]] == ["201", "422", "405", "200"]
        assert told["entry"][1]["response"]["outcome"]["issue"][0]["expression"] == ["Patient.gender"]
        assert len(world.kept.bodies) == 2
        others: tuple[Any, ...] = ({"resourceType": "Bundle", "type": "searchset"}, {"resourceType": "Patient"}, [], 1)
        for bad in others:
            assert (await ask(world, "POST", "", bad))[0] == 400


async def test_messages_are_processed_once() -> None:
    header = {
        "resourceType": "MessageHeader",
        "id": "m1",
        "eventCoding": {"system": "urn:e", "code": "admit"},
        "source": {"endpoint": "https://ehr.test"},
    }
    message = {
        "resourceType": "Bundle",
        "type": "message",
        "entry": [{"resource": header}, {"resource": json.loads(PATIENT)}],
    }
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        for _ in range(2):
            status, told, _ = await ask(world, "POST", "/$process-message", message)
            answered = told["entry"][0]["resource"]
            assert (status, told["type"], answered["response"]) == (200, "message", {"identifier": "m1", "code": "ok"})
        assert len(world.kept.bodies) == 1
        assert (await ask(world, "POST", "/$process-message?async=true", message))[:2] == (202, None)
        given = {"resourceType": "Parameters", "parameter": [{"name": "content", "resource": message}]}
        assert (await ask(world, "POST", "/$process-message", given))[0] == 200
        assert json.loads(world.kept.bodies[-1])["type"] == "message"
        for bad in (
            {**message, "type": "batch"},
            {**message, "entry": [{"resource": {**header, "id": ""}}]},
            {**message, "entry": [7]},
            {"resourceType": "Parameters"},
        ):
            assert (await ask(world, "POST", "/$process-message", bad))[0] == 400


async def test_validation_says_everything_and_keeps_nothing() -> None:
    wrong = {"resourceType": "Patient", "gender": "f", "birthDate": "yesterday"}
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        status, told, _ = await ask(world, "POST", "/Patient/$validate", wrong)
        assert (status, len(told["issue"])) == (200, 2)
        given = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": json.loads(PATIENT)}]}
        status, told, _ = await ask(world, "POST", "/$validate", given)
        assert (status, code(told)) == (200, "informational")
        assert (await ask(world, "POST", "/$validate", b"{"))[0] == 400
        assert not world.kept.bodies
        assert not world.kept.quarantined


async def test_what_is_wrong_is_told_at_its_place() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir", types=["Patient"]) as world:
        wrong = {"resourceType": "Patient", "gender": "Okafor", "birthDate": "Okafor"}
        status, told, _ = await ask(world, "POST", "/Patient", wrong)
        assert status == 422
        assert [issue["expression"] for issue in told["issue"]] == [["Patient.gender"], ["Patient.birthDate"]]
        assert world.kept.quarantined
        for method, path, body, expected in (
            ("POST", "/Patient", b'{"resourceType": "Patient", "id": "Okafor"', 400),
            ("POST", "/Patient", b'{"resourceType": "Patient", "id": "a", "id": "b"}', 400),
            ("POST", "/Patient", b"[]", 400),
            ("POST", "/Patient", {"resourceType": "Observation"}, 400),
            ("POST", "/Observation", {"resourceType": "Observation"}, 404),
            ("POST", "/Nonsense", {"resourceType": "Nonsense"}, 404),
            ("POST", "/Patient_", PATIENT, 404),
            ("POST", "/Patient/p1", PATIENT, 405),
            ("GET", "/Patient/p1", None, 405),
            ("GET", "/Patient?name=x", None, 405),
            ("DELETE", "/Patient/p1", None, 405),
            ("PATCH", "/Patient/p1", b"[]", 405),
        ):
            status, told, _ = await ask(world, method, path, body)
            assert status == expected, (method, path, body)
        assert (await ask(world, "POST", "/Patient", PATIENT, **{"Content-Type": "application/fhir+xml"}))[0] == 415
        assert (await ask(world, "POST", "/Patient", PATIENT, Accept="application/fhir+xml"))[0] == 406
        for path in ("/Patient?_format=xml", "/Patient?_format=application%2Ffhir%2Bxml"):
            assert (await ask(world, "POST", path, PATIENT))[0] == 406
        for kind in (
            "application/fhir+xml",
            "text/html, application/xml;q=0.9",
            "application/fhir+json; fhirVersion=3.0",
        ):
            assert (await ask(world, "GET", "/metadata", Accept=kind))[0] == 406
        old = {"Content-Type": "application/fhir+json; fhirVersion=3.0"}
        assert (await ask(world, "POST", "/Patient", PATIENT, **old))[0] == 415
        assert (await ask(world, "PUT", "/Patient/p1", PATIENT, **{"If-None-Match": "*"}))[0] == 412
        world.kept.refusal = NotAccepted("busy", code="AE", condition=207)
        status, told, headers = await ask(world, "POST", "/Patient", PATIENT)
        assert (status, code(told), headers["retry-after"]) == (503, "transient", "5")
        assert not world.kept.bodies


async def test_every_kind_that_is_mapped_is_taken_as_it_was_sent() -> None:
    async with serving(FhirSpec, "fhir", path="/fhir") as world:
        for kind in ("Patient", "Encounter", "Observation", "Appointment", "Immunization"):
            body = json.dumps(resource(kind)).encode()
            assert (await ask(world, "POST", f"/{kind}", body))[0] == 201
            assert world.kept.bodies[-1] == body


async def test_smart_scopes_say_what_a_token_may_do(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    jwk = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "k", "use": "sig"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    declared = {"issuer": "https://auth.test", "audience": "https://us.test/fhir", "jwks": "jwks.json"}

    def token(scope: str) -> dict[str, str]:
        claims = {"iss": "https://auth.test", "aud": "https://us.test/fhir", "exp": time.time() + 300, "scope": scope}
        return {"Authorization": "Bearer " + jwt.encode(claims, key, "ES384", headers={"kid": "k"})}

    async with serving(FhirSpec, "fhir", {"ehr": {"jwt": declared}}, tmp_path, path="/fhir") as world:
        for scope, created, updated in (
            ("system/Patient.c", 201, 403),
            ("system/Patient.cu", 201, 200),
            ("system/Patient.write", 201, 200),
            ("system/*.*", 201, 200),
            ("openid system/Observation.c system/Patient.u", 403, 200),
            ("system/Patient.rs", 403, 403),
            ("patient/Patient.cu", 403, 403),
            ("system/Patient.c?identifier=x", 403, 403),
            ("", 403, 403),
        ):
            assert (await ask(world, "POST", "/Patient", PATIENT, **token(scope)))[0] == created, scope
            assert (await ask(world, "PUT", "/Patient/p1", PATIENT, **token(scope)))[0] == updated, scope
        whole = {"resourceType": "Bundle", "type": "transaction", "entry": [entry("PUT", "Patient/p1")]}
        assert (await ask(world, "POST", "", whole, **token("system/Patient.c")))[0] == 403
        assert (await ask(world, "POST", "/Patient", PATIENT))[0] == 401
        status, told, _ = await ask(world, "GET", "/metadata")
        assert (status, told["resourceType"], told["fhirVersion"]) == (200, "CapabilityStatement", "4.0.1")
        assert told["rest"][0]["security"]
        assert {interaction["code"] for interaction in told["rest"][0]["resource"][0]["interaction"]} == {
            "create",
            "update",
        }


def test_types_are_types() -> None:
    with pytest.raises(ValueError, match="no resource type"):
        FhirSpec.model_validate({"endpoint": "127.0.0.1:0", "types": ["Patiente"]})
