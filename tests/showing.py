"""This module runs `handoff show --channel` in a project whose channels take flat files."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from console.cli.main import invoke
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
