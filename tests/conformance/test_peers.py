"""Other people's files are read as they, and peers, say they should be, or refused with a place and a reason."""

import re
from functools import partial
from pathlib import Path

import pytest

from tests.conformance import peers
from tests.conformance.explained import VERDICTS
from tests.pace import within

PAGE = Path(__file__).parents[2] / "docs/reference/verdicts.md"
needs_data = pytest.mark.skipif(not peers.DATA.is_dir(), reason="needs ../shared/data, which is not here")


@needs_data
def test_no_file_crashes_or_loses_bytes_or_is_refused_without_a_reason() -> None:
    for group in (peers.hl7_files(), peers.fhir_files()):
        assert not group.outcomes["crashed"], group.notes
        assert not group.outcomes["wrong"], group.notes
        assert group.outcomes["read right"] > group.outcomes["refused right"]


@needs_data
@pytest.mark.parametrize("peer", ["hapi", "python-hl7"])
def test_values_are_those_that_peers_read(peer: str) -> None:
    outcomes = peers.values(peer).outcomes
    assert outcomes.total() > 90_000
    assert outcomes["read right"] / outcomes.total() >= 0.999


@needs_data
def test_every_verdict_that_differs_from_a_peer_is_explained() -> None:
    group = peers.verdicts()
    assert not group.outcomes["wrong"], group.notes


@needs_data
def test_wire_cases_give_their_frames_and_never_merge_two() -> None:
    group = peers.mllp_cases()
    assert group.outcomes["read right"] >= 30
    assert not group.outcomes["wrong"], group.notes


@needs_data
def test_no_file_takes_longer_than_a_second() -> None:
    for file in sorted((peers.DATA / "hl7").glob("*.hl7")):
        assert within(1.0, partial(peers.look, file, peers.Group(""))), file.name


def test_page_says_every_reason_and_no_other() -> None:
    rows = set(re.findall(r"^\| [^|]+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE))
    reasons = {why for pairs in VERDICTS.values() for _, why in pairs}
    assert reasons <= rows
    assert rows - reasons <= {"why", "---"}
