"""The practice EHR takes transactions and batches, and JSON Patches, as FHIR R4 says."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from console.sandbox.bundle import Bundles
from console.sandbox.ehr import Ehr, Refused
from console.sandbox.json_patch import PatchError, apply
from console.sandbox.record import Record
from dispatch.fhir_check import faults

BASE = "http://127.0.0.1:8090/fhir"
PATIENT = {"resourceType": "Patient", "identifier": [{"system": "urn:mrn", "value": "0012"}]}
ENCOUNTER = {
    "resourceType": "Encounter",
    "identifier": [{"system": "urn:visit", "value": "V1"}],
    "status": "planned",
    "class": {"code": "AMB"},
    "subject": {"reference": "urn:uuid:1"},
}


class Practice:
    def __init__(self, record: Record) -> None:
        self.record = record
        self.ehr = Ehr(record)
        self.bundles = Bundles(self.ehr, record)

    def take(self, *entries: Any, kind: str = "transaction") -> list[dict[str, Any]]:
        body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)})
        answer = self.bundles.take(BASE, body, request_id="k")
        assert answer.status == 200
        assert answer.resource
        assert answer.resource["type"] == f"{kind}-response"
        assert faults(answer.resource) == []
        return [entry["response"] for entry in answer.resource.get("entry", [])]

    def kept(self) -> list[tuple[str, str, int]]:
        return [(one.type, one.id, one.version) for one in self.record.log("write_back")]


@pytest.fixture
def practice(tmp_path: Path) -> Iterator[Practice]:
    record = Record(tmp_path / "sandbox.db")
    yield Practice(record)
    record.close()


def entry(resource: dict[str, Any], method: str, url: str, full_url: str = "", **request: str) -> dict[str, Any]:
    named = {"fullUrl": full_url} if full_url else {}
    return {**named, "resource": resource, "request": {"method": method, "url": url, **request}}


def refusal(status: int, code: str, place: str = "") -> Any:
    def fits(error: Refused) -> bool:
        return (error.status, error.code) == (status, code) and (not place or error.places == (place,))

    return pytest.raises(Refused, check=fits)


# ------------------------------------------------------------------------------------------------------- transactions


def test_transaction_links_what_it_writes_also_forwards(practice: Practice) -> None:
    visit = entry(ENCOUNTER, "PUT", "Encounter?identifier=urn:visit|V1", "urn:uuid:2")
    who = entry(PATIENT, "PUT", "Patient?identifier=urn:mrn|0012", "urn:uuid:1")
    told = practice.take(visit, who)
    assert [one["status"] for one in told] == ["201 Created", "201 Created"]
    kind, name, _ = told[1]["location"].split("/")[:3]
    kept = practice.record.get("Encounter", told[0]["location"].split("/")[1])
    assert kept
    assert kept.body["subject"] == {"reference": f"{kind}/{name}"}


def test_transaction_that_comes_again_writes_the_same_again(practice: Practice) -> None:
    entries = (
        entry(PATIENT, "PUT", "Patient?identifier=urn:mrn|0012", "urn:uuid:1"),
        entry(ENCOUNTER, "POST", "Encounter", "urn:uuid:2", ifNoneExist="identifier=urn:visit|V1"),
    )
    first, second = practice.take(*entries), practice.take(*entries)
    assert [one["status"] for one in second] == ["200 OK", "200 OK"]
    assert second[1]["location"] == first[1]["location"]  # what was there was kept
    assert second[0]["etag"] == 'W/"2"'
    assert len(practice.record.ids("Patient")) == len(practice.record.ids("Encounter")) == 1


def test_transaction_updates_by_id_and_version(practice: Practice) -> None:
    (made,) = practice.take(entry(PATIENT, "POST", "Patient"))
    name = made["location"].split("/")[1]
    changed = {**PATIENT, "id": name, "active": True}
    (told,) = practice.take(entry(changed, "PUT", f"Patient/{name}", ifMatch='W/"1"'))
    assert told["etag"] == 'W/"2"'
    with refusal(412, "conflict", "Bundle.entry[0]"):
        practice.take(entry(changed, "PUT", f"Patient/{name}", ifMatch='W/"1"'))


def test_transaction_is_all_or_nothing(practice: Practice) -> None:
    wrong = {**ENCOUNTER, "status": "never"}
    with refusal(422, "invalid", "Bundle.entry[1].resource.status"):
        practice.take(entry(PATIENT, "POST", "Patient"), entry(wrong, "POST", "Encounter"))
    assert practice.kept() == []
    practice.take(entry(PATIENT, "POST", "Patient"))
    assert len(practice.kept()) == 1


def test_transaction_may_not_write_one_resource_twice(practice: Practice) -> None:
    practice.take(entry(PATIENT, "POST", "Patient"))
    same = entry(PATIENT, "PUT", "Patient?identifier=urn:mrn|0012")
    with refusal(400, "invalid"):
        practice.take(same, same)


def test_transaction_is_refused_where_a_search_matches_several(practice: Practice) -> None:
    practice.take(entry(PATIENT, "POST", "Patient"), entry(PATIENT, "POST", "Patient"))
    with refusal(412, "multiple-matches", "Bundle.entry[0]"):
        practice.take(entry(PATIENT, "PUT", "Patient?identifier=urn:mrn|0012"))
    with refusal(400, "not-supported", "Bundle.entry[0]"):
        practice.take(entry(PATIENT, "PUT", "Patient?name=x"))


def test_empty_transaction_is_done_at_once(practice: Practice) -> None:
    assert practice.take() == []


# ------------------------------------------------------------------------------------------------------------- batches


def test_batch_tells_of_each_entry(practice: Practice) -> None:
    told = practice.take(
        entry(PATIENT, "POST", "Patient"), entry({**PATIENT, "gender": "F"}, "POST", "Patient"), kind="batch"
    )
    assert [one["status"] for one in told] == ["201 Created", "422"]
    assert told[1]["outcome"]["issue"][0]["code"] == "invalid"
    assert len(practice.kept()) == 1


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "structure"),
        (b"[]", "invalid"),
        (b'{"resourceType":"Patient"}', "invalid"),
        (b'{"resourceType":"Bundle","type":"collection"}', "invalid"),
        (b'{"resourceType":"Bundle","type":"batch","entry":7}', "structure"),
        (b'{"resourceType":"Bundle","type":"batch","entry":[7]}', "required"),
        (b'{"resourceType":"Bundle","type":"batch","entry":[{"resource":{}}]}', "required"),
    ],
)
def test_what_is_no_bundle_to_do_is_refused(practice: Practice, body: bytes, code: str) -> None:
    with refusal(400, code):
        practice.bundles.take(BASE, body)


@pytest.mark.parametrize(("method", "url"), [("DELETE", "Patient/1"), ("PUT", "Patient"), ("POST", "Patient/1")])
def test_what_the_server_does_not_do_is_refused_with_its_place(practice: Practice, method: str, url: str) -> None:
    with refusal(400, "not-supported", "Bundle.entry[0].request"):
        practice.take(entry(PATIENT, method, url))


# ------------------------------------------------------------------------------------------------------------- patches


def patched(practice: Practice, *operations: dict[str, Any], if_match: str = "") -> Any:
    name = practice.record.ids("Patient")[0]
    return practice.ehr.patch(BASE, "Patient", name, orjson.dumps(operations), if_match=if_match)


def test_patch_makes_the_next_version(practice: Practice) -> None:
    practice.take(entry(PATIENT, "POST", "Patient"))
    answer = patched(practice, {"op": "add", "path": "/active", "value": True}, if_match='W/"1"')
    assert (answer.status, answer.headers["ETag"]) == (200, 'W/"2"')
    assert answer.resource["active"] is True


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [
        ({"op": "replace", "path": "/gender", "value": "male"}, 422, "processing"),
        ({"op": "test", "path": "/active", "value": True}, 422, "processing"),
        ({"op": "add", "path": "/gender", "value": "F"}, 422, "invalid"),
        ({"op": "replace", "path": "/id", "value": "x"}, 422, "business-rule"),
        ({"op": "jump", "path": "/id"}, 400, "invalid"),
    ],
)
def test_patch_that_cannot_be_applied_changes_nothing(
    practice: Practice, operation: dict[str, Any], status: int, code: str
) -> None:
    practice.take(entry(PATIENT, "POST", "Patient"))
    with refusal(status, code):
        patched(practice, {"op": "add", "path": "/active", "value": False}, operation)
    assert len(practice.kept()) == 1


def test_patch_of_a_stale_version_is_refused(practice: Practice) -> None:
    practice.take(entry(PATIENT, "POST", "Patient"))
    with refusal(412, "conflict"):
        patched(practice, {"op": "add", "path": "/active", "value": True}, if_match='W/"7"')


@pytest.mark.parametrize(
    ("patch", "after"),
    [  # the examples of RFC 6902, appendix A, that hold no null
        ([{"op": "add", "path": "/b", "value": 2}], {"a": [1, 2], "c": {"d/e": 1}, "b": 2}),
        ([{"op": "add", "path": "/a/1", "value": 9}], {"a": [1, 9, 2], "c": {"d/e": 1}}),
        ([{"op": "add", "path": "/a/-", "value": [9]}], {"a": [1, 2, [9]], "c": {"d/e": 1}}),
        ([{"op": "remove", "path": "/a/0"}], {"a": [2], "c": {"d/e": 1}}),
        ([{"op": "remove", "path": "/c/d~1e"}], {"a": [1, 2], "c": {}}),
        ([{"op": "replace", "path": "/a/0", "value": 7}], {"a": [7, 2], "c": {"d/e": 1}}),
        ([{"op": "move", "from": "/c/d~1e", "path": "/a/-"}], {"a": [1, 2, 1], "c": {}}),
        ([{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1, 2], "c": {"d/e": 1}, "b": [1, 2]}),
        ([{"op": "test", "path": "/a", "value": [1, 2]}], {"a": [1, 2], "c": {"d/e": 1}}),
    ],
)
def test_operations_of_rfc_6902(patch: list[dict[str, Any]], after: dict[str, Any]) -> None:
    before = {"a": [1, 2], "c": {"d/e": 1}}
    assert apply(before, patch) == after
    assert before == {"a": [1, 2], "c": {"d/e": 1}}


@pytest.mark.parametrize("path", ["/a/3", "/a/01", "/a/x", "/z/y", "/a/0/b"])
def test_place_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(PatchError, match=r"^operation 1 \(add\) cannot be applied$"):
        apply({"a": [1, 2]}, [{"op": "add", "path": path, "value": 1}])
