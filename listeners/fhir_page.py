"""This module reads one page of a FHIR search: what it found, where the next one is, and what the server says of it.

Source: FHIR R4, search.html (3.1.1.3, Bundle.link; 3.1.1.4 ``search.mode``) and http.html#paging.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from broker.errors import MessageError
from broker.wire.strict_json import read_json
from listeners.fhir_answers import dump
from listeners.fhir_version import version_key

LARGEST: Final = 16 * 1024**2  # bytes of a page
SORT: Final = ("_sort", "_lastUpdated")

_BAD: Final = frozenset({"error", "fatal"})
_MOST_REMARKS: Final = 20


@dataclass(frozen=True, slots=True)
class Found:
    """One resource of a page; ``changed`` is when that was, for what the search was for and where it is said.

    ``url`` is what the server calls it by (``fullUrl``), and may be empty.
    """

    body: bytes = field(repr=False)
    key: bytes = field(repr=False)
    resource: dict[str, Any] = field(repr=False)
    url: str = field(default="", repr=False)
    changed: dt.datetime | None = None
    is_match: bool = True  # and not brought along by an include


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer to a search holds; ``following`` is the link to the next one, and empty on the last."""

    found: Sequence[Found]
    following: str = field(default="", repr=False)
    says_sorted: bool = False  # by the server: it names the parameters that it heeded
    total: int | None = None  # matches on all pages of the search, where that is said
    remarks: Sequence[str] = ()  # codes of OperationOutcome entries

    @property
    def moments(self) -> Sequence[dt.datetime | None]:
        """When what the search was for was changed, in the order of the page."""
        return [found.changed for found in self.found if found.is_match]


class NoPage(Exception):
    """The answer is not what a search gives; the text says why, without a value."""


def read_page(data: bytes, server: str) -> Page:
    """Read what a server answered a search with; raise `NoPage`."""
    try:
        bundle = read_json(data, largest=LARGEST)
    except MessageError as error:
        raise NoPage(f"its answer to the search cannot be read ({error}); a smaller `page` may help") from None
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise NoPage("it answered the search with something other than a Bundle")
    entries = [entry for entry in _list(bundle.get("entry")) if isinstance(entry.get("resource"), dict)]
    outcomes = [entry["resource"] for entry in entries if _is_outcome(entry)]
    issues = [issue for outcome in outcomes for issue in _list(outcome.get("issue"))]
    if bad := [_code(issue) for issue in issues if issue.get("severity") in _BAD]:
        raise NoPage(f"it says that its answer to the search is not whole ({', '.join(dict.fromkeys(bad))})")
    links = {str(link.get("relation")): str(link.get("url") or "") for link in _list(bundle.get("link"))}
    return Page(
        [_found(entry, server) for entry in entries if not _is_outcome(entry)],
        links.get("next", ""),
        SORT in parse_qsl(urlsplit(links.get("self", "")).query),
        total if isinstance(total := bundle.get("total"), int) else None,
        tuple(dict.fromkeys(_code(issue) for issue in issues))[:_MOST_REMARKS],
    )


def _list(value: Any) -> Sequence[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _mode(entry: dict[str, Any]) -> str:
    search = entry.get("search")
    return str(search.get("mode") or "match") if isinstance(search, dict) else "match"


def _is_outcome(entry: dict[str, Any]) -> bool:
    return _mode(entry) == "outcome" or entry["resource"].get("resourceType") == "OperationOutcome"


def _code(issue: dict[str, Any]) -> str:
    code = issue.get("code")
    return code if isinstance(code, str) and code.replace("-", "").isalpha() and code.isascii() else "?"


def _found(entry: dict[str, Any], server: str) -> Found:
    resource, is_match = entry["resource"], _mode(entry) == "match"
    body = dump(resource)
    url = entry.get("fullUrl")
    return Found(
        body,
        version_key(resource, body, server),
        resource,
        url if isinstance(url, str) else "",
        _changed(resource) if is_match else None,
        is_match,
    )


def _changed(resource: dict[str, Any]) -> dt.datetime | None:
    meta = resource.get("meta")
    try:
        moment = dt.datetime.fromisoformat(meta["lastUpdated"] if isinstance(meta, dict) else "")
    except (KeyError, TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None  # an instant has an offset


def are_in_order(moments: Sequence[dt.datetime | None], after: dt.datetime | None) -> bool:
    """Say whether all of these are known, none is before the one in front of it, and the first is not before one."""
    known = [moment for moment in (after, *moments) if moment is not None]
    is_whole = len(known) == len(moments) + (after is not None)
    return is_whole and all(first <= second for first, second in pairwise(known))
