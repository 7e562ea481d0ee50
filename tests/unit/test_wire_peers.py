"""This module compares what is read with what other programs read from the same messages."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from broker.errors import MessageError
from broker.wire.er7 import Message, Segment
from broker.wire.escape import unescape
from broker.wire.header import Separators

DATA = Path(__file__).parents[2] / "../shared/data"


def test_values_agree_with_another_engine_over_the_collection() -> None:
    dumps = [json.loads(path.read_text()) for path in sorted((DATA / "expect/hapi").glob("*.json"))]
    if not dumps:
        pytest.skip("the other engine's dumps (shared/data/expect/hapi) are not here")
    compared, differ = 0, Counter[str]()
    for dump in dumps:
        raw = (DATA / dump["file"]).read_bytes()
        try:
            message = Message.parse(raw, "utf-8" if _is_utf8(raw) else "8859/1")
        except MessageError:
            continue
        theirs = defaultdict(list)
        for segment in dump.get("segments") or []:
            theirs[segment["seg"]].append(segment["f"])
        for name, expected in theirs.items():
            mine = message.segments(name)
            if len(mine) == len(expected):  # it has no wrapped lines, and leaves out what its grammar has no place for
                for segment, fields in zip(mine, expected, strict=True):
                    count, wrong = _compared(segment, fields)
                    compared += count
                    differ[dump["file"]] += wrong
    assert compared > 100_000
    assert differ.total() < 10, {name: count for name, count in differ.items() if count}


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _compared(segment: Segment, fields: dict[str, Any]) -> tuple[int, int]:
    compared = wrong = 0
    for field, repetitions in fields.items():
        for repetition, components in enumerate(repetitions, 1):
            for component, values in enumerate(components, 1):
                for subcomponent, value in enumerate(values if isinstance(values, list) else [values], 1):
                    if isinstance(value, str) and not value.endswith("chars>"):
                        compared += 1
                        mine = segment.get(int(field), component, subcomponent, repetition) or ""
                        wrong += not _same(mine, value)
    return compared, wrong


def _same(mine: str, theirs: str) -> bool:
    """The other engine trims blanks in front, and keeps escapes of line ends."""
    return mine == theirs or mine.lstrip() == unescape(theirs, Separators()).lstrip()


def test_paths_of_other_programs_lead_to_the_same_values() -> None:
    path = DATA / "expect/paths.json"
    if not path.is_file():
        pytest.skip("the path vectors (shared/data/expect/paths.json) are not here")
    compared = 0
    for case in json.loads(path.read_text())["assertions"]:
        # Terser counts repetitions from 0, and the dotted spelling is refused because it can mean two things.
        if case["path_style"] != "Terser" or "(" in case["path"]:
            continue
        message = Message.parse((DATA / case["file"]).read_bytes())
        assert message.get(case["path"]) == (case["value"] or None), case["path"]
        compared += 1
    assert compared >= 4


def test_no_text_is_lost_where_another_parser_loses_some() -> None:
    path = DATA / "expect/python-hl7-unescape.json"
    if not path.is_file():
        pytest.skip("the escape vectors (shared/data/expect/python-hl7-unescape.json) are not here")
    cases = json.loads(path.read_text())["cases"]
    same = sum(unescape(case["raw"], Separators()) == case["unescaped_by_python_hl7"] for case in cases)
    shorter = [
        number
        for number, case in enumerate(cases)
        if len(unescape(case["raw"], Separators())) < len(case["unescaped_by_python_hl7"])
        and "\\X" not in case["raw"]
        and "\\.br\\" not in case["raw"]
    ]
    assert not shorter
    assert same > len(cases) // 3
