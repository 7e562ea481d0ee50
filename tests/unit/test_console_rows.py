"""What a row of a flat file is to a channel: its verdict, its place, and what the channel's steps make of it."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from console.cli.main import invoke
from console.inspection import Asked, inspect
from tests.project import Project

ROSTER: Final = """\
channel: feed
listen:
  files: {folder: inbox}
format:
  csv: {columns: [mrn, dob]}
steps:
  - filter: row.mrn != ''
  - canonical:
      kind: patient.updated
      patient: {mrn: row.mrn, birth_date: "row.dob | date('%m/%d/%Y')"}
  - set: {born: patient.birth_date}
deliver:
  store:
    prm: {}
"""
MEMBERS: Final = """\
channel: members
listen:
  files: {folder: members}
format:
  fixed: {columns: {member: {start: 1, length: 3}, name: {start: 4, length: 6}}}
steps:
  - canonical: {kind: patient.updated, patient: {mrn: row.member, family: row.name}}
deliver:
  store:
    prm: {}
"""
LINES: Final = """\
channel: lines
listen:
  files: {folder: lines}
format: ndjson
steps:
  - canonical: {kind: patient.updated, patient: {mrn: message.mrn, family: message.name.family}}
deliver:
  store:
    prm: {}
"""
ROWS: Final = b'mrn,dob\n7,09/10/1962\n,01/01/2000\n8,31/31/2000\n9\n10,"x\n11,01/02/2003\n'


class Folder:
    """A project with three channels, in which `handoff show` is run."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.project = Project(folder)
        for name, text in {"feed": ROSTER, "members": MEMBERS, "lines": LINES}.items():
            self.project.channel(text, name)
        self.project.channel("channel: adt\nlisten: {mllp: {endpoint: 127.0.0.1:2575}}\n", "adt")
        self.folder = folder
        self._capsys = capsys

    def show(self, name: str, *arguments: str) -> tuple[int, str, str]:
        settings = str(self.folder / "handoff.yaml")
        code = invoke(["--config", settings, "show", str(self.folder / name), *arguments])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def rows(self, name: str, data: bytes, channel: str, *arguments: str) -> list[dict[str, Any]]:
        (self.folder / name).write_bytes(data)
        _, out, err = self.show(name, "--channel", channel, "--json", *arguments)
        assert not err
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path, capsys)


def test_each_row_says_its_line_and_what_the_steps_make_of_it(folder: Folder) -> None:
    rows = folder.rows("a.csv", ROWS, "feed", "--at", "row.mrn", "--at", "born", "--fhir")
    assert {row["file"] for row in rows} == {str(folder.folder / "a.csv")}
    assert [(row["line"], row["verdict"]) for row in rows] == [
        (2, "accepted"),
        (3, "accepted"),
        (4, "refused"),
        (5, "refused"),
        (6, "refused"),
        (7, "accepted"),
    ]
    assert rows[0]["canonical"]["patient"]["birth_date"] == "1962-09-10"
    assert rows[0]["canonical"]["source"]["control_id"] == "a.csv:2"
    assert rows[0]["values"] == {"row.mrn": "7", "born": "1962-09-10"}
    assert [resource["resourceType"] for resource in rows[0]["fhir"]] == ["Patient"]
    assert rows[0]["errors"] == []


def test_row_that_fails_or_is_filtered_says_in_which_step_and_why(folder: Folder) -> None:
    _, filtered, failed, short, unclosed, _ = folder.rows("a.csv", ROWS, "feed", "--at", "row.mrn")
    told = [row["errors"][0] for row in (filtered, failed, short, unclosed)]
    assert [error["location"] for error in told] == ["line 3", "line 4", "line 5", "line 6"]
    assert [error["severity"] for error in told] == ["information", "error", "error", "error"]
    assert told[0]["text"].startswith("filtered by steps.1.filter")
    assert told[1]["text"].startswith("steps.2.canonical: row.dob | date('%m/%d/%Y'): is not a date")
    assert "the row has 1 columns" in told[2]["text"]
    assert (failed["values"], short["values"]) == ({"row.mrn": "8"}, {"row.mrn": None})
    assert {row["canonical"] is None for row in (filtered, failed, short, unclosed)} == {True}


def test_lines_of_fixed_width_and_of_json_are_read_as_their_channels_say(folder: Folder) -> None:
    [first, second] = folder.rows("m.txt", b"007Okafor\n008\n", "members", "--at", "row.name")
    assert (first["kind"], first["canonical"]["patient"]["family"]) == ("fixed", "Okafor")
    assert (second["verdict"], second["line"]) == ("refused", 2)
    data = b'{"mrn": "7", "name": {"family": "Okafor"}}\n{"mrn": 8}\n{no\n'
    first, second, third = folder.rows("l.ndjson", data, "lines", "--at", "message.name.family")
    assert (first["canonical"]["source"]["control_id"], first["values"]) == (
        "l.ndjson:1",
        {"message.name.family": "Okafor"},
    )
    assert (second["verdict"], second["values"]) == ("accepted", {"message.name.family": None})
    assert (third["verdict"], third["errors"][0]["location"]) == ("refused", "line 3")


