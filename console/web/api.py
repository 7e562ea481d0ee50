"""This module answers ``/api/v1``: what the command line asks for and does, as JSON, behind the console's token."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker import ids, queries, queries_passing, sql, states
from broker.acts import read_pauses
from broker.errors import HandoffError, NotFound, StoreError
from broker.notices import ConfigurationReloaded
from broker.queries import Filter
from broker.queries_disclosed import disclosed
from broker.units import Act
from console.plain import patient_to_json, to_json
from console.report import Hub
from console.version import product_version
from console.web.asking import Refused, read_id, read_limit, read_number, read_object
from console.web.disclosures import account
from console.web.journey import as_json
from console.web.overview import Overview
from console.web.ports import Engine, Reload, Settings
from console.web.sending import Sending

_ACTS = ("replay", "discard")
_FURTHER = 8  # channels that a journey is followed through


Answer = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Api:
    """The answers, over one engine."""

    engine: Engine
    settings: Settings
    reload_files: Reload
    overview: Overview
    hub: Hub

    def routes(self) -> list[Route]:
        """Return the routes below ``/api/v1``."""
        get: dict[str, Answer] = {
            "/messages": self.messages,
            "/trace/{id}": self.trace,
            "/dead": self.dead,
            "/quarantine": self.quarantine,
            "/counters": self.counters,
            "/disclosures": self.disclosures,
            "/patients": self.patients,
            "/status": self.status,
        }
        sending = Sending(self.engine)
        get["/deliveries"] = sending.deliveries
        post: dict[str, Answer] = {
            "/dead/{act}": self.act,
            "/deliveries/cancel": sending.cancel,
            "/pause": sending.pause,
            "/resume": sending.resume,
            "/reload": self.reload,
        }
        return [Route(path, _answering(answer), methods=["GET"]) for path, answer in get.items()] + [
            Route(path, _answering(answer), methods=["POST"]) for path, answer in post.items()
        ]

    async def messages(self, request: Request) -> Any:
        """``control_id, channel, state, mrn, index=name=value, since`` (POSIX seconds), ``before, limit``."""
        asked = request.query_params
        named = [item.partition("=")[::2] for item in asked.getlist("index")]
        if "mrn" in asked:
            named.append(("mrn", asked["mrn"]))
        wanted = Filter(
            channel=asked.get("channel"),
            state=_state(asked.get("state")),
            control_id=asked.get("control_id"),
            index=tuple(named),
            since=read_number(asked.get("since"), "since"),
            before=read_id(asked["before"]) if "before" in asked else None,
            limit=read_limit(request, 50),
        )
        return {"messages": to_json(await self.engine.read(queries.messages, wanted))}

    async def trace(self, request: Request) -> Any:
        """One journey: by an id of ours (message or delivery), or the newest of a control id, from its beginning."""
        asked = request.path_params["id"]
        identifier = ids.read_or_none(asked)
        found = None if identifier is None else await self._journey(identifier, _FURTHER)
        if found is None and (first := await self._by_control_id(asked)) is not None:
            found = await self._journey(first, _FURTHER)
        if found is not None:
            return found
        message = f"no message has the id or the control id {asked[:64]!r}"
        raise Refused(message, 404)

    async def _journey(self, identifier: int, further: int) -> dict[str, Any] | None:
        """Return a journey; ``then`` of a delivery is what became of it in the channel that it was passed on to."""
        found = await self.engine.read(queries.trace, identifier)
        if found is None:
            return None
        shown = as_json(found)
        for delivery, row in zip(shown["deliveries"], found.deliveries, strict=True):
            if row.became_id is not None and further:
                delivery["then"] = await self._journey(row.became_id, further - 1)
        return shown

    async def _by_control_id(self, value: str) -> int | None:
        found = await self.engine.read(queries.messages, Filter(control_id=value, limit=1))
        if not found:
            return None
        first: int = await self.engine.read(queries_passing.beginning, found[0].id, _FURTHER)
        return first

    async def dead(self, request: Request) -> Any:
        """``channel, before, limit``."""
        before = request.query_params.get("before")
        last = read_id(before) if before else queries.LAST
        channel, limit = request.query_params.get("channel"), read_limit(request, 200)
        found = await self.engine.read(queries.dead, channel, last, limit)
        return {"dead": to_json(found)}

    async def quarantine(self, request: Request) -> Any:
        """``before, limit``."""
        before = request.query_params.get("before")
        last = read_id(before) if before else queries.LAST
        return {"quarantine": to_json(await self.engine.read(queries.quarantined, last, read_limit(request, 200)))}

    async def counters(self, _request: Request) -> Any:
        """Answer the same picture as the first page's."""
        return await self.overview.current()

    async def patients(self, request: Request) -> Any:
        """``mrn, system``: from the patient store, opened for reading only."""
        mrn = request.query_params.get("mrn")
        if not mrn:
            message = "say which patient: ?mrn=…"
            raise Refused(message)
        found = await asyncio.to_thread(_find, self.settings.patients, mrn, request.query_params.get("system"))
        return {"patients": found}

    async def disclosures(self, request: Request) -> Any:
        """``mrn`` or ``index=name=value``, ``since`` (POSIX seconds): what left about a patient, for whom and when."""
        asked = request.query_params
        name, _, value = asked["index"].partition("=") if "index" in asked else ("mrn", "", asked.get("mrn") or "")
        if not name or not value:
            message = "say whose: ?mrn=… or ?index=name=value"
            raise Refused(message)
        since = read_number(asked.get("since"), "since") or 0.0
        return {"disclosures": account(await self.engine.read(disclosed, name, value, since))}

    async def status(self, _request: Request) -> Any:
        """Answer how the engine and its channels are, what operators have paused, and the latest notices."""
        picture = await self.overview.current()
        answers = picture["intake"]["store_answers"]  # who asks one that does not answer waits as long as it does
        pauses = to_json(await self.engine.read(read_pauses)) if answers else []
        return {"version": product_version(), **picture, "pauses": pauses, "notices": list(self.hub.recent)[-20:]}

    async def act(self, request: Request) -> Any:
        """``{"ids": [...] or "all": true, "channel":, "actor":, "reason":}``; answers ``{"count": n}``."""
        verb = request.path_params["act"]
        if verb not in _ACTS:
            message = f"dead letters can be asked to {' or '.join(_ACTS)}, not {verb[:20]!r}"
            raise Refused(message, 404)
        asked = await read_object(request)
        if asked.get("all") is True:
            chosen = await self.engine.read(queries.dead_ids, asked.get("channel"))
        else:
            chosen = [read_id(each) for each in asked.get("ids") or []]
        if not chosen and asked.get("all") is not True:
            message = 'say which: {"ids": ["…"]} or {"all": true}'
            raise Refused(message)
        actor, reason = (str(asked.get(name) or "")[:200] for name in ("actor", "reason"))
        act = Act(act=verb, ids=tuple(chosen), actor=actor or "console", reason=reason, at=time.time())
        return {"asked": len(chosen), "count": await self.engine.act(act) if chosen else 0}

    async def reload(self, _request: Request) -> Any:
        """Read the channel files again."""
        notice = await self.reload_files()
        if isinstance(notice, ConfigurationReloaded):
            return {"ok": True, "channels": notice.channels, "findings": 0, "report": ""}
        return {"ok": False, "channels": None, "findings": notice.findings, "report": notice.report}


def _answering(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def answering(request: Request) -> Response:
        try:
            return _json(await answer(request))
        except Refused as refused:
            return _json({"error": str(refused)}, refused.status)
        except StoreError as error:
            return _json({"error": str(error)}, 503)
        except NotFound as error:
            return _json({"error": str(error)}, 404)
        except HandoffError as error:
            return _json({"error": str(error)}, 409)

    return answering


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


def _find(url: str, mrn: str, system: str | None) -> Any:
    # Imported when first asked for: the console serves without the patient store too.
    find = import_module("dispatch.patients.queries").find
    connection = sql.connect(url, writer=False)
    try:
        return patient_to_json(find(connection, mrn, system))
    finally:
        connection.close()


def _state(value: str | None) -> str | None:
    known = sorted({*states.MESSAGE, *states.DELIVERY})
    if value is not None and value not in known:
        message = f"{value[:20]!r} is not a state; the states are {', '.join(known)}"
        raise Refused(message)
    return value
