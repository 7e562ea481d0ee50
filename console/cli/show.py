"""This module lays results out for people: aligned columns, and one message's journey as a timeline."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from broker.passing import passer_of

_MARKS: Final = {
    "processed": "●",
    "delivered": "●",
    "done": "●",
    "filtered": "◐",
    "suppressed": "◐",
    "expired": "◐",
    "cancelled": "◐",
    "discarded": "◐",
    "skipped": "·",
    "waiting": "○",
    "received": "○",
    "sending": "○",
    "failed": "▲",
    "dead": "▲",
    "held": "▲",
}
_DIGITS: Final = 16  # of a fingerprint that are shown; --json has them all


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return aligned columns; numbers stand to the right, None is a dash."""
    lines = [[_cell(value) for value in row] for row in rows]
    numeric = [
        bool(lines) and all(line[place].replace(",", "").isdigit() for line in lines) for place in range(len(heads))
    ]
    widths = [max(len(line[place]) for line in [list(heads), *lines]) for place in range(len(heads))]

    def lay(line: Sequence[str]) -> str:
        cells = zip(line, widths, numeric, strict=True)
        return "  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in cells).rstrip()

    return "\n".join(lay(line) for line in [[head.upper() for head in heads], *lines])


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())


def clock(at: str | None, *, day: bool = True) -> str | None:
    """Return an ISO 8601 time as local time, to the millisecond."""
    if at is None:
        return None
    shown = datetime.fromisoformat(at).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]
    return shown if day else shown[11:]


def milliseconds(since: str, until: str) -> int:
    """Return the time between two ISO 8601 times."""
    return round((datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds() * 1000)


def duration(ms: float) -> str:
    """Return a duration as people say it."""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if ms >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms:.0f} ms"


def journey(found: dict[str, Any]) -> str:
    """Return one message's journey: what it is, how far the steps came, and every delivery with its attempts."""
    title = f"message {found['id']}  {found['channel']}  {found['type']}  control id {found['control_id']}"
    began = found["received_at"]
    lines = [title, f"  {clock(began)}  ● {_received(found)}"]
    if found["processed_at"] is None:
        lines.append(_line(None, "waiting", "waits for its steps"))
    else:
        revision = f"  revision {found['revision'][:12]}" if found["revision"] else ""
        lines.append(_line(milliseconds(began, found["processed_at"]), found["state"], f"{found['state']}{revision}"))
        lines += [f"  {'':23}    {_mark(step['state'])} {step['name']}{_unless_done(step)}" for step in found["steps"]]
        if found["reason"] or found["step"]:
            lines.append(f"  {'':23}    {_why(found)}")
    for delivery in found["deliveries"]:
        lines += _delivery(delivery, began)
        if then := delivery.get("then"):
            lines += [f"    {line}" for line in journey(then).splitlines()]
    return "\n".join(lines)


def _received(found: dict[str, Any]) -> str:
    if found["came_from_id"] is None:
        return f"received from {found['peer'] or 'unknown'}"
    return f"passed on by channel {passer_of(found['peer'])}, message {found['came_from_id']}"


def _delivery(delivery: dict[str, Any], began: str) -> list[str]:
    ended = delivery["done_at"] if delivery["state"] != "waiting" else None
    whose = f", patient {delivery['patient']}" if "patient" in delivery else ""
    text = f"{delivery['destination']}{whose}: {delivery['state']}{_waits(delivery)}"
    lines = [_line(milliseconds(began, ended) if ended else None, delivery["state"], text)]
    for attempt in delivery["attempts"]:
        took = duration(milliseconds(attempt["started_at"], attempt["ended_at"]))
        reason = f": {attempt['reason']}" if attempt["reason"] else ""
        started = clock(attempt["started_at"], day=False)
        lines.append(f"  {'':23}    attempt {attempt['number']} at {started}, {attempt['outcome']} in {took}{reason}")
        if attempt["via"]:
            lines.append(f"  {'':23}      {way(attempt['via'])}")
    for report in delivery.get("reports", ()):
        code = f" (code {report['code']})" if report["code"] else ""
        lines.append(f"  {'':23}    reported {report['state']}{code} at {clock(report['reported_at'])}")
    if delivery["state"] in {"held", "dead"} and not delivery["attempts"]:
        lines.append(f"  {'':23}    {delivery['reason'] or ''}")
    return lines


def way(via: dict[str, str]) -> str:
    """Return whom an attempt reached: ``reached 192.0.2.7:443 (TLSv1.3, CN=ehr.example, SHA-256 3f1c9a…)``."""
    parts = [via["tls"], via["subject"], f"SHA-256 {via['sha256'][:_DIGITS]}…" if via["sha256"] else ""]
    shown = ", ".join(part for part in parts if part)
    return f"reached {via['address']}" + (f" ({shown})" if shown else "")


def _waits(delivery: dict[str, Any]) -> str:
    if delivery["state"] != "waiting":
        return ""
    if delivery["after"]:
        return f", after {delivery['after']}"
    if delivery["due_at"]:
        return f", next attempt at {clock(delivery['due_at'])}"
    return ", behind an earlier message of its lane"


def _line(after: int | None, state: str, text: str) -> str:
    when = f"+{duration(after)}" if after is not None else ""
    return f"  {when:>23}  {_mark(state)} {text}"


def _mark(state: str) -> str:
    return _MARKS.get(state, "?")


def _unless_done(step: dict[str, str]) -> str:
    return "" if step["state"] == "done" else f" ({step['state']})"


def _why(found: dict[str, Any]) -> str:
    place = ", ".join(part for part in (found["step"], found["location"]) if part)
    return f"{place}: {found['reason']}" if found["reason"] else f"at {place}"


def outline(value: Any, indent: int = 0) -> str:
    """Return any JSON value as an indented outline; what is empty is left out."""
    pad = "  " * indent
    if isinstance(value, dict):
        parts = []
        for name, each in value.items():
            if each in (None, "", [], {}):
                continue
            nested = isinstance(each, dict | list)
            parts.append(f"{pad}{name}:\n{outline(each, indent + 1)}" if nested else f"{pad}{name}: {each}")
        return "\n".join(parts)
    if isinstance(value, list):
        return "\n".join(f"{pad}- {outline(each, indent + 1).lstrip()}" for each in value)
    return f"{pad}{value}"
