"""This module tests the practice EHR against FHIR R4's RESTful API, without a socket."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.sandbox.ehr import TYPES, Answer, Ehr, Refused, capability_statement, outcome
from console.sandbox.record import Record
from dispatch.fhir_check import faults

BASE = "http://127.0.0.1:8090/fhir"


@pytest.fixture
def ehr(tmp_path: Path) -> Iterator[Ehr]:
    record = Record(tmp_path / "sandbox.db")
    yield Ehr(record)
    record.close()


def patient(value: str = "0012", system: str = "urn:mrn", **more: Any) -> bytes:
    return orjson.dumps({"resourceType": "Patient", "identifier": [{"system": system, "value": value}], **more})


def create(ehr: Ehr, body: bytes, **more: str) -> Answer:
    return ehr.create(BASE, "Patient", body, **more)


def found(ehr: Ehr, query: str) -> list[str]:
    bundle = ehr.search(BASE, "Patient", query).resource or {}
    assert bundle["type"] == "searchset"
    return [entry["resource"]["id"] for entry in bundle.get("entry", [])]


def refusal(status: int, code: str) -> Any:
    return pytest.raises(Refused, check=lambda error: (error.status, error.code) == (status, code))


def test_create_gives_id_version_and_address(ehr: Ehr) -> None:
    made = create(ehr, patient())
    assert made.status == 201
    assert made.resource
    name = made.resource["id"]
    assert made.headers["Location"] == f"{BASE}/Patient/{name}/_history/1"
    assert made.headers["ETag"] == 'W/"1"'
    assert made.resource["meta"]["versionId"] == "1"


def test_create_gives_another_each_time(ehr: Ehr) -> None:
    assert create(ehr, patient()).headers["Location"] != create(ehr, patient()).headers["Location"]


def test_conditional_create_makes_one_only(ehr: Ehr) -> None:
    search = "identifier=urn%3Amrn%7C0012"
    first = create(ehr, patient(), if_none_exist=search)
    second = create(ehr, patient(gender="female"), if_none_exist=search)
    assert (first.status, second.status) == (201, 200)
    assert second.resource == first.resource  # the second body was ignored
    assert found(ehr, search) == [(first.resource or {})["id"]]


def test_conditional_create_is_refused_when_several_match(ehr: Ehr) -> None:
    create(ehr, patient())
    create(ehr, patient())
    with refusal(412, "multiple-matches"):
        create(ehr, patient(), if_none_exist="identifier=0012")


@pytest.mark.parametrize(
    ("search", "status", "code"),
    [("_format=json", 412, "multiple-matches"), ("name=Okafor", 400, "not-supported"), ("identifier=", 400, "invalid")],
)
def test_conditional_create_is_refused_when_the_search_says_nothing(
    ehr: Ehr, search: str, status: int, code: str
) -> None:
    with refusal(status, code):
        create(ehr, patient(), if_none_exist=search)


@pytest.mark.parametrize(
    ("kind", "body", "status", "code"),
    [
        ("Patient", b"{", 400, "structure"),
        ("Patient", b"[]", 400, "invalid"),
        ("Patient", b'{"resourceType":"Task"}', 400, "invalid"),
        ("Patient", b'{"resourceType":"Patient","meta":7}', 400, "structure"),
        ("Patient", b'{"resourceType":"Patient","birthDate":"soon"}', 422, "invalid"),
        ("Patient", b'{"resourceType":"Patient","gender":"FEMALE"}', 422, "invalid"),
        ("Task", b'{"resourceType":"Task"}', 422, "invalid"),
        ("Slot", b'{"resourceType":"Slot"}', 404, "not-supported"),
    ],
)
def test_create_is_refused_when_the_resource_is_wrong(ehr: Ehr, kind: str, body: bytes, status: int, code: str) -> None:
    with refusal(status, code):
        ehr.create(BASE, kind, body)
    assert found(ehr, "") == []


def test_update_writes_the_next_version(ehr: Ehr) -> None:
    name = (create(ehr, patient()).resource or {})["id"]
    done = ehr.update(BASE, "Patient", name, patient(id=name, gender="female"), if_match='W/"1"')
    assert (done.status, done.headers["ETag"]) == (200, 'W/"2"')
    assert (ehr.read(BASE, "Patient", name).resource or {})["gender"] == "female"
    assert "gender" not in (ehr.read(BASE, "Patient", name, "1").resource or {})


@pytest.mark.parametrize("stale", ['W/"7"', '"2"', "1", "*"])
def test_update_is_refused_when_the_version_is_stale(ehr: Ehr, stale: str) -> None:
    name = (create(ehr, patient()).resource or {})["id"]
    with refusal(412, "conflict"):
        ehr.update(BASE, "Patient", name, patient(id=name), if_match=stale)
    assert ehr.read(BASE, "Patient", name).headers["ETag"] == 'W/"1"'


def test_update_is_refused_when_the_ids_differ_or_nothing_is_there(ehr: Ehr) -> None:
    with refusal(400, "invalid"):
        ehr.update(BASE, "Patient", "1", patient(id="2"))
    with refusal(405, "not-supported"):
        ehr.update(BASE, "Patient", "1", patient(id="1"))


def test_update_moves_the_identifier(ehr: Ehr) -> None:
    name = (create(ehr, patient("old")).resource or {})["id"]
    ehr.update(BASE, "Patient", name, patient("new", id=name))
    assert found(ehr, "identifier=old") == []
    assert found(ehr, "identifier=new") == [name]


def test_conditional_update_creates_updates_or_refuses(ehr: Ehr) -> None:
    search = "identifier=urn:mrn|0012"
    first = ehr.conditional_update(BASE, "Patient", search, patient())
    second = ehr.conditional_update(BASE, "Patient", search, patient(gender="male"))
    assert (first.status, second.status, second.headers["ETag"]) == (201, 200, 'W/"2"')
    with refusal(400, "invalid"):
        ehr.conditional_update(BASE, "Patient", search, patient(id="999"))
    create(ehr, patient())
    with refusal(412, "multiple-matches"):
        ehr.conditional_update(BASE, "Patient", search, patient())
    with refusal(412, "multiple-matches"):
        ehr.conditional_update(BASE, "Patient", "", patient())


def test_read_is_refused_when_there_is_none(ehr: Ehr) -> None:
    with refusal(404, "not-found"):
        ehr.read(BASE, "Patient", "7")
    name = (create(ehr, patient()).resource or {})["id"]
    with refusal(404, "not-found"):
        ehr.read(BASE, "Patient", name, "2")
    with refusal(404, "not-found"):
        ehr.read(BASE, "Patient", name, "first")


def test_search_reads_tokens(ehr: Ehr) -> None:
    one, two, three, odd = (
        (create(ehr, patient(value, system)).resource or {})["id"]
        for value, system in (("1", "a"), ("1", "b"), ("2", ""), ("x|y,z", "a"))
    )
    assert found(ehr, "identifier=1") == [one, two]
    assert found(ehr, "identifier=a%7C1") == [one]
    assert found(ehr, "identifier=%7C2") == [three]
    assert found(ehr, "identifier=a%7C") == [one, odd]
    assert found(ehr, "identifier=a%7C1,b%7C1") == [one, two]
    assert found(ehr, "identifier=1&identifier=b%7C1") == [two]
    assert found(ehr, r"identifier=a%7Cx%5C%7Cy%5C%2Cz") == [odd]
    assert found(ehr, f"_id={one},{three}") == [one, three]
    assert found(ehr, f"_id={one}&identifier=2") == []
    assert found(ehr, "identifier=a|2") == []
    with refusal(400, "invalid"):
        found(ehr, "identifier=%7C")


def test_search_gives_pages(ehr: Ehr) -> None:
    names = [(create(ehr, patient()).resource or {})["id"] for _ in range(5)]
    bundle = ehr.search(BASE, "Patient", "identifier=0012&_count=2").resource or {}
    assert bundle["total"] == 5
    seen: list[str] = []
    while True:
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        if "next" not in links:
            break
        bundle = ehr.search(BASE, "Patient", links["next"].partition("?")[2]).resource or {}
    assert seen == names


@given(st.text(max_size=40))
def test_search_answers_or_refuses_whatever_is_asked(tmp_path_factory: pytest.TempPathFactory, query: str) -> None:
    record = Record(tmp_path_factory.mktemp("sandbox") / "sandbox.db")
    try:
        status = Ehr(record).search(BASE, "Patient", query).status
    except Refused as refused:
        status = refused.status
    finally:
        record.close()
    assert status in {200, 400}


def test_capability_statement_and_outcomes_are_valid_fhir() -> None:
    statement = capability_statement(BASE)
    assert faults(statement) == []
    assert [resource["type"] for resource in statement["rest"][0]["resource"]] == list(TYPES)
    assert faults(outcome("error", "invalid", "no", ["Patient.name"])) == []
    assert faults(outcome("information", "informational", "done")) == []


def test_answers_are_valid_fhir(ehr: Ehr) -> None:
    create(ehr, patient())
    assert faults(ehr.search(BASE, "Patient", "identifier=0012").resource or {}) == []
    assert faults(ehr.search(BASE, "Patient", "identifier=none").resource or {}) == []
    assert faults(ehr.search(BASE, "Patient", "_count=0").resource or {}) == []
