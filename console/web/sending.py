"""This module answers ``/api/v1`` about what is on its way: pause and resume, list and cancel."""

import time
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from broker import queries
from broker.queries_deliveries import open_deliveries, waiting_ids
from broker.units import Act, Pause
from console.plain import to_json
from console.web.asking import Refused, read_id, read_limit, read_object
from console.web.ports import Engine

_AT_ONCE: Final = 1000  # ids of one act: what is audited stays readable
_LONGEST: Final = 200  # characters of a name or a reason


@dataclass(frozen=True, slots=True)
class Sending:
    """The answers, over one engine."""

    engine: Engine

    async def pause(self, request: Request) -> Any:
        """``{"channel":, "destination": or null, "actor":, "reason":}``; answers ``{"changed": bool}``."""
        asked = await self._asked(request)
        if not asked.reason.strip():
            message = "pausing needs a reason: somebody else will have to know whether it may go on"
            raise Refused(message)
        return {"changed": await self.engine.pause(asked)}

    async def resume(self, request: Request) -> Any:
        """Like `pause`; needs no reason."""
        return {"changed": await self.engine.resume(await self._asked(request))}

    async def deliveries(self, request: Request) -> Any:
        """``channel, destination, before, limit``: what has not ended, the newest first."""
        asked = request.query_params
        before = read_id(asked["before"]) if "before" in asked else queries.LAST
        limit = read_limit(request, 200)
        channel, destination = asked.get("channel"), asked.get("destination")
        found = await self.engine.read(open_deliveries, channel, destination, before, limit)
        return {"deliveries": to_json(found)}

    async def cancel(self, request: Request) -> Any:
        """``{"ids": [...] or "all": true, "channel":, "destination":, "actor":, "reason":}``; ``{"count": n}``."""
        asked = await read_object(request)
        everything = asked.get("all") is True
        actor, reason = _text(asked, "actor") or "console", _text(asked, "reason")
        if not reason.strip():
            message = "cancelling gives up deliveries for good; it needs a reason"
            raise Refused(message)
        if everything:
            chosen = await self.engine.read(waiting_ids, asked.get("channel"), asked.get("destination"))
        else:
            chosen = [read_id(each) for each in asked.get("ids") or []]
        if not chosen and not everything:
            message = 'say which: {"ids": ["…"]} or {"all": true}'
            raise Refused(message)
        count = 0
        for start in range(0, len(chosen), _AT_ONCE):
            ids = tuple(chosen[start : start + _AT_ONCE])
            count += await self.engine.act(Act(act="cancel", ids=ids, actor=actor, reason=reason, at=time.time()))
        return {"asked": len(chosen), "count": count}

    async def _asked(self, request: Request) -> Pause:
        asked = await read_object(request)
        return Pause(
            channel=_text(asked, "channel"),
            destination=_text(asked, "destination") or None,
            asked_at=time.time(),
            actor=_text(asked, "actor") or "console",
            reason=_text(asked, "reason"),
        )


def _text(asked: dict[str, Any], name: str) -> str:
    return str(asked.get(name) or "")[:_LONGEST]
