"""This module decides who may ask the console what: host names, the token, and the headers of every answer."""

import contextlib
import hmac
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.durable import write_to_disk
from broker.errors import NotReady
from broker.hosts import is_loopback
from broker.notices import Bug, Notice

TOKEN_FILE: Final = "console.token"  # noqa: S105 - a file's name
ENDPOINT_FILE: Final = "console.endpoint"
_LONGEST_TOKEN: Final = 256
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def make_token(data: Path) -> str:
    """Return the token of the console; make it on the first run, in a file that only its owner can read.

    Raises `NotReady` when others can read the file or it cannot be made.
    """
    path = data / TOKEN_FILE
    try:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                write_to_disk(file, secrets.token_urlsafe(32).encode() + b"\n")
        mode = stat.S_IMODE(path.stat().st_mode)
        token = path.read_text()[:_LONGEST_TOKEN].strip()
    except OSError as error:
        message = f"{path}: the console's token cannot be made or read ({error.strerror}); check the folder's rights"
        raise NotReady(message) from error
    if mode & 0o077:
        message = f"{path}: the console's token can be read by others (mode {mode:04o}); run: chmod 600 {path}"
        raise NotReady(message)
    if not token:
        message = f"{path}: the console's token is empty; remove the file, then start again"
        raise NotReady(message)
    return token


class Guard:
    """Wraps the console's application: refuses foreign host names, wants the token, and lets no exception out."""

    def __init__(self, app: ASGIApp, *, token: str, loopback: bool, notify: Callable[[Notice], None]) -> None:
        self._app = app
        self._token = b"Bearer " + token.encode()
        self._loopback = loopback
        self._notify = notify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        began = False

        async def sending(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                MutableHeaders(scope=message).update(_HEADERS)
                MutableHeaders(scope=message).setdefault("cache-control", "no-store")
            await send(message)

        try:
            await (self._refusal(scope) or self._app)(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the last resort of every request
            # The type alone: the text may hold patient data.
            self._notify(Bug(where="console", error=type(error).__name__))
            if not began:
                await (await failed())(scope, receive, sending)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        if self._loopback and not is_loopback(_host(headers.get("host", ""))):
            # Otherwise a web page could reach us through a name that it points at 127.0.0.1.
            return refused(421, "this console answers to localhost only")
        if scope["path"].startswith("/api/") and not self._knows(headers.get("authorization", "")):
            answer = refused(
                401, f"this needs the token in {TOKEN_FILE} of the data folder, as: Authorization: Bearer …"
            )
            answer.headers["www-authenticate"] = "Bearer"
            return answer
        return None

    def _knows(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)


def _host(value: str) -> str:
    if value.startswith("["):
        return value.partition("]")[0][1:]
    return value.partition(":")[0].lower()


def refused(status: int, error: str) -> JSONResponse:
    """Return the answer to a request that is not served, in the form of every error here."""
    return JSONResponse({"error": error}, status_code=status)


async def failed(*_: object) -> JSONResponse:
    """Return the answer to a request on which the console itself failed; what it was is in the log, by type only."""
    return refused(500, "the console failed on this request; the engine's log names the error")
