"""This module tests `handoff list`."""

import json
from pathlib import Path

import pytest

from config.catalog import DESTINATIONS, LISTENERS
from console.cli.main import invoke
from listeners.signatures import presets


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "channels/presets").mkdir(parents=True)
    return tmp_path


def test_presets_name_their_operations_and_how_each_was_tested(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "presets", "--json"]) == 0
    found = {each["preset"]: each for each in json.loads(capsys.readouterr().out)["presets"]}
    assert len(found) >= 19
    assert found["salesforce"]["auth"] == ["jwt_bearer", "client_credentials", "bearer"]
    assert found["salesforce"]["operations"]["upsert_patients"]["rows"] == 200
    assert {each["tested"] for preset in found.values() for each in preset["operations"].values()} == {
        "facts",
        "memory",
        "schema",
    }
    assert {each["tested"] for each in found["creatio"]["operations"].values()} == {"memory"}
    assert found["salesforce"]["operations"]["create_task"]["values"]["subject"]["required"]


def test_presets_of_the_site_are_listed_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "channels/presets/lab.yaml").write_text(
        "preset: lab\nname: Lab\noperations: {send: {about: Sends., path: x}}\n"
    )
    assert invoke(["list", "presets"]) == 0
    assert "lab" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "parts"), [("destinations", DESTINATIONS), ("listeners", LISTENERS)])
def test_parts_are_listed_with_their_options(kind: str, parts: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", kind, "--json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)[kind]}
    assert list(found) == list(parts)  # type: ignore[call-overload]
    for each in found.values():
        assert each["module"]
        assert each["summary"]
        assert all(option["description"] for option in each["options"].values())
    assert invoke(["list", kind]) == 0


def test_listeners_say_which_presets_they_have_and_what_is_known_of_those(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "listeners", "--json"]) == 0
    parts = {each["name"]: each for each in json.loads(capsys.readouterr().out)["listeners"]}
    assert [name for name, each in parts.items() if "presets" in each] == ["soap", "webhook"]
    found = {each["preset"]: each for each in parts["webhook"]["presets"]}
    assert list(found) == list(presets())
    told = ("title", "callers", "signature", "tested", "key_decides")
    assert [found["stripe"][key] for key in told] == ["Stripe", ["signature"], "hmac", "library", True]
    assert (found["garmin"]["signature"], found["garmin"]["tested"]) == (None, "requests")
    (cdc,) = parts["soap"]["presets"]
    assert cdc["operations"] == {"connectivityTest": None, "submitSingleMessage": "hl7Message"}


def test_unknown_kind_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "nothing"]) == 2
    assert "presets" in capsys.readouterr().err


def test_page_of_presets_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["list", "presets", "--markdown"]) == 0
    assert "## Salesforce Health Cloud" in capsys.readouterr().out
    assert invoke(["list", "steps", "--markdown"]) == 2


def test_schema_of_presets_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["schema", "--preset"]) == 0
    assert set(json.loads(capsys.readouterr().out)["properties"]) >= {"preset", "base", "operations", "errors"}
