"""`handoff check` and `handoff schema` print one document, whatever they find."""

import json
from pathlib import Path
from typing import Any

import pytest

from console.cli import main


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty site: a settings file and no channels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handoff.yaml").write_text("data: var\n")
    (tmp_path / "channels").mkdir()
    return tmp_path


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one JSON document on stdout."""
    return json.loads(capsys.readouterr().out)


def test_check_shows_findings_of_channels_and_ends_with_1(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same findings for people and programs."""
    (site / "channels" / "adt.yaml").write_text("channel: adt\nlisen: {}\n")
    assert main.invoke(["check"]) == 1
    assert "adt.yaml:2:1" in capsys.readouterr().out
    assert main.invoke(["check", "--json"]) == 1
    found = document(capsys)
    assert found["channels"] == []
    assert {"file", "line", "column", "end_column", "code", "severity", "message", "hint"} == set(found["findings"][0])


def test_check_of_unusable_settings_ends_with_2_and_is_still_one_document(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script can tell the two apart, and read both."""
    (site / "handoff.yaml").write_text("workers: many\n")
    assert main.invoke(["check", "--json"]) == 2
    assert document(capsys)["findings"][0]["file"] == "handoff.yaml"


def test_mistakes_in_settings_hide_none_in_channels(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to mend one to see the other; what a channel names of the settings is left alone."""
    (site / "handoff.yaml").write_text("workers: many\nchannels: feeds\n")
    (site / "feeds").mkdir()
    head = "channel: adt\nlisten:\n  mllp: {endpoint: 127.0.0.1:2575}\nlisen: {}\n"
    crm = "deliver:\n  crm:\n    http: {system: crm, operation: upsert_patient}\n"
    (site / "feeds" / "adt.yaml").write_text(head + crm)
    assert main.invoke(["check", "--json"]) == 2
    found = document(capsys)["findings"]
    assert [(each["file"], each["line"]) for each in found] == [("feeds/adt.yaml", 4), ("handoff.yaml", 1)]


def test_run_does_not_start_with_errors(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that is wrong goes to stderr, and nothing is made."""
    (site / "channels" / "adt.yaml").write_text("channel: adt\nlisen: {}\n")
    assert main.invoke(["run"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "adt.yaml:2:1" in told.err
    assert not (site / "var").exists()


def test_schema_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Editors read it."""
    assert main.invoke(["schema"]) == 0
    assert "properties" in document(capsys)
