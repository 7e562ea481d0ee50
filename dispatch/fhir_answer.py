"""This module reads what a FHIR server answers: which resource it names, and what an answer means for a delivery.

Servers put patient data into ``OperationOutcome.issue.diagnostics`` and ``details``; reasons are made of codes only.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from dispatch.http import Answer, Failure, by_status, retry_after

# FHIR issue-type codes with which a server says that it did nothing and another time may work …
_NOT_NOW: Final = frozenset({"transient", "lock-error", "no-store", "throttled"})
# … that something took too long or broke down, so with a 5xx nobody knows how far it got …
_BROKE: Final = frozenset({"exception", "timeout", "incomplete"})
# … and that these bytes can never be right, whatever the status (Cerner answers 500 with `required`).
_NEVER: Final = frozenset(
    {"invalid", "structure", "required", "value", "invariant", "not-supported", "duplicate", "multiple-matches"}
    | {"too-long", "code-invalid", "extension", "business-rule"}
)

_REFERENCE: Final = re.compile(r"(?:^|/)([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/([A-Za-z0-9.-]{1,64}))?$")
_ETAG: Final = re.compile(r'(?:W/)?"([A-Za-z0-9.-]{1,64})"')
_MOST_ISSUES: Final = 20  # of one answer that are looked at
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_CODE: Final = re.compile(r"[a-z-]{1,40}")
_PATH: Final = re.compile(r"[A-Z][A-Za-z]+(\.[A-Za-z]+(\[\d+\])?){1,8}")


@dataclass(frozen=True, slots=True)
class Match:
    """A resource on the server: its id and, where it says so, its version."""

    name: str
    version: str = ""

    def reference(self, kind: str) -> str:
        """Return ``Patient/123`` or ``Patient/123/_history/1``."""
        return f"{kind}/{self.name}" + (f"/_history/{self.version}" if self.version else "")


def named(answer: Answer, kind: str) -> Match | None:
    """Return the resource that an answer names, by ``Location``, by its body, or by ``Content-Location``."""
    version = _ETAG.fullmatch(answer.headers.get("etag", ""))
    for header in ("location", "content-location"):
        found = _REFERENCE.search(answer.headers.get(header, ""))
        if found and found[1] == kind:
            return Match(found[2], found[3] or (version[1] if version else ""))
    body = _match(answer.json_object(), kind)
    if body and not body.version and version:
        return Match(body.name, version[1])
    return body


def read_matches(answer: Answer, peer: str, kind: str) -> Match | Outcome | None:
    """Read a searchset: the one match, None for none, or why it cannot be used (nothing was written)."""
    bundle = answer.json_object()
    if bundle.get("resourceType") != "Bundle":
        return Retry(f"HTTP {answer.status} from {peer} (a search was answered without a Bundle)", response=answer.body)
    entries = [entry for entry in bundle.get("entry") or [] if isinstance(entry, dict)]
    hits = [entry for entry in entries if _mode(entry) in {"", "match"}]
    total = bundle.get("total")
    if len(hits) > 1 or (isinstance(total, int) and total > 1):
        return Rejected(f"{peer}: several match the search; mend them there or the search here", response=answer.body)
    if not hits and not total:
        return None
    found = _match(hits[0].get("resource"), kind) if hits else None
    return found or Retry(f"{peer}: a search counted a match but did not give it", response=answer.body)


def classed(
    answer: Answer | Failure, peer: str, kind: str, now: float, name: str = "", known: Mapping[str, Any] | None = None
) -> Outcome:
    """Class the answer to a write of ``kind``.

    ``name`` is the id that an update was for, ``known`` what the system's own error codes mean
    (`dispatch.ehr_profile.KnownError`).
    """
    if not isinstance(answer, Answer):
        return answer
    said = answer.json_object()
    issues = issues_of(said)
    detail = ", ".join(dict.fromkeys(code for _, code, _ in issues))
    own = next((code for code in _own_codes(said) if code in (known or {})), "")
    if own and known and any(severity in {"error", "fatal"} for severity, _, _ in issues):
        return _by_own_code(answer, f"HTTP {answer.status} from {peer} ({detail}; {own})", known[own], _place(issues))
    if 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
        return _succeeded(answer, peer, kind, name, issues)
    outcome = by_status(answer, peer, now, detail)
    if isinstance(outcome, Retry):
        return outcome
    if answer.status == 401:  # noqa: PLR2004 - RFC 9110 15.5.2
        advice = "the server refused the credentials; mend its entry under `servers:` in handoff.yaml, then replay"
        return Rejected(f"HTTP 401 from {peer}: {advice}", response=answer.body)
    return _by_issues(outcome, {code for _, code, _ in issues}, _place(issues), retry_after(answer.headers, now))


def _by_own_code(answer: Answer, reason: str, error: Any, place: str) -> Outcome:
    """Let the system's own code decide; it knows better than any status."""
    if error.outcome == "delivered":
        return Delivered(response=answer.body)
    if error.outcome == "retry":
        return Retry(f"{reason}: {error.means}", after=error.after, response=answer.body)
    return Rejected(f"{reason}: {error.means}", location=place, response=answer.body)


