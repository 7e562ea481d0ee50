"""This module compares paths, escape sequences and times with what other people's own tests expect of them."""

import json
import re
from datetime import datetime
from functools import cache
from typing import Any, Final

from broker.errors import MessageError
from broker.wire.er7 import Message
from broker.wire.escape import escape, unescape
from broker.wire.header import Separators, separators_of
from tests.conformance.group import DATA, Group
from transforms.times import fhir_datetime

_LEAST: Final = 0.99
_DOTTED: Final = re.compile(r"([A-Z][A-Z0-9]{2})(\d*)\.(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:\.(\d+))?\Z")
_FROM_ZERO: Final = re.compile(r"\((\d+)\)")
# What another parser resolves, and the standard does not: highlighting as underscores.
_HIGHLIGHTED: Final = "\\H\\"
_KEPT: Final = "what stands for no character is kept, and a line break is LF"
_SPELLED: Final = "written otherwise, and read as the same text"


def vectors() -> list[Group]:
    """Compare all of them."""
    return [paths(), escapes(), unescaped(), times()]


def _cases(name: str, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / "expect" / name).read_bytes())[key]
    return found


def paths() -> Group:
    """Compare where paths lead, each written as we write it: theirs say the same with dots, or count from 0."""
    group = Group("paths", _LEAST)
    for case in _cases("paths.json", "assertions"):
        path = case["path"]
        ours = _from_terser(path) if case["path_style"] == "Terser" else _from_dots(path)
        value = Message.parse((DATA / case["file"]).read_bytes()).get(ours)
        group.compare(same=value == (case.get("value") or None), note=f"{path} ({ours})")
    return group


def _from_terser(path: str) -> str:
    return _FROM_ZERO.sub(lambda found: f"({int(found[1]) + 1})", path)


def _from_dots(path: str) -> str:
    """Return ``PID.3.1.2`` (field, repetition, component) as a location."""
    found = _DOTTED.match(path)
    assert found is not None, path
    segment, occurrence, number, repetition, *parts = found.groups()
    place = f"{segment}({occurrence})" if occurrence else segment
    return (
        f"{place}-{number}" + (f"({repetition})" if repetition else "") + "".join(f".{part}" for part in parts if part)
    )


def escapes() -> Group:
    """Compare what escape sequences mean, and how text is written with them."""
    group = Group("escapes")
    for case in _cases("escapes.json", "cases"):
        separators = separators_of(case["encoding_chars"].encode())
        given, expected = case["input"], case["expected"]
        if case["direction"] == "unescape":
            found = unescape(given, separators)
            explained = _KEPT if _HIGHLIGHTED in given and found == given else ""
        else:
            found = escape(given, separators)
            explained = _SPELLED if unescape(found, separators) == given else ""
        if found == expected or not explained:
            group.compare(same=found == expected, note=f"{given!r}: {found!r}, not {expected!r} ({case['source']})")
        else:
            group.add("explained", explained)
    return group


def unescaped() -> Group:
    """Compare the values of the messages, unescaped, with another parser's, which loses what it does not know."""
    group = Group("escapes, against python-hl7")
    for case in _cases("python-hl7-unescape.json", "cases"):
        given, theirs = case["raw"], case["unescaped_by_python_hl7"]
        ours = unescape(given, _separators(case["file"]))
        lost = len(ours) < len(theirs) and "\\X" not in given and "\\.br\\" not in given
        if ours == theirs or lost:
            group.compare(same=not lost, note=f"{case['file']}: {case['name']}-{case['field']}")
        else:
            group.add("explained", _KEPT)
    return group


@cache
def _separators(file: str) -> Separators:
    try:
        return Message.parse((DATA / file).read_bytes()).separators
    except MessageError:
        return Separators()


def times() -> Group:
    """Compare times, as instants or as they stand on the wall."""
    group = Group("times", _LEAST)
    for case in _cases("datetimes.json", "cases"):
        ours = fhir_datetime(case["input"])
        same = ours is not None and datetime.fromisoformat(ours) == datetime.fromisoformat(case["iso"])
        group.compare(same=same, note=case["input"])
    return group
