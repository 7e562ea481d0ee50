"""This module reads what a server answers to a Bundle that it worked through: one transaction, or a batch of many.

A transaction is all or nothing, and its status says which. A batch is answered with 200 whatever became of its entries
(FHIR R4 http.html#transaction-response), so each of them is looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.delivery import Delivered, Outcome, Rejected, Unknown
from dispatch.fhir_answer import issues_of, reference_in
from dispatch.http import Answer

BUNDLE: Final = "Bundle"
KINDS: Final = ("transaction", "batch")  # types of a Bundle that ask a server to do something

_LATER: Final = frozenset({408, 425, 429})
_STATUS: Final = re.compile(r"([1-5]\d\d)(?!\d)")


@dataclass(frozen=True, slots=True)
class _Entry:
    """What became of one entry; 0 is a status that was not told."""

    status: int
    reference: str
    codes: tuple[str, ...]


def bundle_outcome(answer: Answer, peer: str, kind: str, sent: int) -> Outcome:
    """Class the answer 200 to a Bundle of ``sent`` entries, ``kind`` of which is transaction or batch."""
    entries = _entries(answer, kind)
    if entries is None:
        return Unknown(f"HTTP 200 from {peer} with something other than a {kind}-response inside", response=answer.body)
    if sent and len(entries) != sent:
        reason = f"HTTP 200 from {peer} (of {sent} entries {len(entries)} were answered)"
        return Unknown(reason, response=answer.body)
    failed = [number for number, entry in enumerate(entries) if not 200 <= entry.status < 300]  # noqa: PLR2004 - success
    if not failed:
        return Delivered(reference=_named(entries), response=answer.body)
    return _failed(answer, peer, entries, failed)


def _failed(answer: Answer, peer: str, entries: Sequence[_Entry], failed: Sequence[int]) -> Outcome:
    codes = list(dict.fromkeys(code for number in failed for code in entries[number].codes))
    statuses = list(dict.fromkeys(str(entries[number].status or "?") for number in failed))
    said = ", ".join([*(f"HTTP {status}" for status in statuses), *codes])
    reason = f"{peer}: {len(failed)} of {len(entries)} entries were not written ({said})"
    place = f"Bundle.entry[{failed[0]}]"
    if all(_is_refused(entries[number].status) for number in failed):
        return Rejected(reason, location=place, response=answer.body)
    return Unknown(reason, response=answer.body)  # others of the batch took effect, so it is no plain "try again"


def _is_refused(status: int) -> bool:
    return 400 <= status < 500 and status not in _LATER  # noqa: PLR2004 - RFC 9110 15.5


def _entries(answer: Answer, kind: str) -> list[_Entry] | None:
    bundle = answer.json_object()
    if bundle.get("type") != f"{kind}-response":
        return None
    found = bundle.get("entry") or []
    return [_entry(one) for one in found] if isinstance(found, list) else None


def _entry(entry: Any) -> _Entry:
    response = entry.get("response") if isinstance(entry, dict) else None
    said: dict[str, Any] = response if isinstance(response, dict) else {}
    status = _STATUS.match(str(said.get("status", "")))
    issues = issues_of(said.get("outcome"))
    return _Entry(
        int(status[1]) if status else 0,
        reference_in(str(said.get("location", ""))),
        tuple(code for _, code, _ in issues),
    )


def _named(entries: Sequence[_Entry]) -> str:
    """Return the first resource that was written, and how many more there are."""
    names = [entry.reference for entry in entries if entry.reference]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else ""
