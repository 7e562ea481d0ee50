"""This module is a FHIR server for tests that is searched by the time of change; it shares no code with the product.

Source: FHIR R4 search.html and http.html#paging. How it pages and what it leaves out can be chosen, as servers differ.
"""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

BEGAN = dt.datetime(2026, 3, 18, 14, 15, tzinfo=dt.UTC)


@dataclass
class Shelf:
    """Resources in memory, and how they are given.

    ``sorts`` says whether _sort is heeded, ``claims`` whether the self link says so, ``heeds`` whether _lastUpdated is;
    ``links`` whether there are links to next pages; ``extra`` are entries that every page has besides.
    """

    sorts: bool = True
    claims: bool = True
    heeds: bool = True
    links: bool = True
    most: int = 1000  # of one page
    extra: list[dict[str, Any]] = field(default_factory=list)
    refuses: list[web.Response] = field(default_factory=list)  # what the next requests are answered with instead
    following: str = ""  # where links to the next page lead instead
    total: int | None = None  # what it says that it found, where that is not so
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[web.Request] = field(default_factory=list)
    base: str = ""
    _runner: web.AppRunner | None = None

    def put(self, name: str, at: float = 0.0, *, version: str = "1", **more: Any) -> None:
        """Write an Observation as it was changed so many seconds after the beginning, behind all others."""
        meta = {"lastUpdated": (BEGAN + dt.timedelta(seconds=at)).isoformat(timespec="milliseconds")}
        if version:
            meta["versionId"] = version
        self.kept.pop(name, None)
        self.kept[name] = {
            "resourceType": "Observation",
            "id": name,
            "meta": meta,
            "status": "final",
            "code": {"text": "Weight"},
            **more,
        }

    async def start(self, port: int = 0) -> None:
        """Listen on a port of 127.0.0.1."""
        app = web.Application()
        app.router.add_get("/fhir/Observation", self._search)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}/fhir"

    async def stop(self) -> None:
        """Close the port."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _search(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if self.refuses:
            return self.refuses.pop(0)
        query = dict(request.query)
        found = [each for each in self.kept.values() if self._matches(each, query.get("_lastUpdated", ""))]
        if self.sorts and query.get("_sort") == "_lastUpdated":
            found.sort(key=lambda each: str(each["meta"].get("lastUpdated")))
        offset, count = int(query.pop("offset", "0")), min(int(query["_count"]), self.most)
        links = [{"relation": "self", "url": f"{self.base}/Observation?{urlencode(self._heeded(query))}"}]
        if self.links and offset + count < len(found):
            more = urlencode({**query, "offset": offset + count})
            links.append({"relation": "next", "url": self.following or f"{self.base}/Observation?{more}"})
        entries = [{"resource": each, "search": {"mode": "match"}} for each in found[offset : offset + count]]
        total = len(found) if self.total is None else self.total
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": total, "link": links}
        return web.json_response({**bundle, "entry": [*entries, *self.extra]}, content_type="application/fhir+json")

    def _heeded(self, query: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in query.items() if name != "_sort" or self.claims}

    def _matches(self, resource: dict[str, Any], since: str) -> bool:
        if not (since and self.heeds and "lastUpdated" in resource["meta"]):
            return True
        assert since.startswith("ge")
        return dt.datetime.fromisoformat(resource["meta"]["lastUpdated"]) >= dt.datetime.fromisoformat(since[2:])
