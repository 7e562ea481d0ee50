"""This module serves what needs no token: the first page (counts only), its live counters, health and metrics."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from broker.errors import ConfigError, StoreError
from console.report import Report
from console.web.access import refused
from console.web.overview import FASTEST, Overview
from console.web.ports import Engine, Settings
from dispatch.key_folder import jwks

_HERE: Final = Path(__file__).parent
_BEAT: Final = 15.0  # seconds of silence after which a comment keeps the stream alive
_KEYS_FRESH: Final = 3600  # seconds for which a copy of the key set may be used; far less than a new key waits
_DASH: Final = "–"  # noqa: RUF001 - a dash is meant
_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Pages:
    """The answers, over one engine; ``closing`` ends open streams."""

    engine: Engine
    settings: Settings
    report: Report
    overview: Overview
    closing: asyncio.Event
    templates: Environment

    def routes(self) -> list[Route | Mount]:
        """Return the routes."""
        return [
            Route("/", self.first),
            Route("/events", self.events),
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", self.metrics),
            Route("/.well-known/jwks.json", self.jwks),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ]

    async def first(self, _request: Request) -> Response:
        """Show the channels with their counts."""
        page = self.templates.get_template("first.html.j2")
        practice = self.settings.sandbox
        sandbox = f"http://{practice.endpoint}/" if practice.enabled else None
        return HTMLResponse(page.render(picture=await self.overview.current(), sandbox=sandbox))

    async def jwks(self, _request: Request) -> Response:
        """Answer with the public halves of the engine's signing keys (RFC 7517), for EHRs that fetch them."""
        try:
            found = await asyncio.to_thread(jwks, self.settings.data)
        except (ConfigError, OSError):
            return refused(503, "the keys cannot be read; `handoff keys list` says why")
        return JSONResponse(found, headers={"cache-control": f"public, max-age={_KEYS_FRESH}"})

    async def events(self, _request: Request) -> Response:
        """Stream the counts whenever they change, as server-sent events."""
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[bytes]:
        last, told = b"", time.monotonic()
        while not self.closing.is_set():
            shown = orjson.dumps(await self.overview.current())
            if shown != last:
                yield b"event: counters\ndata: " + shown + b"\n\n"
                last, told = shown, time.monotonic()
            elif time.monotonic() - told > _BEAT:
                yield b": still here\n\n"
                told = time.monotonic()
            try:
                await asyncio.wait_for(self.closing.wait(), FASTEST)
            except TimeoutError:
                continue

    async def live(self, _request: Request) -> Response:
        """Say that the loop turns."""
        return JSONResponse({"live": True})

    async def ready(self, _request: Request) -> Response:
        """Say whether messages can be taken: every channel runs, or is paused on purpose, and the store has room.

        Whether partners are there that we go to ourselves says nothing of that.
        """
        channels = {each.channel: each.state for each in self.engine.status()}
        try:
            intake = (await self.overview.current())["intake"]
            store = intake["store_answers"]
        except StoreError:
            intake, store = {"state": "late"}, False
        ready = intake["state"] == "open" and _RUNS.issuperset(channels.values())
        told = {"ready": ready, "store": store, "intake": intake["state"], "channels": channels}
        return JSONResponse(told, 200 if ready else 503)

    async def metrics(self, _request: Request) -> Response:
        """Show every metric in the Prometheus text format."""
        await self.overview.current()
        self.report.metrics.weigh(self.engine.pressure)
        self.report.metrics.note(self.engine.status())
        shown = self.report.metrics.show(self.overview.backlog, time.time())
        return Response(shown, media_type=_METRICS)


def make_templates() -> Environment:
    """Return the templates' environment: strict, everything escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["age"] = age
    environment.filters["troubles"] = troubles
    environment.filters["count"] = lambda value: f"{value:,}"
    return environment


_RUNS: Final = frozenset({"running", "paused", "away"})
_STATES: Final = {
    "held": "held by its file",
    "quiet": "quiet hours",
    "open": "left alone",
    "half_open": "left alone",
    "busy": "asked for time",
}


def troubles(destinations: Sequence[Mapping[str, Any]]) -> str:
    """Return which destinations nothing is sent to now; a dash for none. Like `console.js`."""
    told = [each for each in destinations if each["state"] not in {"running", "stopped"}]
    shown = ", ".join(f"{each['destination']} {_STATES.get(each['state'], each['state'])}" for each in told)
    return shown or _DASH


def age(at: Any) -> str:
    """Return how long ago an ISO 8601 time was, as people say it; a dash for None."""
    if at is None:
        return _DASH
    seconds = max(0.0, time.time() - datetime.fromisoformat(at).timestamp())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
