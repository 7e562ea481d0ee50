"""This module shows what a bulk export of a FHIR server may declare, and what of a manifest is believed."""

from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from broker.message import Inbound
from listeners.fhir_export import FhirExportSpec
from listeners.fhir_job import Progress
from listeners.fhir_manifest import ExportFile, NoManifest, errors_in, read_manifest
from listeners.fhir_versions import Versions
from tests.contract.poll_rig import Kept

GIVEN: dict[str, Any] = {"server": "ehr", "schedule": {"cron": "0 3 * * *"}}
AT = "2026-03-18T14:15:00Z"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"group": "g", "level": "system"}, "remove `level`"),
        ({"group": "a/b"}, "match pattern"),
        ({"types": ["Patients"]}, "no resource of FHIR R4"),
        ({"parameters": {"_since": AT}}, "_since is the engine's own"),
        ({"largest": "1B"}, "greater than or equal"),
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        FhirExportSpec.model_validate({**GIVEN, **options})


def test_progress_begins_anew_with_another_export() -> None:
    others: list[dict[str, Any]] = [{}, {"group": "g"}, {"level": "system"}, {"types": ["Patient"]}, {"since": AT}]
    specs = [FhirExportSpec.model_validate({**GIVEN, **other}) for other in others]
    assert len({spec.mark_name("all") for spec in specs}) == len(others)
    assert specs[0].mark_name("all") == specs[0].model_copy(update={"poll": 7.0}).mark_name("all")


def test_progress_is_what_was_noted() -> None:
    progress = Progress(since=AT, job="https://ehr.example/j", began=7.5, done=["a"], faults=["b"], over="c")
    assert Progress.of(progress.noted()) == progress


def test_file_is_the_same_under_another_signature_and_read_again() -> None:
    one, other = (ExportFile("Patient", f"https://f.example/1.ndjson?signed={each}") for each in "ab")
    assert one.name == other.name != ExportFile("Patient", "https://f.example/2.ndjson").name
    assert one.mark != other.mark
    assert "signed" not in repr(one)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"output": [7]}, "no address"),
        ({"output": [{"url": "file:///etc/passwd"}]}, "no address"),
        ({"deleted": {"url": "x"}}, "in the place of one"),
        ({"transactionTime": "yesterday"}, "transactionTime"),
        ({"transactionTime": "2026-03-18"}, "transactionTime"),
    ],
)
def test_manifest_that_cannot_be_used_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(NoManifest, match=told):
        read_manifest(orjson.dumps({"transactionTime": AT, "output": [], **changes}))


def test_type_of_a_file_is_never_more_than_a_name() -> None:
    listed = [{"url": "https://f.example/1", "type": kind} for kind in ("Patient", "../Patient", 7)]
    manifest = read_manifest(orjson.dumps({"transactionTime": AT, "output": listed, "error": None}))
    assert [file.kind for file in manifest.output] == ["Patient", "Resource", "Resource"]
    assert manifest.needs_token


def test_errors_are_told_from_what_is_none() -> None:
    issues = [{"severity": "error", "code": "Okafor"}, {"severity": "fatal", "code": "timeout"}, {"code": "value"}, 7]
    lines = [orjson.dumps({"issue": issues}), b"[]", b'{"issue":7}', b"", b"{"]
    assert errors_in(lines) == ["?", "timeout"]
    assert errors_in([b'{"issue":[{"severity":"warning","code":"value"}]}']) == []


async def test_line_that_is_no_resource_is_still_offered_to_be_refused() -> None:
    kept = Kept()
    versions = Versions(kept, "ehr")
    for body in (b"{", b"7", b'{"resourceType":"Patient"}\r\n'):
        await versions.accept(Inbound(channel="all", body=body, key=b"place"))
    assert [message.body for message in kept.messages.values()] == [b"{", b"7", b'{"resourceType":"Patient"}']
    assert not [message for message in kept.messages.values() if message.key == b"place"]
    with pytest.raises(NotImplementedError):
        await versions.conclude("all", 1)
    with pytest.raises(NotImplementedError):
        versions.report(None)  # type: ignore[arg-type]  # it is handed on as it is
