"""What a row of a flat file is to a channel: its verdict, its place, and what its steps make of it in a worker."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.project import SETTINGS
from tests.showing import ROSTER, ROWS, Folder

DANGEROUS: Final = """\
channel: dangerous
listen:
  files: {folder: dangerous}
format:
  csv: {columns: [order, of]}
steps:
  - canonical: {kind: patient.updated, patient: {mrn: row.order}}
  - script: scripts/danger.py:obey
deliver:
  store:
    prm: {}
"""
DANGER: Final = """\
import os

def obey(document):
    order = document.message.get("order")
    while order == "loop":
        pass
    if order == "memory":
        document.values["x"] = bytearray(1 << 40)
    if order == "exit":
        os._exit(3)
    if order == "secret" and "SECRET_OF_OURS" in os.environ:
        raise PermissionError
    return document
"""


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
    assert (third["verdict"], third["errors"][0]["location"]) == ("refused", "line 3, column 2")


def test_file_that_cannot_be_read_says_so_in_a_line_of_its_own(folder: Folder) -> None:
    (folder.folder / "a.csv").write_bytes(b"mrn,born\n7,x\n")
    code, out, _ = folder.show("a.csv", "--channel", "feed", "--json")
    whole = json.loads(out)
    assert code == 1
    assert (whole["line"], whole["verdict"], whole["acknowledgment"]) == (None, "refused", "AR")
    assert "no column dob" in whole["errors"][0]["text"]


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


def test_script_that_loops_or_takes_memory_ends_as_in_the_engine(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "sesame")
    folder.project.channel(DANGEROUS, "dangerous")
    folder.project.write("channels/scripts/danger.py", DANGER)
    folder.project.write("handoff.yaml", f"{SETTINGS}step_deadline: 1s\n")
    orders = ["order", "a", "loop", "memory", "exit", "secret", "b"]
    data = "".join(f"{order},of\n" for order in orders).encode()
    rows = folder.rows("d.csv", data, "dangerous", "--at", "row.order")
    told = [[(error["location"], error["text"]) for error in row["errors"]] for row in rows]
    twice = "twice, at this message"
    assert told == [
        [],
        [("line 3", f"worker: the worker process was killed: a step took longer than 1 s, {twice}")],
        [("line 4", "steps.2.script: scripts/danger.py:obey raised MemoryError at line 8")],
        [("line 5", f"worker: the worker process ended with exit code 3, {twice}")],
        [],
        [],
    ]
    assert [row["values"]["row.order"] for row in rows] == ["a", None, "memory", None, "secret", "b"]
    assert [row["canonical"] is not None for row in rows] == [True, False, True, False, True, True]


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("1 / 0\n", 1, "build: the channel could not be built: danger.py cannot be run: ZeroDivisionError at line 1"),
        ("import os\nos._exit(3)\n", 3, "the worker process ended with exit code 3 while it built the channel"),
    ],
)
def test_script_that_cannot_be_loaded_says_so(folder: Folder, script: str, code: int, said: str) -> None:
    folder.project.channel(DANGEROUS, "dangerous")
    folder.project.write("channels/scripts/danger.py", f"{script}def obey(document):\n    return document\n")
    (folder.folder / "d.csv").write_text("order,of\na,x\n")
    ended, out, err = folder.show("d.csv", "--channel", "dangerous")
    assert ended == code
    assert said in out + err
