"""This module shows what arrived at the sandbox: as a page for people and as JSON for ``handoff sandbox log``."""

from datetime import UTC, datetime
from html import escape
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from console.sandbox.record import Arrival, Record

_SHOWN: Final = 50
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Sandbox</title><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884 }}
pre {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem }}
</style></head><body>
<h1>Sandbox</h1>
<p>A practice SMS gateway and EHR. What channels send here is kept and shown, and goes nowhere else.</p>
<h2>Texts</h2>{texts}
<h2>Write-backs</h2>{write_backs}
</body></html>"""


def routes(record: Record) -> list[Route]:
    """Return the routes of the page and the log."""

    async def page(_request: Request) -> Response:
        texts = [_row(a, a.body["to"], escape(a.body["body"])) for a in record.log("text", limit=_SHOWN)]
        writes = [_row(a, _place(a), _source(a.body)) for a in record.log("write_back", limit=_SHOWN)]
        shown = _PAGE.format(
            texts=_table(("At", "To", "Text"), texts), write_backs=_table(("At", "Resource", "Content"), writes)
        )
        return HTMLResponse(shown, headers=_HEADERS)

    async def log(request: Request) -> Response:
        after = request.query_params.get("after", "")
        start = int(after) if after.isascii() and after.isdigit() else 0
        shown = {
            "texts": [told(arrival) for arrival in record.log("text", after=start)],
            "write_backs": [told(arrival) for arrival in record.log("write_back", after=start)],
        }
        return Response(orjson.dumps(shown), media_type="application/json", headers=_HEADERS)

    return [Route("/", page, methods=["GET"]), Route("/log", log, methods=["GET"])]


def told(arrival: Arrival) -> dict[str, Any]:
    """Return an arrival as ``handoff sandbox log --json`` prints it; ``at`` is in UTC."""
    shown: dict[str, Any] = {"seq": arrival.seq, "at": _time(arrival), "kind": arrival.kind, "id": arrival.id}
    shown["request_id"] = arrival.request_id
    if arrival.kind == "text":
        sender = arrival.body["from"] or arrival.body["messaging_service_sid"]
        return shown | {"to": arrival.body["to"], "from": sender, "body": arrival.body["body"]}
    return shown | {"type": arrival.type, "verb": arrival.verb, "version": arrival.version, "body": arrival.body}


def _time(arrival: Arrival) -> str:
    return datetime.fromtimestamp(arrival.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _place(arrival: Arrival) -> str:
    return f"{arrival.verb} {arrival.type}/{arrival.id} (version {arrival.version})"


def _source(resource: dict[str, Any]) -> str:
    return f"<pre>{escape(orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode())}</pre>"


def _row(arrival: Arrival, name: str, content: str) -> str:
    return f"<tr><td>{_time(arrival)}</td><td>{escape(name)}</td><td>{content}</td></tr>"


def _table(heads: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return "<p>Nothing yet.</p>"
    top = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(reversed(rows))}</tbody></table>"
