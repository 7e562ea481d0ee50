"""This module shows what a search of a FHIR server may declare, and which addresses and orders are believed."""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from broker.errors import ConfigError
from broker.parts import Tools
from listeners.fhir_address import address_within, is_address, same_origin
from listeners.fhir_page import NoPage, are_in_order, read_page
from listeners.fhir_search import FhirSearchSpec
from listeners.fhir_together import put_together

GIVEN: dict[str, Any] = {"server": "ehr", "schedule": {"every": "1m"}, "resource": "Encounter"}
BASE = "https://ehr.example/fhir"
AT = dt.datetime(2026, 3, 18, 14, 15, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"resource": "Encounters"}, "no resource of FHIR R4"),
        ({"resource": "Encounter?x=1"}, "match pattern"),
        ({"parameters": {"_sort": "date"}}, "_sort is the engine's own"),
        ({"parameters": {"_lastUpdated:missing": "true"}}, "_lastUpdated:missing is the engine's own"),
        ({"since": "2026-01-01T00:00:00"}, "timezone"),
        ({"page": 0}, "greater than or equal"),
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FhirSearchSpec.model_validate({**GIVEN, **options})


def test_mark_begins_anew_with_another_search() -> None:
    others: list[dict[str, Any]] = [
        {},
        {"resource": "Patient"},
        {"parameters": {"class": "IMP"}},
        {"take": "bundle"},
        {"since": AT},
    ]
    specs = [FhirSearchSpec.model_validate({**GIVEN, **other}) for other in others]
    assert len({spec.mark_name("visits") for spec in specs}) == len(others)
    assert specs[0].mark_name("visits") == specs[0].model_copy(update={"page": 7}).mark_name("visits")


def test_server_that_is_not_declared_is_told() -> None:
    nothing: Any = None
    tools = Tools("visits", nothing, lambda _: None, SimpleNamespace(servers={"lab": 1}))
    with pytest.raises(ConfigError, match=r"'ehr' is not in handoff\.yaml under `servers:` \(there: lab\)"):
        FhirSearchSpec.model_validate(GIVEN).build(tools)


@pytest.mark.parametrize(
    ("link", "address"),
    [
        (f"{BASE}?_getpages=7", f"{BASE}?_getpages=7"),
        (f"{BASE}/Encounter?page=2", f"{BASE}/Encounter?page=2"),
        ("Encounter?page=2", f"{BASE}/Encounter?page=2"),
        ("https://ehr.example:443/fhir/x", "https://ehr.example:443/fhir/x"),
        ("http://ehr.example/fhir/x", ""),
        ("https://ehr.example:8443/fhir/x", ""),
        ("https://ehr.example/fhirs/x", ""),
        ("https://ehr.example/fhir/%2e%2e/admin", ""),
        ("https://user@ehr.example/fhir/x", ""),
        ("https://ehr.example/fhir/a b", ""),
        ("https://ehr.example:port/fhir/x", ""),
        ("javascript:alert(1)", ""),
    ],
)
def test_address_of_a_server_is_told_from_others(link: str, address: str) -> None:
    assert address_within(BASE, link) == address


def test_origin_is_scheme_host_and_port() -> None:
    assert same_origin(BASE, "https://EHR.example:443/files/1")
    assert not same_origin(BASE, "https://files.example/1")
    assert not same_origin(BASE, "https://ehr.example:x/1")
    assert [is_address(text) for text in ("https://a/b?c", "ftp://a/b", "https://[", "https:///b")] == [
        True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moments", "before", "are"),
    [
        ([], None, True),
        ([AT, AT, LATER], None, True),
        ([AT, LATER], AT, True),
        ([LATER, AT], None, False),
        ([AT], LATER, False),
        ([AT, None], None, False),
    ],
)
def test_order_needs_every_moment(moments: list[dt.datetime | None], before: dt.datetime | None, are: bool) -> None:
    assert are_in_order(moments, before) is are


def test_page_is_read_whatever_its_parts_are() -> None:
    odd = [{"resource": {"resourceType": "Patient", "meta": meta}} for meta in (7, {"lastUpdated": 7}, {})]
    naive = {"resource": {"resourceType": "Patient", "meta": {"lastUpdated": "2026-03-18T14:15:00"}}, "search": 7}
    bundle = {"resourceType": "Bundle", "entry": [*odd, naive, "x"], "link": "x", "total": "many"}
    page = read_page(orjson.dumps(bundle), "ehr")
    assert list(page.moments) == [None] * 4
    assert (page.following, page.total, page.says_sorted) == ("", None, False)
    outcome = {"resource": {"resourceType": "OperationOutcome", "issue": [{"code": "Okafor is 7"}, {"code": "value"}]}}
    assert read_page(orjson.dumps({"resourceType": "Bundle", "entry": [outcome]}), "ehr").remarks == ("?", "value")
    with pytest.raises(NoPage):
        read_page(b"[]", "ehr")


def test_decimal_stays_as_it_was_sent() -> None:
    body = b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Basic","x":1.50}}]}'
    [found] = read_page(body, "ehr").found
    assert found.body == b'{"resourceType":"Basic","x":1.50}'


def entry(name: str, *references: str, mode: str = "include") -> dict[str, Any]:
    kind, _, own = name.partition("/")
    referring = [{"reference": reference} for reference in references]
    resource = {"resourceType": kind, "id": own, "meta": {"versionId": "1"}, "extension": [{"x": referring}]}
    return {"fullUrl": f"{BASE}/{name}", "resource": resource, "search": {"mode": mode}}


def test_bundle_has_what_belongs_to_its_match_and_nothing_of_others() -> None:
    entries = [
        entry("Encounter/1", "Patient/1", mode="match"),
        entry("Encounter/2", f"{BASE}/Patient/2/_history/7", "https://other.example/Patient/1", mode="match"),
        entry("Patient/1", "Organization/1"),
        entry("Patient/2", "Organization/1", "#contained"),
        entry("Organization/1", "Organization/1"),
        entry("Observation/1", "Encounter/1", "Practitioner/1"),
        entry("Practitioner/1"),
        entry("Group/1", "Patient/1", "Patient/2"),
        {"resource": {"resourceType": "Basic"}, "search": {"mode": "include"}},
    ]
    page = read_page(orjson.dumps({"resourceType": "Bundle", "entry": entries}), "ehr")
    bundles = put_together(page.found, BASE)
    assert [found.key for found in bundles] == [found.key for found in page.found[:2]]
    held = [orjson.loads(found.body)["entry"] for found in bundles]
    assert [[each["fullUrl"].removeprefix(f"{BASE}/") for each in together] for together in held] == [
        ["Encounter/1", "Patient/1", "Organization/1", "Observation/1", "Practitioner/1"],
        ["Encounter/2", "Patient/2", "Organization/1"],
    ]
    assert held[1][0]["resource"] == entries[1]["resource"]
