"""`handoff explain`: what HL7 v2 says of a place, in words and as JSON; what does not exist gets the nearest one."""

import json
from typing import Any

import pytest

from console.cli import main


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main.invoke(["explain", *words]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(told(capsys, *words, "--json"))


def test_field_is_explained_with_type_parts_table_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "PID-3")
    for text in ("Patient identifier list", "CX", "required   yes", "repeats    yes", "Identifier type code", "0203"):
        assert text in out
    found = as_json(capsys, "PID-8")
    assert found["datatype"] == "IS"
    assert found["table"] == {"number": "0001", "title": "Administrative Sex", "codes": ["A", "F", "M", "N", "O", "U"]}
    assert not found["required"]
    assert as_json(capsys, "PID-8", "--version", "2.8")["datatype"] == "CWE"


def test_component_and_subcomponent_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "PID-5.1")["name"] == "Family name"
    assert as_json(capsys, "pid-3.4.2")["name"] == "Universal ID"
    assert as_json(capsys, "PID-8.1")["name"] == "Administrative sex"
    assert as_json(capsys, "PID-3[5=MR].1")["location"] == "PID-3[5=MR].1"


def test_names_are_those_of_the_standard(capsys: pytest.CaptureFixture[str]) -> None:
    """Not those of the tables, which tell variants of a type apart and have a slip of the pen."""
    assert [part["datatype"] for part in as_json(capsys, "XPN")["components"]][9] == "DR"
    assert as_json(capsys, "PID-5.10")["datatype"] == "DR"
    assert as_json(capsys, "DR_SIMPLE")["name"] == "DR"
    assert as_json(capsys, "PN", "--version", "2.1")["components"][0]["name"] == "Family name"


def test_versions_are_those_in_which_a_place_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert as_json(capsys, "PID-19")["versions"] == ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6"]
    assert as_json(capsys, "PID-40", "--version", "2.8")["versions"] == ["2.7", "2.8", "2.8.1", "2.8.2"]
    assert "withdrawn here" in told(capsys, "PID-19", "--version", "2.8")


def test_segment_type_structure_and_table_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(as_json(capsys, "PID")["fields"]) == 39
    assert [part["datatype"] for part in as_json(capsys, "HD")["components"]] == ["IS", "ST", "ID"]
    assert "it is not divided" in told(capsys, "NM")
    assert told(capsys, "ADT_A40").splitlines()[2:5] == ["  MSH", "  [{SFT}]", "  EVN"]
    assert "<OBR | RQD | RQ1 | RXO | ODS | ODT>" in told(capsys, "ORM^O01")
    assert as_json(capsys, "ADT_A39")["segments"][3]["segments"][2]["name"] == "MRG"
    assert "A  F  M  N  O  U" in told(capsys, "--table", "1")
    assert as_json(capsys, "--table", "HL70396")["beginnings"] == ["99", "HL7", "IBT", "ISO"]
    assert "others are allowed" in told(capsys, "--table", "0005")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["PID-55"], "PID-55 does not exist in HL7 2.5.1; PID has 39 fields"),
        (["PID-40"], "it exists in 2.7, 2.8, 2.8.1, 2.8.2"),
        (["EVN-1", "--version", "2.8"], "withdrawn; it exists in 2.1, 2.2, 2.3, 2.3.1, 2.4, 2.5, 2.5.1, 2.6"),
        (["PDI"], "HL7 2.5.1 has no 'PDI'; did you mean PID?"),
        (["PDI-3"], "did you mean PID?"),
        (["ADT_A1"], "did you mean ADT_A"),
        (["--table", "9999"], "HL7 2.5.1 has no table 9999"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(
    capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert says in told(capsys, *words, code=main.FINDINGS)


def test_nearest_version_is_used_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.invoke(["explain", "PID-3", "--version", "2.9"]) == 0
    assert "this is 2.8.2" in capsys.readouterr().err
    assert "there is no version '3'" in told(capsys, "PID", "--version", "3", code=main.USAGE)


def test_one_thing_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "name one thing" in told(capsys, code=main.USAGE)
    assert "name one thing" in told(capsys, "PID", "--table", "0001", code=main.USAGE)
