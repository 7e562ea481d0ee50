"""This module shows how a channel declares its format, and what is told where it cannot be right."""

from pathlib import Path
from typing import Final

import pytest

from config.build import build_channels, build_program
from config.settings import load
from tests.project import SETTINGS, Project

ROSTER: Final = """\
channel: feed
listen:
  files: {folder: inbox, pattern: "*.csv"}
format:
  csv: {columns: [mrn, dob]}
order: row.mrn
index: {mrn: row.mrn}
steps:
  - filter: row.mrn != ''
  - canonical:
      kind: patient.updated
      patient: {mrn: row.mrn, birth_date: "row.dob | date('%m/%d/%Y')"}
deliver:
  store:
    prm: {}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.channel(ROSTER)
    return made


def test_channel_of_rows_is_sound(project: Project) -> None:
    assert project.told() == []
    [plan] = project.check().channels
    assert (plan.format.kind, plan.listen.kind) == ("csv", "files")


def test_messages_are_hl7_where_nothing_is_said(tmp_path: Path) -> None:
    [plan] = Project(tmp_path).check().channels
    assert plan.format.kind == "hl7"
    assert plan.format.spec.build(plan.listen.charset).kind == "hl7"


def test_row_goes_through_a_program_as_a_worker_builds_it(project: Project) -> None:
    [plan] = project.check().channels
    program = build_program(plan.tree, project.folder / "channels")
    body = b"%row file=a.csv line=2 codec=utf-8 delimiter=%2C\nmrn,dob\n7,09/10/1962\n"
    (state, *_, deliveries), [request] = program.process(body, 0.0)
    assert (state, deliveries) == ("processed", [(0, "7", len(request))])
    assert b"1962-09-10" in request
    assert program.process(body.replace(b"\n7,", b"\n,"), 0.0)[0][0] == "filtered"


def test_listener_is_another_when_the_format_is_another(project: Project) -> None:
    def listens() -> str:
        settings = load(project.folder / "handoff.yaml", environment={})
        [channel] = build_channels(project.check().channels, settings, None, lambda _: None)  # type: ignore[arg-type]
        return channel.listens

    before = listens()
    project.channel(ROSTER.replace("[mrn, dob]", "[dob, mrn]"))
    assert listens() != before


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("csv: {", "cvs: {", 'unknown key "cvs" in format (did you mean "csv"?'),
        ("format:\n  csv: {columns: [mrn, dob]}", "format: cvs", 'there is no format "cvs" (did you mean "csv"?'),
        ("format:\n  csv: {columns: [mrn, dob]}", "format: 3", "format needs one kind of format, such as hl7"),
        ("columns: [mrn, dob]", "colums: [mrn]", 'unknown key "colums" in format.csv (did you mean "columns"?'),
        ("columns: [mrn, dob]", "encoding: klingon", "klingon"),
        ("row.mrn != ''", "row.mnr != ''", "the rows have no column mnr (did you mean mrn?"),
        ("{mrn: row.mrn}\n", "{mrn: PID-3.1}\n", "PID-3.1 is a place in an HL7 message"),
        ("      kind: patient.updated\n", "", "csv has no standard mapping"),
        ("kind: patient.updated", "kind: patient.changed", "patient has no changed"),
        ("date('%m/%d/%Y')", "date('%m/%d/%y')", "either century"),
        ("listen:\n  files: {folder: inbox", "listen:\n  files: {folder: ''", "folder"),
    ],
)
def test_mistake_is_told_at_its_place(project: Project, old: str, new: str, told: str) -> None:
    assert old in ROSTER
    project.channel(ROSTER.replace(old, new, 1))
    found = [line for line in project.told() if "error" in line]
    assert len(found) == 1, found
    assert told in found[0]
    assert not found[0].startswith("feed.yaml:0")


def test_mllp_brings_hl7_only(project: Project) -> None:
    project.channel(ROSTER.replace('files: {folder: inbox, pattern: "*.csv"}', "mllp: {endpoint: 127.0.0.1:2575}"))
    [told] = [line for line in project.told() if "error" in line]
    assert "listen.mllp brings hl7, not csv" in told


def test_two_channels_do_not_read_the_same_files(project: Project) -> None:
    project.channel(ROSTER.replace("channel: feed", "channel: other"), "other")
    [told] = [line for line in project.told() if "error" in line]
    assert "channel feed reads these files already" in told
    project.channel(ROSTER.replace("channel: feed", "channel: other").replace("*.csv", "*.txt"), "other")
    assert project.told() == []


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("files: {folder: inbox}", "files: {folder: ./inbox/, pattern: [a, b]}", "reads these files already"),
        ("files: {folder: in, recursive: true}", "files: {folder: in/sub}", "what is below its folder"),
        ("files: {folder: in/sub}", "files: {folder: in, recursive: true}", "a folder in it"),
        ("files: {folder: in}", "files: {folder: in/sub}", ""),
        ("files: {folder: in, pattern: '*.a'}", "files: {folder: in, pattern: '*.b'}", ""),
        ("files: {folder: /in}", "sftp: {place: partner, folder: /in}", ""),
        ("files: {folder: /in}", "sftp: {place: partnr, folder: /in}", 'did you mean "partner"'),
        ("s3: {place: store, prefix: in/}", "sftp: {place: store, folder: out}", "which is no SFTP server"),
        ("files: {folder: /in}", "s3: {place: partner, prefix: in/}", "which is no bucket of handoff.yaml"),
        ("s3: {place: store, prefix: in/}", "s3: {place: store, prefix: in/}", "listen.s3.prefix: channel feed reads"),
        ("s3: {place: store, recursive: true}", "s3: {place: store, prefix: in/}", "what is below its folder"),
        ("s3: {place: store}", "s3: {place: store, prefix: in/}", ""),
    ],
)
def test_folders_of_channels_keep_apart(project: Project, one: str, other: str, told: str) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIq2QgnZg2dYuHzlSpcT2EvnCD2HTDX2RRRQDNCBn2wM"
    place = f"  partner: {{sftp: {{host: h, user: u, password: '${{env:T:-sandbox}}', host_key: {key}}}}}\n"
    place += "  store: {s3: {base: 'https://s3.example', bucket: inbox, access_key: A, secret: '${env:T:-sandbox}'}}\n"
    project.write("handoff.yaml", f"{SETTINGS}places:\n{place}")
    mine = 'files: {folder: inbox, pattern: "*.csv"}'
    project.channel(ROSTER.replace(mine, one))
    project.channel(ROSTER.replace(mine, other).replace("channel: feed", "channel: other"), "other")
    found = [line for line in project.told() if "error" in line]
    assert len(found) == bool(told), found
    assert told in "".join(found)
