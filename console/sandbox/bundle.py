"""This module works Bundles through as an EHR does: a transaction as one, a batch entry by entry (R4, http.html).

In a transaction, references to the ``fullUrl`` of an entry become references to what that entry became.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

import orjson

from console.sandbox.ehr import Answer, Ehr, Refused, outcome
from console.sandbox.record import Record

_REASONS: Final = {200: "OK", 201: "Created"}
_WRITES: Final = frozenset({"POST", "PUT"})


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry: what it asks for, and what it is called by others; ``name`` is the id that it has or will have."""

    number: int
    method: str
    kind: str
    name: str
    search: str
    full_url: str
    if_match: str
    resource: dict[str, Any]

    @property
    def place(self) -> str:
        return f"Bundle.entry[{self.number}]"


class Bundles:
    """The Bundles that are sent to the practice EHR."""

    def __init__(self, ehr: Ehr, record: Record) -> None:
        self._ehr = ehr
        self._record = record

    def take(self, base: str, body: bytes, *, request_id: str = "") -> Answer:
        """Do what a transaction or batch asks for; a transaction that cannot be done changes nothing."""
        bundle = _readable(body)
        entries = [_read(number, entry) for number, entry in enumerate(bundle.get("entry") or [])]
        if bundle["type"] == "batch":
            answers = [self._alone(base, entry, request_id) for entry in entries]
        else:
            with self._record.together():
                answers = self._together(base, entries, request_id)
        response = {"resourceType": "Bundle", "type": f"{bundle['type']}-response"}
        return Answer(200, response | ({"entry": answers} if answers else {}), {})

    def _together(self, base: str, entries: list[_Entry], request_id: str) -> list[dict[str, Any]]:
        first = int(self._record.next_id())  # every write takes one, so nobody else gets these
        named = [self._named(entry, str(first + number)) for number, entry in enumerate(entries)]
        targets = [(entry.kind, entry.name) for entry in named]
        if len(set(targets)) < len(targets):
            raise Refused(400, "invalid", "two entries write the same resource")
        links = {entry.full_url: f"{entry.kind}/{entry.name}" for entry in named if entry.full_url}
        linked = [replace(entry, resource=_relinked(entry.resource, links)) for entry in named]
        return [_told(self._write(base, entry, request_id)) for entry in linked]

    def _named(self, entry: _Entry, fresh: str) -> _Entry:
        """Say which resource an entry is about, before any of them is written."""
        try:
            found = self._ehr.matches(entry.kind, entry.search) if entry.search else []
        except Refused as refused:
            raise Refused(refused.status, refused.code, refused.text, [entry.place]) from None
        if len(found) > 1:
            raise Refused(412, "multiple-matches", "the search matches several resources", [entry.place])
        return replace(entry, name=entry.name or (found[0] if found else fresh))

    def _write(self, base: str, entry: _Entry, request_id: str) -> Answer:
        ehr, kind = self._ehr, entry.kind
        given = {"if_match": entry.if_match, "request_id": request_id}
        try:
            if entry.method == "POST":
                body = orjson.dumps(entry.resource)
                return ehr.create(base, kind, body, if_none_exist=entry.search, request_id=request_id, name=entry.name)
            if entry.search:
                return ehr.conditional_update(
                    base, kind, entry.search, orjson.dumps(entry.resource), name=entry.name, **given
                )
            return ehr.update(base, kind, entry.name, orjson.dumps(entry.resource), **given)
        except Refused as refused:
            places = [f"{entry.place}.resource.{place.partition('.')[2]}" for place in refused.places]
            raise Refused(refused.status, refused.code, refused.text, places or [entry.place]) from None

    def _alone(self, base: str, entry: _Entry, request_id: str) -> dict[str, Any]:
        try:
            return _told(self._write(base, entry, request_id))
        except Refused as refused:
            said = outcome("error", refused.code, refused.text, refused.places)
            return {"response": {"status": str(refused.status), "outcome": said}}


def _readable(body: bytes) -> dict[str, Any]:
    try:
        bundle = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(400, "structure", "the body is not JSON") from None
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise Refused(400, "invalid", "only a Bundle may be sent to the base address", ["Bundle.resourceType"])
    if bundle.get("type") not in {"transaction", "batch"}:
        raise Refused(400, "invalid", "the Bundle has to be a transaction or a batch", ["Bundle.type"])
    if not isinstance(bundle.get("entry") or [], list):
        raise Refused(400, "structure", "entry has to be a list", ["Bundle.entry"])
    return bundle


def _read(number: int, entry: Any) -> _Entry:
    place = f"Bundle.entry[{number}]"
    request = entry.get("request") if isinstance(entry, dict) else None
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(request, dict) or not isinstance(resource, dict):
        raise Refused(400, "required", "every entry needs a request and a resource", [place])
    method = str(request.get("method"))
    path, _, query = str(request.get("url", "")).partition("?")
    kind, _, name = path.partition("/")
    if method not in _WRITES or (method == "PUT" and not name and not query) or (method == "POST" and (name or query)):
        text = "this server takes POST of a type, and PUT of an id or a search, in a Bundle"
        raise Refused(400, "not-supported", text, [f"{place}.request"])
    search = query if method == "PUT" else str(request.get("ifNoneExist", ""))
    return _Entry(
        number,
        method,
        kind,
        unquote(name),
        search,
        str(entry.get("fullUrl", "")),
        str(request.get("ifMatch", "")),
        resource,
    )


def _relinked(value: Any, links: dict[str, str]) -> Any:
    """Return a value in which references to other entries name what those became."""
    if isinstance(value, dict):
        return {key: _relinked_member(key, inner, links) for key, inner in value.items()}
    return [_relinked(inner, links) for inner in value] if isinstance(value, list) else value


def _relinked_member(key: str, value: Any, links: dict[str, str]) -> Any:
    return links.get(value, value) if key == "reference" and isinstance(value, str) else _relinked(value, links)


def _told(answer: Answer) -> dict[str, Any]:
    return {"response": dict(_response(answer))}


def _response(answer: Answer) -> Iterator[tuple[str, str]]:
    yield "status", f"{answer.status} {_REASONS[answer.status]}"
    if answer.resource and answer.resource.get("id"):
        version = answer.resource["meta"]["versionId"]
        yield "location", f"{answer.resource['resourceType']}/{answer.resource['id']}/_history/{version}"
        yield "lastModified", answer.resource["meta"]["lastUpdated"]
    if "ETag" in answer.headers:
        yield "etag", answer.headers["ETag"]
