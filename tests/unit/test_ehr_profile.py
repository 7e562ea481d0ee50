"""What each EHR takes: the profiles agree with the vendors' CapabilityStatements, and the check with the profiles."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from config.check import check
from config.settings import load
from dispatch import ehr_profile
from dispatch.ehr_profile import abilities, find_profile, profile_names, with_statement

SHARED = Path(__file__).parents[2] / "../shared/vendor-specs/ehr-capability"
STATEMENTS = {
    "athenahealth": "athenahealth-r4.json",
    "epic": "epic-sandbox-r4.json",
    "meditech": "meditech-greenfield-r4.json",
    "nextgen-enterprise": "nextgen-enterprise-r4.json",
    "nextgen-office": "nextgen-office-r4.json",
    "oracle-cerner": "cerner-secure-r4.json",
    "veradigm": "veradigm-r4.json",
}
SMALL = {
    "resourceType": "CapabilityStatement",
    "rest": [
        {"mode": "client", "resource": [{"type": "Patient", "interaction": [{"code": "patch"}]}]},
        {
            "mode": "server",
            "interaction": [{"code": "transaction"}],
            "resource": [
                {
                    "type": "Patient",
                    "interaction": [{"code": "read"}, {"code": "create"}, {"code": "update"}],
                    "versioning": "versioned-update",
                    "conditionalCreate": True,
                    "searchParam": [{"name": "_id"}, {"name": "identifier"}],
                },
                {"type": "Observation", "interaction": [{"code": "read"}]},
            ],
        },
    ],
}


# ------------------------------------------------------------------------------------------------------------ profiles


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_profile_says_what_the_vendors_statement_says(name: str) -> None:
    path = SHARED / STATEMENTS[name]
    if not path.is_file():
        pytest.skip("needs the vendors' CapabilityStatements in ../shared/vendor-specs/ehr-capability")
    told = abilities(json.loads(path.read_text()))
    profile = find_profile(name)
    assert {key: getattr(profile, key) for key in told} == told


def test_every_vendor_has_a_profile() -> None:
    assert set(profile_names()) == {*STATEMENTS, "generic"}


def test_every_vendor_says_what_works_instead() -> None:
    assert not [name for name in STATEMENTS if "*" not in find_profile(name).instead]


def test_generic_profile_lets_everything_be_tried() -> None:
    profile = find_profile("generic")
    assert profile.allows("Patient", "patch")
    assert profile.allows("Bundle", "transaction")
    assert profile.finds("Patient", "whatever")


def test_profile_that_is_not_there_or_wrong_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no EHR profile 'epci'"):
        find_profile("epci")
    (tmp_path / "ehr").mkdir()
    (tmp_path / "ehr/odd.yaml").write_text("system: Odd\n")
    monkeypatch.setattr(ehr_profile, "files", lambda _: tmp_path)
    with pytest.raises(ConfigError, match=r"dispatch/ehr/odd.yaml cannot be used"):
        find_profile("odd")


# ---------------------------------------------------------------------------------------------------------- statements


def test_statement_of_a_site_says_what_its_server_takes(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(SMALL))
    profile = with_statement(find_profile("epic"), tmp_path / "own.json")
    assert profile.writes == {"Patient": ["create", "update"]}
    assert profile.bundles == ["transaction"]
    assert profile.conditional_create == ["Patient"]
    assert profile.versions == "required"
    assert profile.finds("Patient", "identifier:exact")
    assert profile.finds("Patient", "_id")
    assert not profile.finds("Patient", "name")
    assert profile.errors == find_profile("epic").errors


@pytest.mark.parametrize("text", ["", "[]", '{"resourceType": "Bundle"}', None])
def test_file_that_is_no_statement_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "own.json").write_text(text)
    with pytest.raises(ConfigError, match=r"own\.json (holds no CapabilityStatement|cannot be read)"):
        with_statement(find_profile("generic"), tmp_path / "own.json")


@pytest.mark.parametrize("statement", [{}, {"rest": 7}, {"rest": [{"mode": "server", "resource": [{"type": 7}, 8]}]}])
def test_statement_with_odd_parts_says_that_nothing_is_taken(statement: dict[str, Any]) -> None:
    assert abilities(statement)["writes"] == {}


# --------------------------------------------------------------------------------------------------------------- check


def told(folder: Path, profile: str, fhir: str, server: str = "") -> list[str]:
    (folder / "handoff.yaml").write_text(f"servers:\n  e: {{base: 'https://x', profile: {profile}{server}}}\n")
    (folder / "channels/templates").mkdir(parents=True)
    (folder / "channels/templates/task.json.j2").write_text('{"resourceType": "Task", "status": {{ patient.family }}}')
    (folder / "channels/c.yaml").write_text(
        "channel: c\nlisten:\n  mllp: {endpoint: 127.0.0.1:2575}\nsteps:\n  - canonical: {}\n"
        f"deliver:\n  ehr:\n    fhir: {{server: e, {fhir}}}\n"
    )
    findings = check(load(folder / "handoff.yaml", environment={})).findings
    return [f"{found.line}:{found.column} {found.code} {found.text} ({found.hint})" for found in findings]


@pytest.mark.parametrize(
    ("profile", "fhir"),
    [
        ("epic", "resource: Patient, on_match: keep"),
        ("epic", "resource: Observation"),
        ("epic", "resource: templates/task.json.j2, search: 'identifier=1', on_missing: reject"),
        ("oracle-cerner", "resource: Patient, patch: '[]', search: 'identifier={{ patient.mrn.value }}'"),
        ("oracle-cerner", "resource: Observation, search: 'patient=1&code={{ patient.mrn.value }}&_count=2'"),
        ("meditech", """resource: '{"resourceType": "Communication"}'"""),
        ("generic", "resource: Bundle"),
        ("nextgen-office", "resource: '{{ patient.family }}'"),  # what it gives shows at run time only
    ],
)
def test_write_that_is_taken_passes(tmp_path: Path, profile: str, fhir: str) -> None:
    assert told(tmp_path, profile, fhir) == []


@pytest.mark.parametrize(
    ("profile", "fhir", "finding"),
    [
        (
            "epic",
            "resource: Patient",
            "8:33 E309 Epic takes no update of Patient over FHIR (write on_match: keep, which leaves what is there; it "
            "takes no changes of patients; send ADT^A31 by mllp)",
        ),
        (
            "epic",
            "resource: Appointment",
            "8:33 E309 Epic takes no create of Appointment over FHIR (send SIU^S12 to S26 by mllp (Epic books over "
            "FHIR only in STU3, with Appointment.$book))",
        ),
        (
            "epic",
            "resource: templates/task.json.j2, search: 'identifier=1'",
            "8:33 E309 Epic takes no create of Task over FHIR (write on_missing: reject, which only updates)",
        ),
        (
            "epic",
            "resource: Bundle",
            "8:33 E309 Epic takes no Bundle of type transaction over FHIR (write each resource in a destination of its "
            "own)",
        ),
        (
            "oracle-cerner",
            """resource: '{"resourceType": "Bundle", "type": "transaction"}'""",
            "8:33 E309 Oracle Health Millennium (Cerner) takes no Bundle of type transaction over FHIR (write each "
            "resource in a destination of its own, or as a batch)",
        ),
        (
            "oracle-cerner",
            "resource: Patient",
            "8:33 E309 Oracle Health Millennium (Cerner) takes no update of Patient over FHIR (write on_match: keep, "
            "which leaves what is there, or `patch:` what changed; patch it, or send ADT^A31 by mllp)",
        ),
        (
            "oracle-cerner",
            "resource: Observation, patch: '[]', search: '_id=1'",
            "8:53 E309 Oracle Health Millennium (Cerner) takes no patch of Observation over FHIR (it takes Observation "
            "by create, update; send HL7 v2 by mllp (ADT, SIU, MDM, ORU, ORM))",
        ),
        (
            "oracle-cerner",
            "resource: Observation",
            "8:33 E309 Oracle Health Millennium (Cerner) does not find Observation by identifier (add `search:` with "
            "one of _lastUpdated, category, code, date, patient, subject)",
        ),
        (
            "oracle-cerner",
            "resource: Observation, search: 'identifier={{ patient.mrn.value }}'",
            "8:54 E309 Oracle Health Millennium (Cerner) does not find Observation by identifier (it finds it by "
            "_lastUpdated, category, code, date, patient, subject)",
        ),
        (
            "athenahealth",
            "resource: DocumentReference",
            "8:33 E309 athenahealth takes no create of DocumentReference over FHIR (use http with the preset "
            "athenaone (add_document), or send MDM^T02 by mllp)",
        ),
        (
            "nextgen-enterprise",
            """resource: '{"resourceType": "Patient"}'""",
            "8:33 E309 NextGen Enterprise takes no create of Patient over FHIR (send ADT^A08 or A31 by mllp)",
        ),
    ],
)
def test_write_that_is_not_taken_is_refused_with_its_place_and_a_way_out(
    tmp_path: Path, profile: str, fhir: str, finding: str
) -> None:
    assert told(tmp_path, profile, fhir) == [finding]


def test_statement_of_a_site_overrules_the_profile(tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(SMALL))
    assert told(tmp_path, "epic", "resource: Patient", ", capabilities: own.json") == []


def test_statement_that_is_missing_is_told_at_the_server(tmp_path: Path) -> None:
    (finding,) = told(tmp_path, "epic", "resource: Patient", ", capabilities: own.json")
    assert finding.startswith("8:20 E309 server e: ")
    assert "own.json cannot be read" in finding


def test_profile_that_does_not_exist_is_told_in_the_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'servers.e.profile: there is no such profile[\s\S]*did you mean "epic"\?'):
        told(tmp_path, "epci", "resource: Patient")
