"""This module tests FHIR write-backs: what is rendered, checked and frozen, and what servers' answers mean."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from pydantic import ValidationError

from broker.canonical.model import Event, Identifier, Patient, Source
from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError
from broker.message import Document
from dispatch.fhir import FhirSpec
from dispatch.fhir_answer import Match, classed, named, read_matches
from dispatch.fhir_check import faults, read_resource
from dispatch.fhir_server import find_server
from dispatch.http import Answer
from transforms.template import compile_template

DATA = Path(__file__).parents[2] / "../shared/data/fhir"
KIT = SimpleNamespace(template=compile_template)
PATIENT = (
    '{"resourceType": "Patient", "gender": {{ patient.sex }}, "birthDate": {{ patient.birth_date }},'
    ' "identifier": [{"system": {{ patient.mrn.system }}, "value": {{ patient.mrn.value }}}]}'
)
SEARCH = "identifier={{ patient.mrn.system }}|{{ patient.mrn.value }}"


def document(value: str = "0012", system: str = "urn:mercy", **patient: Any) -> Document:
    known: dict[str, Any] = {"sex": "female", "birth_date": "1962-09-10", **patient}
    who = Patient(mrn=Identifier(value=value, system=system), **known)
    event = Event(kind="patient.updated", source=Source(), patient=who)
    return Document(message=None, received_at=0.0, event=event)


def spec(**options: Any) -> FhirSpec:
    return FhirSpec.model_validate({"server": "ehr", "resource": PATIENT, **options})


def render(found: Document, **options: Any) -> dict[str, Any]:
    request = spec(**options).build_renderer(KIT)(found)
    return dict(orjson.loads(request))


def test_request_holds_resource_type_and_encoded_search() -> None:
    request = render(document(), search=SEARCH)
    assert request["type"] == "Patient"
    assert request["search"] == "identifier=urn%3Amercy%7C0012"
    assert orjson.loads(request["resource"])["identifier"] == [{"system": "urn:mercy", "value": "0012"}]


def test_request_has_no_search_when_none_is_given() -> None:
    assert render(document())["search"] == ""


def test_request_keeps_the_digits_of_decimals() -> None:
    text = '{"resourceType": "Observation", "valueQuantity": {"value": 1.10}}'
    assert "1.10" in render(document(), resource=text, validate=False)["resource"]


@pytest.mark.parametrize("value", ["1&_id=7", "1|2", "1,2", "1 2", "1#", "100%", "a+b", "ö", "1\\|2", "{{ 1 }}"])
def test_search_finds_one_value_whatever_it_holds(value: str) -> None:
    search = render(document(value=value), search=SEARCH)["search"]
    (pair,) = parse_qsl(search, keep_blank_values=True)
    plain = value.replace("\\", "\\\\").replace("|", "\\|").replace(",", "\\,")
    assert pair == ("identifier", f"urn:mercy|{plain}")
    assert search.isascii()
    assert not set(search) & set(' #"<>\\^`{|}')


@pytest.mark.parametrize(
    "search", [SEARCH, "identifier={{ patient.mrn.value }}", "identifier=a|1,{{ patient.mrn.value }}"]
)
def test_search_is_refused_when_the_value_is_empty(search: str) -> None:
    with pytest.raises(StepError, match="'identifier' is empty"):
        render(document(value=""), search=search, validate=False)


def test_search_may_leave_the_system_empty() -> None:
    assert render(document(system=""), search=SEARCH, validate=False)["search"] == "identifier=%7C0012"


@pytest.mark.parametrize("search", ["", "identifier", "templates/search.j2", "=x"])
def test_search_is_refused_when_it_is_not_name_and_value(search: str) -> None:
    with pytest.raises(ValidationError, match="needs name=value"):
        spec(search=search)


def test_policy_is_to_retry_only_when_a_search_can_tell() -> None:
    assert spec().unknown_policy() == "hold"
    assert spec(search=SEARCH).unknown_policy() == "retry"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"resourceType": "Patient", "id": "7"}', "has an id"),
        ('{"name": []}', "needs a resourceType"),
        ("[]", "needs a resourceType"),
        ('{"resourceType": "patient"}', "needs a resourceType"),
        ('{"resourceType": "Pateint"}', "no such resource"),
    ],
)
def test_resource_is_refused_when_it_cannot_be_written(text: str, told: str) -> None:
    with pytest.raises(StepError, match=told):
        render(document(), resource=text)


@pytest.mark.parametrize(
    ("patient", "location"),
    [({"birth_date": "September 10th"}, "Patient.birthDate"), ({"sex": "FEMALE"}, "Patient.gender")],
)
def test_resource_is_refused_with_its_place_and_without_its_value(patient: dict[str, str], location: str) -> None:
    with pytest.raises(StepError) as caught:
        render(document(**patient))
    assert caught.value.location == location
    assert not [value for value in patient.values() if value in str(caught.value)]


def test_resource_is_not_checked_when_told_so() -> None:
    assert "FEMALE" in render(document(sex="FEMALE"), validate=False)["resource"]


def test_faults_name_nested_places() -> None:
    resource = {"resourceType": "Patient", "telecom": [{"value": "1"}, {"system": "telepathy"}], "nome": [{}]}
    assert [fault.partition(" ")[0] for fault in faults(resource)] == ["Patient.telecom[1].system", "Patient.nome"]
    del resource["nome"]
    assert faults(resource) == ["Patient.telecom[1].system (not one of phone, fax, email, pager, url, sms, other)"]


def test_faults_are_none_in_other_peoples_valid_resources() -> None:
    if not DATA.exists():
        pytest.skip("the collection of FHIR resources is not here (../shared/data)")
    checked = 0
    for path in sorted(DATA.glob("fhir-server__*.json")):
        if "nvalid" in path.name or "Missing" in path.name or "Unknown" in path.name or "Bundle" in path.name:
            continue
        resource = orjson.loads(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        known = {"Patient", "Appointment", "Condition", "Encounter", "Immunization"}
        if isinstance(resource, dict) and resource.get("resourceType") in known:
            resource.pop("meta", None)  # one has a lastUpdated without time zone, which R4 does not allow
            assert faults(resource) == [], path.name
            checked += 1
    assert checked >= 5


def lent(**settings: Any) -> Any:
    """Return what a part is built with: no more than these settings."""
    return SimpleNamespace(settings=SimpleNamespace(**settings), channel="adt")


def test_server_is_looked_up_by_name_or_refused() -> None:
    servers = {"ehr": SimpleNamespace(base="https://ehr.example/fhir/", token="t")}
    assert find_server(lent(servers=servers), "ehr").base == "https://ehr.example/fhir"
    with pytest.raises(ConfigError, match=r"channel adt: server 'her' is not in handoff.yaml .*\(there: ehr\)"):
        find_server(lent(servers=servers), "her")


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"location": "https://e/fhir/Patient/7/_history/2"}, b"", Match("7", "2")),
        ({"location": "Patient/7", "etag": 'W/"3"'}, b"", Match("7", "3")),
        ({"content-location": "/Patient/a-b.c"}, b"", Match("a-b.c")),
        ({"etag": '"4"'}, b'{"resourceType":"Patient","id":"7"}', Match("7", "4")),
        ({}, b'{"resourceType":"Patient","id":"7","meta":{"versionId":"5"}}', Match("7", "5")),
        ({"location": "https://e/fhir/Task/7"}, b"", None),
        ({"location": "https://e/login?next=Okafor"}, b"<html>", None),
        ({}, b'{"resourceType":"Patient","id":"Okafor, Ada"}', None),
    ],
)
def test_answer_names_a_resource(headers: dict[str, str], body: bytes, expected: Match | None) -> None:
    assert named(Answer(201, headers, body), "Patient") == expected


def searchset(*resources: dict[str, Any], **more: Any) -> Match | Outcome | None:
    entries = [
        {"resource": {"resourceType": "Patient", **resource}, "search": {"mode": "match"}} for resource in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}
    return read_matches(Answer(200, {}, orjson.dumps(bundle)), "server ehr", "Patient")


def test_search_answer_is_read() -> None:
    assert searchset() is None
    assert searchset({"id": "7", "meta": {"versionId": "3"}}, total=1) == Match("7", "3")
    assert isinstance(searchset({"id": "7"}, {"id": "8"}), Rejected)
    assert isinstance(searchset({"id": "7"}, total=2), Rejected)
    assert isinstance(searchset(total=1), Retry)
    assert isinstance(searchset({"id": "../7"}), Retry)


def test_search_answer_counts_no_warnings() -> None:
    extra = {"resource": {"resourceType": "OperationOutcome", "issue": []}, "search": {"mode": "outcome"}}
    assert searchset(entry=[extra]) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"resourceType":"Patient"}'])
def test_search_is_tried_again_when_the_answer_is_no_bundle(body: bytes) -> None:
    assert isinstance(read_matches(Answer(200, {}, body), "server ehr", "Patient"), Retry)


def answered(status: int, *codes: str, severity: str = "error", place: str = "", name: str = "") -> Outcome:
    issues = [{"severity": severity, "code": code, "diagnostics": "Okafor", "expression": [place]} for code in codes]
    body = orjson.dumps({"resourceType": "OperationOutcome", "issue": issues}) if codes else b""
    return classed(Answer(status, {}, body), "server ehr", "Patient", 0.0, name)


@pytest.mark.parametrize(
    ("status", "codes", "kind"),
    [
        (422, ("value",), Rejected),
        (400, ("processing",), Rejected),
        (409, ("lock-error",), Retry),
        (400, ("throttled",), Retry),
        (400, ("timeout",), Retry),
        (409, ("conflict",), Rejected),
        (429, ("throttled",), Retry),
        (503, ("required",), Retry),
        (500, (), Unknown),
        (500, ("exception",), Unknown),
        (500, ("processing",), Unknown),
        (500, ("required",), Rejected),
        (500, ("required", "exception"), Unknown),
        (500, ("lock-error",), Retry),
        (401, ("login",), Rejected),
    ],
)
def test_codes_correct_what_the_status_says(status: int, codes: tuple[str, ...], kind: type) -> None:
    outcome = answered(status, *codes)
    assert type(outcome) is kind
    assert not isinstance(outcome, Delivered)
    assert str(status) in outcome.reason
    assert "Okafor" not in repr(outcome)


def test_rejection_names_the_place_when_it_is_plain() -> None:
    assert answered(422, "value", place="Patient.name[0].family") == Rejected(
        "HTTP 422 from server ehr (value)",
        location="Patient.name[0].family",
        response=answered(422, "value", place="Patient.name[0].family").response,
    )
    hidden = answered(422, "value", place="Patient.name.where(family='Okafor')")
    assert isinstance(hidden, Rejected)
    assert hidden.location == ""


def test_code_is_not_shown_when_it_is_none() -> None:
    outcome = answered(422, "Okafor is wrong")
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "HTTP 422 from server ehr (?)"


def test_write_is_delivered_when_the_answer_says_enough() -> None:
    assert isinstance(answered(201), Delivered)
    assert answered(200, name="7") == Delivered(reference="Patient/7")
    warned = answered(200, "informational", severity="warning", name="7")
    assert isinstance(warned, Delivered)


def test_outcome_is_unknown_when_success_says_too_little() -> None:
    assert isinstance(answered(200), Unknown)
    assert isinstance(answered(202), Unknown)
    assert isinstance(answered(200, "processing", name="7"), Unknown)
    page = classed(Answer(200, {}, b"<html>Okafor</html>"), "server ehr", "Patient", 0.0, "7")
    assert isinstance(page, Unknown)
    assert "Okafor" not in repr(page)


def test_resource_is_refused_when_it_is_not_json() -> None:
    with pytest.raises(StepError, match=r"not JSON \(line 2, column 11\)") as caught:
        read_resource('{"resourceType": "Patient",\n"gender": Okafor}')
    assert "Okafor" not in str(caught.value)


# -------------------------------------------------------------------------------------------- patches, Bundles, options

PATCH = '[{"op": "replace", "path": "/gender", "value": {{ patient.sex }}}]'


def test_patch_is_frozen_with_its_search() -> None:
    request = render(document(), resource="Patient", patch=PATCH, search=SEARCH)
    assert orjson.loads(request.pop("resource")) == [{"op": "replace", "path": "/gender", "value": "female"}]
    assert request == {"search": "identifier=urn%3Amercy%7C0012", "type": "Patient", "patch": True}


@pytest.mark.parametrize(
    ("patch", "told", "location"),
    [
        ("{", "does not give JSON", ""),
        ("{}", "needs a list of operations", ""),
        ("[]", "at least one", ""),
        ("[7]", "operation 1 of the patch is no object", "[0]"),
        ('[{"op": "jump", "path": "/x"}]', "needs op: one of add, copy", "[0]"),
        ('[{"op": "remove", "path": "x"}]', "needs path: a JSON Pointer", "[0]"),
        ('[{"op": "remove", "path": ""}]', "needs path: a JSON Pointer", "[0]"),
        ('[{"op": "remove", "path": "/a~2"}]', "needs path: a JSON Pointer", "[0]"),
        ('[{"op": "remove", "path": "/a"}, {"op": "add", "path": "/x"}]', "(add) needs a value", "[1]"),
        ('[{"op": "replace", "path": "/x", "value": null}]', "(replace) needs a value that is not null", "[0]"),
        ('[{"op": "move", "path": "/x"}]', "(move) needs from: a JSON Pointer", "[0]"),
    ],
)
def test_patch_that_is_none_is_refused_with_its_place(patch: str, told: str, location: str) -> None:
    with pytest.raises(StepError) as caught:
        render(document(), resource="Patient", patch=patch, search=SEARCH)
    assert told in str(caught.value)
    assert (caught.value.location or "") == location


@pytest.mark.parametrize(
    "patch",
    ['[{"op": "move", "from": "/a", "path": "/b"}]', '[{"op": "test", "path": "/a/0/b~1c", "value": [1]}]'],
)
def test_patch_of_every_operation_passes(patch: str) -> None:
    assert render(document(), resource="Patient", patch=patch, search=SEARCH)["patch"] is True


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_bundle_that_asks_for_something_is_told_apart(kind: str) -> None:
    entry = '{"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}'
    text = f'{{"resourceType": "Bundle", "type": "{kind}", "entry": [{entry}, {entry}]}}'
    request = render(document(), resource=text)
    assert (request["bundle"], request["entries"], request["search"]) == (kind, 2, "")


def test_bundle_that_is_only_kept_is_a_resource_like_another() -> None:
    request = render(document(), resource='{"resourceType": "Bundle", "type": "collection"}')
    assert set(request) == {"resource", "search", "type"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"patch": PATCH, "search": SEARCH}, "write its name"),
        ({"resource": "Bundle", "patch": PATCH}, "write its name"),
        ({"resource": "Patient", "patch": PATCH}, "add search"),
        ({"resource": "Patient", "patch": PATCH, "search": SEARCH, "on_match": "keep"}, "keep one of the two"),
        ({"on_missing": "reject"}, "needs a search"),
        ({"search": SEARCH, "on_missing": "reject", "on_match": "keep"}, "only updates"),
        ({"resource": "Bundle", "search": SEARCH}, "leave `search` out"),
        ({"zone": "UTC"}, "zone belongs to a resource by name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec(**options)


def test_patch_is_held_when_its_outcome_is_unknown() -> None:
    assert spec(resource="Patient", patch=PATCH, search=SEARCH).unknown_policy() == "hold"


def test_server_is_found_with_what_it_takes(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"resourceType": "CapabilityStatement"}')
    entry = SimpleNamespace(base="https://x/", profile="epic", capabilities="own.json", headers={"X-Practice": "1"})
    found = find_server(lent(servers={"e": entry}, root=tmp_path, data=tmp_path), "e")
    assert (found.base, found.data, found.headers) == ("https://x", tmp_path, {"X-Practice": "1"})
    assert (found.profile.system, found.profile.writes) == ("Epic", {})
