"""This module reads holidays from the file that a schedule names, so that all channels of a site can share one.

The dates take the place of the file's name in the channel as it was read: they are part of its revision, and a reload
takes up what has changed.
"""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from config.findings import Finding, shown
from config.marks import Keys, Mark, Marks, Source, show
from config.strict_yaml import LARGEST, read_bytes
from config.wording import found

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YAML: Final = frozenset({".yaml", ".yml"})


def put_holidays(tree: Any, marks: Marks, root: Path) -> list[Finding]:
    """Put dates where a channel's schedule names a file of them; return what is wrong with the file.

    A relative path starts at ``root``.
    """
    findings: list[Finding] = []
    for keys, schedule in _schedules(tree):
        name = schedule.get("holidays")
        if not isinstance(name, str) or _DATE.fullmatch(name):
            continue
        schedule["holidays"] = []
        path = root / name
        try:
            data = path.read_bytes()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "no name of a file"
            text = f"{show(keys)} names {found(name)}, which cannot be read ({why})"
            hint = f"write a list of dates, or a file of them; a relative path starts at {shown(root) or '.'}"
            findings.append(marks.value(keys).finding("E109", text, hint))
            continue
        schedule["holidays"] = _dates(path, data, findings)
    return findings


def _schedules(tree: Any) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """Give the schedule of the listener, with the way to its holidays; what is no mapping is reported elsewhere."""
    listen = tree.get("listen") if isinstance(tree, dict) else None
    for kind, options in listen.items() if isinstance(listen, dict) else ():
        schedule = options.get("schedule") if isinstance(options, dict) else None
        if isinstance(schedule, dict):
            yield ("listen", kind, "schedule", "holidays"), schedule


def _dates(path: Path, data: bytes, findings: list[Finding]) -> list[str]:
    written = _in_yaml(path, data, findings) if path.suffix in _YAML else _in_lines(path, data, findings)
    dates: dict[str, None] = {}
    for value, mark in written:
        if isinstance(value, str) and _DATE.fullmatch(value) and _exists(value):
            dates[value] = None
        else:
            text = f"a holiday is a date such as 2026-12-25; found {found(value)}"
            findings.append(mark.finding("E107", text))
    return list(dates)


def _exists(date: str) -> bool:
    try:
        dt.date.fromisoformat(date)
    except ValueError:
        return False
    return True


def _in_yaml(path: Path, data: bytes, findings: list[Finding]) -> Iterator[tuple[Any, Mark]]:
    tree = read_bytes(data, shown(path))
    findings += tree.findings
    if not tree.usable:
        return
    if not isinstance(tree.value, list):
        text = f"a file of holidays is a list of dates; found {found(tree.value)}"
        findings.append(tree.marks.whole.finding("E106", text, "write one to a line: - 2026-12-25"))
        return
    for number, value in enumerate(tree.value):
        yield value, tree.marks.value((number,))


def _in_lines(path: Path, data: bytes, findings: list[Finding]) -> Iterator[tuple[str, Mark]]:
    """Give what stands on each line, but for comments."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
        findings.append(Finding(shown(path), 0, 0, 0, "E109", "this file is not UTF-8"))
    if len(data) > LARGEST:
        findings.append(Finding(shown(path), 0, 0, 0, "E109", f"this file has more than {LARGEST} bytes"))
        return
    source = Source(shown(path), text)
    for line in re.finditer(r"[^\r\n]+", text):
        written = line[0].partition("#")[0].strip()
        if written:
            start = line.start() + line[0].index(written)
            yield written, Mark(source, start, start + len(written))