def _own_codes(outcome: dict[str, Any]) -> Iterator[str]:
    """Give the codes of a system's own that an OperationOutcome holds (``issue.details.coding.code``)."""
    found = outcome.get("issue") if outcome.get("resourceType") == "OperationOutcome" else None
    for issue in found[:_MOST_ISSUES] if isinstance(found, list) else ():
        details = issue.get("details") if isinstance(issue, dict) else None
        codings = details.get("coding") if isinstance(details, dict) else None
        for coding in codings if isinstance(codings, list) else ():
            if isinstance(coding, dict) and isinstance(coding.get("code"), str):
                yield coding["code"]


def _by_issues(outcome: Outcome, codes: set[str], place: str, after: float | None) -> Outcome:
    """Let the codes of an OperationOutcome correct what the status alone said."""
    if isinstance(outcome, Unknown) and codes and codes <= _NEVER:
        return Rejected(outcome.reason, location=place, response=outcome.response)
    if isinstance(outcome, Unknown | Rejected) and codes and codes <= _NOT_NOW:
        return Retry(outcome.reason, after=after, response=outcome.response)
    if isinstance(outcome, Rejected) and codes and codes <= _NOT_NOW | _BROKE:
        return Retry(outcome.reason, after=after, response=outcome.response)
    if isinstance(outcome, Rejected):
        return Rejected(outcome.reason, location=place, response=outcome.response)
    return outcome


def _succeeded(answer: Answer, peer: str, kind: str, name: str, issues: list[tuple[str, str, str]]) -> Outcome:
    reason = f"HTTP {answer.status} from {peer}"
    if any(severity in {"error", "fatal"} for severity, _, _ in issues):
        codes = ", ".join(dict.fromkeys(code for _, code, _ in issues))
        return Unknown(f"{reason} with an error inside ({codes})", response=answer.body)
    if answer.body.strip() and answer.json_object().get("resourceType") not in (kind, "OperationOutcome"):
        return Unknown(f"{reason} with something other than FHIR inside", response=answer.body)
    found = named(answer, kind)
    if found is None and name:
        version = _ETAG.fullmatch(answer.headers.get("etag", ""))
        found = Match(name, version[1] if version else "")
    if found is None and answer.status != 201:  # noqa: PLR2004 - created, RFC 9110 15.3.2
        return Unknown(f"{reason} without naming what was written", response=answer.body)
    return Delivered(reference=found.reference(kind) if found else "", response=answer.body)


def _match(resource: Any, kind: str) -> Match | None:
    if not isinstance(resource, dict) or resource.get("resourceType") != kind:
        return None
    name, meta = resource.get("id"), resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    if not isinstance(name, str) or not _ID.fullmatch(name):
        return None
    return Match(name, version if isinstance(version, str) and _ID.fullmatch(version) else "")


def _mode(entry: dict[str, Any]) -> str:
    search = entry.get("search")
    return str(search.get("mode", "")) if isinstance(search, dict) else ""


def issues_of(outcome: Any) -> list[tuple[str, str, str]]:
    """List (severity, code, expression) of an OperationOutcome's issues; what is not a plain code becomes ``?``."""
    is_outcome = isinstance(outcome, dict) and outcome.get("resourceType") == "OperationOutcome"
    found = outcome.get("issue") if is_outcome else None
    issues = [issue for issue in found if isinstance(issue, dict)] if isinstance(found, list) else []
    return [
        (str(issue.get("severity", "")), _code(issue.get("code")), _expression(issue))
        for issue in issues[:_MOST_ISSUES]
    ]


def reference_in(location: str) -> str:
    """Return ``Patient/123/_history/1`` of an address that ends so, or nothing."""
    found = _REFERENCE.search(location)
    return Match(found[2], found[3] or "").reference(found[1]) if found else ""


def _code(value: Any) -> str:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else "?"


def _expression(issue: dict[str, Any]) -> str:
    """Return the place at fault when it is a plain path; a path with a filter in it may hold a value."""
    places = issue.get("expression") or issue.get("location")
    first = places[0] if isinstance(places, list) and places else ""
    return first if isinstance(first, str) and _PATH.fullmatch(first) else ""


def _place(issues: list[tuple[str, str, str]]) -> str:
    return next((place for _, _, place in issues if place), "")
