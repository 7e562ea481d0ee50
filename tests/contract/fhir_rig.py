"""This module runs ways in that read FHIR servers against an intake that knows what it has taken."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from broker.formats.tree import Json
from broker.parts import Listener, Marks, Tools
from broker.spec import ListenerSpec
from config.servers import ServerSpec
from tests.contract.poll_rig import Kept


def build(spec: type[ListenerSpec], base: str, kept: Kept, marks: Marks | None, data: Path, **given: Any) -> Listener:
    """Build a listener for a server at an address; ``settings`` in ``given`` are those of the server."""
    server = ServerSpec.model_validate({"base": base, **given.pop("settings", {})})
    settings = SimpleNamespace(root=data, data=data, servers={"ehr": server})
    tools = Tools("results", kept, kept.notices.append, settings, Json(fhir=True), marks=marks)
    return spec.model_validate({"server": "ehr", "schedule": {"every": "1s"}, **given}).build(tools)


@asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[Listener]:
    """Run a listener."""
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop()


def names(kept: Kept) -> list[str]:
    """Return the ids of what was taken, in order."""
    return [orjson.loads(message.body)["id"] for message in kept.messages.values()]
