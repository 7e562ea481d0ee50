"""This module loads rows by a job of Salesforce's Bulk API 2.0: make it, hand in CSV, close it, wait, read results.

Nothing takes effect before the job is closed, so whatever goes wrong until then may be tried again. Rows are known by
the external id: a job that is repeated updates the same records.
"""

import asyncio
import csv
import io
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson

from broker.delivery import Delivered, Outcome, Retry, Unknown
from dispatch.http import Answer
from dispatch.web.answers import Reader, Verdict, first_code, look, parsed
from dispatch.web.rendering import Frozen

FIRST_LOOK: Final = 1.0  # seconds after which a job is looked at; the wait doubles each time …
LONGEST_LOOK: Final = 10.0  # … up to this

_DONE: Final = frozenset({"JobComplete", "Failed", "Aborted"})

# ask(request) -> the answer, or what came instead of a good one
Ask = Callable[[Frozen], Awaitable[Answer | Verdict]]


async def load(
    ask: Ask, reader: Reader, peer: str, job: Frozen, rows: Sequence[bytes], patience: float
) -> list[Verdict]:
    """Load rows and return what became of each; ``job`` makes the job, which may take ``patience`` seconds."""
    name = await _begin(ask, job, peer, rows)
    if not isinstance(name, str):
        return [name] * len(rows)
    closed = await ask(_on(job, "PATCH", name, b'{"state":"UploadComplete"}'))
    if not isinstance(closed, Answer):
        return [closed] * len(rows)
    state = await _wait(ask, job, name, patience)
    if state not in _DONE:
        return [Unknown(f"{peer}: the job was not done within {patience:g} s")] * len(rows)
    return await _results(ask, reader, peer, job, name, rows)


async def _begin(ask: Ask, job: Frozen, peer: str, rows: Sequence[bytes]) -> str | Verdict:
    """Make a job and hand the rows in; return its name."""
    made = await ask(job)
    if not isinstance(made, Answer):
        return _without_effect(made)
    name = look(parsed(made.body), "id")
    if not isinstance(name, str) or not name.isalnum():
        return Retry(f"HTTP {made.status} from {peer} that names no job", response=made.body)
    upload = _on(job, "PUT", f"{name}/batches", written(rows))
    upload.headers = {**job.headers, "Content-Type": "text/csv"}
    handed = await ask(upload)
    return name if isinstance(handed, Answer) else _without_effect(handed)


def _without_effect(verdict: Verdict) -> Verdict:
    """Turn doubt into another attempt: the job was not closed yet, so no row has been touched."""
    return Retry(f"{verdict.reason} (before the job began)") if isinstance(verdict, Unknown) else verdict


def _on(job: Frozen, method: str, name: str, body: bytes = b"") -> Frozen:
    return Frozen(method, f"{job.path}/{quote(name, safe='/')}", dict(job.headers), body)


async def _wait(ask: Ask, job: Frozen, name: str, patience: float) -> str:
    """Look at a job until it is done; return its last known state."""
    until = time.monotonic() + patience
    pause, state = FIRST_LOOK, ""
    while state not in _DONE and time.monotonic() < until:
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_LOOK)
        answer = await ask(_on(job, "GET", name))
        state = str(look(parsed(answer.body), "state")) if isinstance(answer, Answer) else state
    return state


async def _results(ask: Ask, reader: Reader, peer: str, job: Frozen, name: str, rows: Sequence[bytes]) -> list[Verdict]:
    key = str(look(parsed(job.body), "externalIdFieldName"))
    found: dict[str, Verdict] = {}
    for kind in ("successfulResults", "failedResults"):
        answer = await ask(_on(job, "GET", f"{name}/{kind}"))
        if isinstance(answer, Answer):
            for line in csv.DictReader(io.StringIO(answer.body.decode("utf-8", "replace"), newline="")):
                found[str(line.get(key))] = _result(reader, line)
    lost: Outcome = Unknown(f"{peer}: the job's results do not tell about it")
    return [found.get(_text(orjson.loads(row).get(key)), lost) for row in rows]


def _result(reader: Reader, line: dict[str, Any]) -> Verdict:
    error = line.get("sf__Error")
    if not error:
        return Delivered(reference=str(line.get("sf__Id") or ""))
    code = first_code({"code": error.partition(":")[0]}, ["code"])  # what follows it may hold patient data
    return reader.failed_row(Answer(200), code)


def written(rows: Sequence[bytes]) -> bytes:
    """Return rows (JSON) as CSV with one column for each field; fields of a related record are ``Related.Field``."""
    flat = [_flat(orjson.loads(row)) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in flat)
    return text.getvalue().encode()


def _flat(row: dict[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": _text(each) for inner, each in value.items()}
        else:
            flat[name] = _text(value)
    return flat


def _text(value: Any) -> str:
    if value is None:
        return "#N/A"  # Salesforce's word for an empty field; nothing at all means: leave it as it is
    return str(value).lower() if isinstance(value, bool) else str(value)