def test_file_that_cannot_be_read_says_so_in_a_line_of_its_own(folder: Folder) -> None:
    [whole] = folder.rows("a.csv", b"mrn,born\n7,x\n", "feed")
    assert (whole["line"], whole["verdict"], whole["acknowledgment"]) == (None, "refused", "AR")
    assert "no column dob" in whole["errors"][0]["text"]
    assert folder.show("a.csv", "--channel", "feed")[0] == 1


def test_row_that_is_too_long_is_refused_and_the_next_is_read(folder: Folder) -> None:
    folder.project.channel(ROSTER.replace("dob]}", "dob], max_row: 1KiB}"))
    long, after = folder.rows("a.csv", b"mrn,dob\n7," + b"x" * 2000 + b"\n8,09/10/1962\n", "feed")
    assert (long["line"], long["verdict"], after["verdict"]) == (2, "refused", "accepted")
    assert "max_row" in long["errors"][0]["text"]


def test_packed_files_are_read_as_the_listener_does(folder: Folder) -> None:
    [first, *_] = folder.rows("a.csv.gz", gzip.compress(ROWS), "feed")
    assert (first["line"], first["verdict"]) == (2, "accepted")
    with zipfile.ZipFile(folder.folder / "a.zip", "w") as archive:
        archive.writestr("north.csv", ROWS)
    _, out, _ = folder.show("a.zip", "--channel", "feed", "--json")
    assert json.loads(out.splitlines()[0])["file"] == str(folder.folder / "a.zip/north.csv")
    [whole] = folder.rows("a.csv.gz", gzip.compress(ROWS)[:-9], "feed")
    assert (whole["line"], whole["verdict"]) == (None, "refused")


def test_people_see_the_columns_and_the_event(folder: Folder) -> None:
    (folder.folder / "a.csv").write_bytes(ROWS)
    code, out, _ = folder.show("a.csv", "--channel", "feed")
    lines = out.splitlines()
    assert (code, lines[0]) == (1, f"{folder.folder / 'a.csv'}:2  csv  accepted (AA)")
    assert lines[2].split() == ["dob", "09/10/1962"]
    assert '      "kind": "patient.updated",' in lines
    assert any(line.startswith("  error line 4: steps.2.canonical") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--channel", "fed"), 'did you mean "feed"?'),
        (("--channel", "adt"), "takes hl7"),
        (("--channel", "feed", "--at", "rw.mrn"), "did you mean row?"),
        (("--channel", "feed", "--at", "row.mnr"), "mrn"),
    ],
)
def test_slip_of_the_pen_is_a_mistake_of_usage(folder: Folder, arguments: tuple[str, ...], said: str) -> None:
    (folder.folder / "a.csv").write_bytes(ROWS)
    code, out, err = folder.show("a.csv", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_channel_with_a_mistake_says_where_it_is(folder: Folder) -> None:
    folder.project.channel(ROSTER.replace("row.mrn != ''", "rwo.mrn"))
    (folder.folder / "a.csv").write_bytes(ROWS)
    code, _, err = folder.show("a.csv", "--channel", "feed")
    assert code == 2
    assert "feed.yaml:7:" in err


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ROWS, "csv"),
        ("mrn;dob\r\n7;1\r\n".encode("utf-16"), "csv"),
        (b"ISA_NO\tname\n1\tx\n", "csv"),
        (b"007Okafor\n008Nwosu \n", "fixed"),
        (b'{"mrn": 7}\n{"mrn": 8}\n{no\n', "ndjson"),
    ],
)
def test_flat_file_without_a_channel_says_what_to_do(data: bytes, kind: str) -> None:
    found = inspect(data, Asked())
    assert (found.kind, found.verdict) == (kind, "refused")
    assert found.errors[0]["text"].endswith("handoff show FILE --channel NAME")


@pytest.mark.parametrize("data", [b"PID|1|2\rPV1|1|2\r", b"hello", b"hello\nworld, all\n", b"A\r\n"])
def test_what_shows_no_columns_is_taken_for_broken_hl7(data: bytes) -> None:
    assert inspect(data, Asked()).errors[0]["location"] == "MSH"


def test_one_object_of_json_says_what_to_do_too() -> None:
    assert inspect(b'{"mrn": 7}', Asked()).errors[-1]["text"].endswith("--channel NAME")
