"""Holidays may stand in a file of their own; every mistake in it is found with its place, before anything runs."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from config.check import check
from config.findings import Finding
from config.settings import load

CHANNEL = """\
channel: nightly
listen:
  timer:
    schedule: {{every: 1h, holidays: {holidays}}}
format: {{json: {{}}}}
deliver:
  out: {{files: {{folder: out, name: a.txt, content: a}}}}
"""
DATES = [dt.date(2026, 12, 25), dt.date(2027, 1, 1)]


class Site:
    """A folder of configuration with one channel on a schedule."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "channels").mkdir()
        (folder / "out").mkdir()
        (folder / "handoff.yaml").write_text("sandbox: {enabled: false}\n")

    def check(self, holidays: str) -> tuple[Any, list[Finding]]:
        """Return the channel's plan (None where it has mistakes), and what was found."""
        (self.folder / "channels" / "nightly.yaml").write_text(CHANNEL.format(holidays=holidays))
        checked = check(load(self.folder / "handoff.yaml", environment={}))
        return (checked.channels[0] if checked.channels else None), list(checked.findings)

    def dates(self, holidays: str) -> list[dt.date]:
        """Return the holidays of a schedule that has no mistakes."""
        plan, findings = self.check(holidays)
        assert not findings
        found: list[dt.date] = plan.listen.spec.schedule.holidays
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("days.txt", "# of the hospital\n\n2026-12-25  # Christmas\r\n  2027-01-01\n2026-12-25\n"),
        ("days", "\ufeff2026-12-25\n2027-01-01"),
        ("days.yaml", "# of the hospital\n- 2026-12-25  # Christmas\n- 2027-01-01\n"),
        ("days.yml", '["2026-12-25", 2027-01-01]\n'),
    ],
)
def test_dates_come_from_a_file(site: Site, name: str, text: str) -> None:
    (site.folder / name).write_text(text, newline="")
    assert site.dates(name) == DATES
    assert site.dates(str(site.folder / name)) == DATES
    assert site.dates("[2026-12-25, 2027-01-01]") == DATES


def test_changed_file_is_another_revision(site: Site) -> None:
    (site.folder / "days.txt").write_text("2026-12-25\n")
    before = site.check("days.txt")[0].revision
    (site.folder / "days.txt").write_text("2026-12-25 # with a comment\n")
    assert site.check("days.txt")[0].revision == before
    (site.folder / "days.txt").write_text("2026-12-26\n")
    assert site.check("days.txt")[0].revision != before


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("days.txt", "2026-12-25\n\n  25.12.2026 # no\n", [(3, 3, 13, "E107", '"25.12.2026"')]),
        ("days.txt", "2026-02-30\n2026-12-25 Christmas\n", [(1, 1, 11, "E107", "2026-02-30"), (2, 1, 21, "E107", "")]),
        ("days.yaml", "- 2026-12-25\n- 20261226\n", [(2, 3, 11, "E107", "the number 20261226")]),
        ("days.yaml", "- 2026-12-25\n- a: 1\n", [(2, 3, 4, "E107", "keys and values")]),
        ("days.yaml", "christmas: 2026-12-25\n", [(1, 1, 2, "E106", "a list of dates; found keys and values")]),
        ("days.yaml", "- [2026-12-25\n", [(1, 3, 4, "E101", "")]),
        ("days.txt", "2026-12-25\n" * 25_000, [(0, 0, 0, "E109", "more than 262144 bytes")]),
    ],
)
def test_mistakes_are_found_where_they_are(site: Site, name: str, text: str, found: list[Any]) -> None:
    path = site.folder / name
    path.write_text(text)
    plan, findings = site.check(name)
    assert plan is None
    assert [(one.line, one.column, one.end, one.code) for one in findings] == [one[:4] for one in found]
    assert all(Path(one.path).name == name for one in findings)
    assert all(expected[4] in one.text for one, expected in zip(findings, found, strict=True))


def test_file_that_cannot_be_read_is_found_where_it_is_named(site: Site) -> None:
    (site.folder / "folder").mkdir()
    (site.folder / "latin.txt").write_bytes(b"2026-12-25 # No\xebl\n")
    for name, why in (("days.txt", "No such file or directory"), ("folder", "Is a directory"), ('"a\\0b"', "no name")):
        plan, (finding,) = site.check(name)
        assert plan is None
        assert (finding.code, finding.line, finding.column) == ("E109", 4, 37)
        assert why in finding.text
        assert Path(finding.path).name == "nightly.yaml"
    _, (finding,) = site.check("latin.txt")
    assert (finding.code, finding.text) == ("E109", "this file is not UTF-8")


def test_single_date_is_still_no_list(site: Site) -> None:
    _, (finding,) = site.check("2026-12-25")
    assert (finding.code, finding.line) == ("E106", 4)
