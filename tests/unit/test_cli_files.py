"""`handoff show`: a tree for people, one line of JSON a file for programs, and exit codes for both."""

import json
from pathlib import Path

import pytest

from console.cli.main import invoke

ROOT = Path(__file__).parents[2]
A04 = ROOT / "channels/messages/adt_a04.hl7"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = invoke(["show", *arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_json_is_one_line_for_each_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.hl7"
    bad.write_bytes(b"nonsense")
    code, out, _ = run(capsys, str(A04), str(bad), "--json", "--at", "PID-5.1", "--at", "Patient.id", "--fhir")
    good, wrong = map(json.loads, out.splitlines())
    assert code == 1
    assert set(good) >= {"file", "verdict", "acknowledgment", "errors", "values", "canonical", "fhir"}
    assert (good["file"], good["verdict"], good["acknowledgment"]) == (str(A04), "accepted", "AA")
    assert good["values"] == {"PID-5.1": "Okafor", "Patient.id": None}
    assert (wrong["verdict"], wrong["acknowledgment"], wrong["canonical"]) == ("refused", "AR", None)
    assert wrong["errors"][0] | {"text": ""} == {"location": "MSH", "code": 100, "severity": "error", "text": ""}


def test_tree_names_the_fields_beside_what_was_sent(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(A04), "--at", "PID-8")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].endswith("hl7  accepted (AA)")
    assert any(line.split() == ["PID-8", "Administrative", "sex", "F"] for line in lines)
    assert any("Family name" in line and line.endswith("Okafor") for line in lines)
    assert "  PID-8 = F" in lines
    assert '      "family": "Okafor",' in out


def test_resource_is_shown_value_by_value(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"resourceType": "Patient", "id": "p1", "name": [{"family": "Okafor"}]}')
    _, out, _ = run(capsys, str(file))
    assert any(line.split() == ["Patient.name[0].family", "Okafor"] for line in out.splitlines())


def test_messages_of_a_batch_are_shown_one_by_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "b.hl7"
    file.write_bytes(A04.read_bytes().rstrip() + b"\r" + A04.read_bytes().replace(b"MERCY0000104", b"MERCY0000105"))
    _, out, _ = run(capsys, str(file))
    assert "message 1  hl7  accepted (AA)" in out
    assert "message 2  hl7  accepted (AA)" in out


@pytest.mark.parametrize("place", ["PID-0", "nonsense here", "PID..1"])
def test_place_that_is_none_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str], place: str) -> None:
    code, out, err = run(capsys, str(A04), "--at", place)
    assert (code, out) == (2, "")
    assert "--at" in err


def test_file_that_cannot_be_read_is_told_in_its_place_and_the_others_are_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, str(A04), str(tmp_path / "none.hl7"), str(tmp_path), str(A04), "--json")
    assert code == 2
    first, missing, folder, last = map(json.loads, out.splitlines())
    assert first == last
    assert (missing["kind"], missing["verdict"]) == ("unreadable", "refused")
    assert missing["errors"][0]["text"] == "the file cannot be read: No such file or directory"
    assert folder["errors"][0]["text"] == "the file cannot be read: Is a directory"
    assert err == "Error: 2 of the files cannot be read\n"


def test_file_that_is_not_there_is_a_mistake_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "nowhere.hl7")[0] == 2


def test_message_of_which_nothing_comes_is_told_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    message = A04.read_bytes()
    strange = tmp_path / "strange.hl7"
    strange.write_bytes(message.replace(b"ADT^A04", b"ZZZ^Z04"))
    nobody = tmp_path / "nobody.hl7"
    nobody.write_bytes(message.replace(b"\nPID", b"\nZID").replace(b"\rPID", b"\rZID"))
    code, out, _ = run(capsys, str(strange), str(nobody))
    assert code == 1
    assert f"{strange}  hl7  accepted (AA), and nothing comes of it" in out
    assert f"{nobody}  hl7  refused (AE) by the steps" in out
