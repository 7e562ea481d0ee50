"""Other people's files are read as they, and peers, say they should be, or refused with a place and a reason."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.conformance import peers
from tests.conformance.essentials import essentials
from tests.conformance.explained import VERDICTS
from tests.conformance.flat_files import flat_files
from tests.conformance.group import DATA, Group
from tests.conformance.vectors import vectors
from tests.pace import within

PAGE = Path(__file__).parents[2] / "docs/reference/verdicts.md"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data, which is not here")


# What is compared, and the least of it: a group that compares less than it did is no success.
GROUPS: Final[dict[str, tuple[Callable[[], list[Group]], int]]] = {
    "hl7": (lambda: [peers.hl7_files()], 392),
    "fhir": (lambda: [peers.fhir_files()], 78),
    "flat": (lambda: [flat_files()], 11),
    "mllp": (lambda: [peers.mllp_cases()], 40),
    "hapi": (lambda: [peers.values("hapi")], 90_000),
    "python-hl7": (lambda: [peers.values("python-hl7")], 90_000),
    "vectors": (vectors, 180),
    "essentials": (essentials, 1900),
    "verdicts": (peers.verdicts, 800),
}


@needs_data
@pytest.mark.parametrize("name", GROUPS)
def test_group_meets_its_target(name: str) -> None:
    measure, least = GROUPS[name]
    groups = measure()
    assert all(group.is_met for group in groups), [(group.row(), group.notes[:20]) for group in groups]
    assert sum(group.outcomes.total() for group in groups) >= least


def test_group_that_misses_its_target_or_crashes_or_compares_nothing_is_told() -> None:
    group = Group("some", 0.9)
    assert not group.is_met
    for same in [True] * 9 + [False]:
        group.compare(same=same, note="one")
    assert (group.is_met, group.notes) == (True, ["one"])
    group.add("crashed")
    assert not group.is_met
    assert "MISSED" in group.row()


def test_command_ends_with_1_where_a_target_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = Group("good"), Group("bad")
    good.compare(same=True, note="")
    bad.compare(same=False, note="PID-3")
    monkeypatch.setattr(peers, "DATA", tmp_path)
    for groups, code in ([good], 0), ([good, bad], 1):
        monkeypatch.setattr(peers, "measure", lambda groups=groups: groups)
        assert peers.main() == code
    assert "  bad: PID-3\n" in capsys.readouterr().out


@needs_data
def test_no_file_takes_longer_than_a_second() -> None:
    for file in sorted((DATA / "hl7").glob("*.hl7")):
        assert within(1.0, partial(peers.look, file, Group(""))), file.name


def test_page_says_every_reason_and_no_other() -> None:
    rows = set(re.findall(r"^\| [^|]+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE))
    reasons = {why for pairs in VERDICTS.values() for _, why in pairs}
    assert reasons <= rows
    assert rows - reasons <= {"why", "---"}
