"""This module serves the console on the engine's own loop, and stops at once when it is told to."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from broker.errors import NotReady
from broker.hosts import is_loopback
from broker.notices import CertificateTrouble
from config.serving import certificates
from console.report import Report
from console.web.access import ENDPOINT_FILE, Guard, failed, refused
from console.web.api import Api
from console.web.overview import Overview
from console.web.pages import Pages, make_templates
from console.web.ports import Engine, Reload, Settings

if TYPE_CHECKING:
    from listeners.http_tls import HttpCertificates

_GRACE: Final = 0.3  # seconds that open requests get when the console stops
_LAG_EVERY: Final = 1.0


class Console:
    """The web console. ``token`` is of `console.web.access.make_token`; ``report`` receives and shows the notices."""

    def __init__(self, engine: Engine, settings: Settings, token: str, report: Report, reload: Reload) -> None:
        self._settings = settings
        self._report = report
        self._closing = asyncio.Event()
        overview = Overview(engine, report.hub)
        api = Api(engine, settings, reload, overview, report.hub)
        pages = Pages(engine, settings, report, overview, self._closing, make_templates())
        routes = [*pages.routes(), Mount("/api/v1", routes=api.routes())]
        app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_thing, Exception: failed})
        host = settings.console.endpoint.rpartition(":")[0]
        self._app = Guard(app, token=token, loopback=is_loopback(host), notify=report)
        self._server: _Server | None = None
        self._listening: socket.socket | None = None
        self._tls: HttpCertificates | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.endpoint = settings.console.endpoint

    def open(self) -> socket.socket:
        """Take the port, so that who connects waits for `start`; `endpoint` then holds the one really bound.

        Raises `NotReady`, also where the certificate cannot be used.
        """
        settings = self._settings
        if settings.console.tls is not None:
            self._tls = certificates(settings.console.tls, settings.root, self._trouble)
            self._tls.load()
        self._listening = listening = _bind(settings.console.endpoint)
        host, port = listening.getsockname()[:2]
        self.endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return listening

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"{'https' if self._settings.console.tls is not None else 'http'}://{self.endpoint}/"

    async def start(self) -> None:
        """Return once requests can arrive. Raises `NotReady` as `open` does, which need not be called before."""
        listening = self._listening or self.open()
        tls = self._tls
        (self._settings.data / ENDPOINT_FILE).write_text(self.endpoint + "\n")  # how the command line finds port 0
        # What goes wrong in a request is reported as a notice; a traceback in a log could show patient data.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            self._app,
            lifespan="off",
            http="httptools",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_context_factory=(lambda *_: tls.context()) if tls is not None else None,
        )
        self._server = server = _Server(config)
        self._tasks = [asyncio.create_task(server.serve([listening])), asyncio.create_task(self._watch_lag())]
        while not server.started and not self._tasks[0].done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Close every stream and connection; takes less than half a second."""
        self._closing.set()
        if self._server is None:
            if self._listening is not None:
                self._listening.close()
            return
        serving, watching = self._tasks
        watching.cancel()
        self._server.end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), _GRACE)
        self._server.force_exit = True
        await asyncio.gather(serving, watching, return_exceptions=True)
        self._server = None

    def _trouble(self, reason: str) -> None:
        self._report(CertificateTrouble(channel="", reason=reason))

    async def _watch_lag(self) -> None:
        while True:
            begun = time.monotonic()
            await asyncio.sleep(_LAG_EVERY)
            self._report.metrics.loop_lag.set(max(0.0, time.monotonic() - begun - _LAG_EVERY))


async def _no_such_thing(_request: Request, error: Exception) -> Response:
    status, text = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return refused(status, text)


class _Server(uvicorn.Server):
    """Leaves signals to the engine, and wakes once a second instead of ten times."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Begin to stop."""
        self.should_exit = True
        self._ended.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def main_loop(self) -> None:
        """Tick until the end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 1.0)


def _bind(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except (OSError, ValueError, OverflowError) as error:
        what_to_do = "end the program that has it, or change console.endpoint"
        message = f"console: cannot listen on {endpoint} ({_why(error)}); {what_to_do}"
        raise NotReady(message) from error


def _why(error: Exception) -> str:
    """Say why in the system's words: the error's own text has the address once more, and what Python was doing."""
    if isinstance(error, socket.gaierror):
        return (error.strerror or "no such name").lower()
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not host:port"
