"""This module puts the sandbox together and serves it, on loopback only, until it is told to stop."""

import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from broker.errors import NotReady
from console.sandbox import ehr, fhir, page, texts
from console.sandbox.bundle import Bundles
from console.sandbox.record import Record
from dispatch.fhir_check import warm

if TYPE_CHECKING:
    import uvicorn

_WARM_AFTER: Final = 1.0  # seconds
_CODES: Final = {404: "not-found", 405: "not-supported"}


def build(record: Record, accounts: Mapping[str, str] = MappingProxyType({})) -> Starlette:
    """Return the application: texts below ``/2010-04-01``, FHIR below ``/fhir``, ``/log``, and a page at ``/``.

    ``accounts`` may send texts, with their tokens; without any, every account may, with the token ``sandbox``.
    """
    practice = ehr.Ehr(record)
    return Starlette(
        routes=[
            *page.routes(record),
            *texts.routes(record, accounts),
            *fhir.routes(practice, Bundles(practice, record)),
        ],
        # A page of another site must not reach the sandbox by a name of its own (DNS rebinding).
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={
            HTTPException: _unknown_place,
            texts.Refused: _refused_text,
            ehr.Refused: _refused_resource,
        },
    )


def serve(
    endpoint: str,
    data: Path,
    *,
    ready: Callable[[str], None] | None = None,
    while_open: int | None = None,
    accounts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Serve at ``endpoint`` (host:port, port 0 picks one) until SIGINT or SIGTERM, keeping all in ``data/sandbox.db``.

    ``ready`` is called with the address once requests can arrive. ``while_open`` is a file descriptor (a pipe from the
    parent process) at whose end serving stops too, so that no sandbox outlives the engine that started it. ``accounts``
    are as `build` has them.
    Raises `NotReady` when the port is taken, the host is not loopback, or the file cannot be used.
    """
    import uvicorn  # noqa: PLC0415 - only where it serves

    listener = _listen(endpoint)
    record = Record(data / "sandbox.db")
    server = uvicorn.Server(_configured(build(record, accounts)))
    if while_open is not None:
        threading.Thread(target=_stop_at_end, args=(while_open, server), daemon=True).start()
    # The FHIR models take a moment to load: not at the first write, and not while the engine starts beside us.
    warming = threading.Timer(_WARM_AFTER, warm, ("",))
    warming.daemon = True
    warming.start()
    former = _stop_on_signals(server)
    if ready is not None:
        ready(f"http://{listener.getsockname()[0]}:{listener.getsockname()[1]}")  # the backlog takes them already
    try:
        server.run(sockets=[listener])
    finally:
        warming.cancel()
        for number, handler in former.items():
            signal.signal(number, handler)
        listener.close()
        record.close()


def _configured(application: Starlette) -> "uvicorn.Config":
    import uvicorn  # noqa: PLC0415 - as above

    return uvicorn.Config(
        application,
        http="httptools",
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )


def _stop_on_signals(server: "uvicorn.Server") -> dict[signal.Signals, Any]:
    """Stop on SIGINT and SIGTERM, also before and after uvicorn's own handlers; return the handlers that were there."""

    def stop(_number: int, _frame: object) -> None:
        server.should_exit = True  # uvicorn raises the signal again once it has shut down; that ends here

    return {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}


def _stop_at_end(descriptor: int, server: "uvicorn.Server") -> None:
    try:
        while os.read(descriptor, 1024):
            pass
    except OSError:
        pass  # closed under us: the same as its end
    server.should_exit = True


def _listen(endpoint: str) -> socket.socket:
    host, _, port = endpoint.rpartition(":")
    if not _loopback(host) or not port.isdigit():
        message = f"sandbox: {endpoint!r} is not host:port on this machine; use 127.0.0.1:8090, it is for practice only"
        raise NotReady(message)
    try:
        listener = socket.create_server((host, int(port)), backlog=512)
    except OSError as error:
        message = f"sandbox: cannot listen on {endpoint} ({os.strerror(error.errno or 0)}); choose a free port"
        raise NotReady(message) from error
    # Connections inherit it. asyncio sets it only on sockets that were made for TCP by name, and without it a second
    # answer on a connection waits 40 ms for the other side's delayed acknowledgment.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


async def _unknown_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls this for no other
    path = request.url.path
    if path.startswith("/fhir/"):
        return fhir.refusal(ehr.Refused(error.status_code, _CODES.get(error.status_code, "processing"), error.detail))
    if path.startswith("/2010-04-01/"):
        return texts.Refused(error.status_code, 20404, f"The requested resource {path} was not found").response()
    return PlainTextResponse(f"{error.detail}\n", error.status_code)


async def _refused_text(_request: Request, error: Exception) -> Response:
    assert isinstance(error, texts.Refused)  # noqa: S101 - likewise
    return error.response()


async def _refused_resource(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ehr.Refused)  # noqa: S101 - likewise
    return fhir.refusal(error)
