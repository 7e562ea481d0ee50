"""Whatever a server answers, a delivery has an outcome, and its reason repeats nothing of the answer's words."""

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from broker.delivery import Delivered, Rejected, Retry, Unknown
from broker.errors import StepError
from dispatch.ehr_profile import abilities, find_profile
from dispatch.fhir_answer import Match, classed, read_matches
from dispatch.fhir_bundle import bundle_outcome
from dispatch.fhir_patch import read_patch
from dispatch.http import Answer

WORD = "Okafor 0012"  # what a server might say of a patient
KEYS = st.sampled_from(
    [
        "resourceType",
        "type",
        "entry",
        "response",
        "status",
        "location",
        "outcome",
        "issue",
        "severity",
        "code",
        "details",
        "coding",
        "expression",
        "diagnostics",
        "id",
        "meta",
        "versionId",
        "total",
        "resource",
        "search",
        "mode",
    ]
)
WORDS = st.sampled_from(
    [
        "Bundle",
        "Patient",
        "OperationOutcome",
        "transaction-response",
        "batch-response",
        "searchset",
        "201",
        "422",
        "500",
        "error",
        "fatal",
        "warning",
        "invalid",
        "transient",
        "59141",
        "4135",
        "match",
        "Patient/7/_history/1",
        WORD,
        "",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-1, 600) | WORDS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=30
)
OUTCOMES = st.fixed_dictionaries(
    {
        "resourceType": st.just("OperationOutcome"),
        "issue": st.lists(
            st.dictionaries(KEYS, JSON, max_size=4)
            | st.fixed_dictionaries(
                {
                    "severity": st.sampled_from(["error", "warning"]),
                    "code": WORDS,
                    "details": st.fixed_dictionaries({"coding": st.lists(st.fixed_dictionaries({"code": WORDS}))}),
                }
            ),
            max_size=3,
        ),
    }
)
RESPONSES = st.fixed_dictionaries(
    {
        "resourceType": st.just("Bundle"),
        "type": st.sampled_from(["batch-response", "transaction-response"]),
        "entry": st.lists(
            st.fixed_dictionaries({"response": st.dictionaries(KEYS, JSON | OUTCOMES)}) | JSON, max_size=3
        ),
    }
)
STATUSES = st.sampled_from([200, 201, 204, 301, 400, 401, 409, 412, 422, 429, 500, 503, 504])


def answer(status: int, body: Any, location: str = "") -> Answer:
    return Answer(status, {"location": location} if location else {}, orjson.dumps(body))


@given(STATUSES, JSON | OUTCOMES, WORDS, st.sampled_from(["epic", "generic"]))
def test_every_answer_to_a_write_has_an_outcome(status: int, body: Any, location: str, profile: str) -> None:
    found = classed(answer(status, body, location), "server ehr", "Patient", 0.0, "7", find_profile(profile).errors)
    assert isinstance(found, Delivered | Retry | Unknown | Rejected)
    if not isinstance(found, Delivered):
        assert WORD not in found.reason
    if isinstance(found, Rejected):
        assert WORD not in found.location


@given(JSON | RESPONSES, st.sampled_from(["batch", "transaction"]), st.integers(0, 3))
def test_every_answer_to_a_bundle_has_an_outcome(body: Any, kind: str, sent: int) -> None:
    found = bundle_outcome(answer(200, body), "server ehr", kind, sent)
    assert isinstance(found, Delivered | Unknown | Rejected)
    if not isinstance(found, Delivered):
        assert WORD not in found.reason
    elif sent:
        assert len(body["entry"]) == sent


@given(JSON)
def test_every_answer_to_a_search_is_read(body: Any) -> None:
    found = read_matches(answer(200, body), "server ehr", "Patient")
    assert found is None or isinstance(found, Match | Retry | Rejected)


@given(JSON)
def test_every_statement_is_read(body: Any) -> None:
    if isinstance(body, dict):
        assert isinstance(abilities(body)["writes"], dict)


@given(st.binary(max_size=40) | JSON.map(orjson.dumps))
def test_every_patch_is_read_or_refused(body: bytes) -> None:
    said = ""
    patch: list[dict[str, Any]] = []
    try:
        patch = read_patch(body.decode("utf-8", "replace"))
    except StepError as error:
        said = str(error)
    assert bool(patch) != bool(said)
    assert WORD not in said
    assert all(operation["path"].startswith("/") for operation in patch)
