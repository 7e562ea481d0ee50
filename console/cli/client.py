"""This module talks to the running engine's console for the command line."""

import http.client
import json
import os
import ssl
import stat
import urllib.parse
from pathlib import Path
from typing import Any

import click

from console.cli.main import FINDINGS, NOT_ALLOWED, NOT_READY, UNREACHABLE, USAGE, Failure, Options

_TOKEN_FILE = "console.token"  # noqa: S105 - a file's name
_ENDPOINT_FILE = "console.endpoint"
_OTHERS_MAY = 0o077
_TIMEOUT = 30.0
_EXITS = {400: USAGE, 401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: FINDINGS, 409: FINDINGS, 413: USAGE, 421: NOT_ALLOWED}


class Client:
    """The console's API; every failure becomes one sentence and an exit code."""

    def __init__(self, endpoint: str, token: str, tls: ssl.SSLContext | None = None) -> None:
        self.endpoint = endpoint
        self._token = token
        self._tls = tls

    @classmethod
    def of(cls, options: Options) -> "Client":
        """Find the endpoint and the token by the settings."""
        settings = options.settings()
        endpoint = _endpoint(settings.console.endpoint, Path(settings.data))
        return cls(endpoint, _token(Path(settings.data)), _tls(settings))

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the answer to a question; parameters that are None are left out, lists are repeated."""
        asked = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", f"{path}?{urllib.parse.urlencode(asked, doseq=True)}", None)

    def post(self, path: str, content: dict[str, Any]) -> Any:
        """Return the answer to an act."""
        return self._ask("POST", path, json.dumps(content))

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        status, answer = fetch(self.endpoint, method, f"/api/v1{path}", body, headers, self._tls)
        if status == 200:  # noqa: PLR2004 - OK
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        text = error or f"the console at {self.endpoint} answered {status}"
        raise Failure(str(text), _EXITS.get(status, NOT_READY))


def fetch(
    endpoint: str,
    method: str,
    path: str,
    body: str | None,
    headers: dict[str, str],
    tls: ssl.SSLContext | None = None,
) -> tuple[int, Any]:
    """Return the status and the JSON that a local server answers."""
    host, _, port = endpoint.rpartition(":")
    place = (host.strip("[]"), int(port))
    connection = (
        http.client.HTTPConnection(*place, timeout=_TIMEOUT)
        if tls is None
        else http.client.HTTPSConnection(*place, timeout=_TIMEOUT, context=tls)
    )
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"null")
    except (OSError, http.client.HTTPException) as error:
        message = f"nothing answers at {endpoint} ({type(error).__name__}); is it running? Start it with: handoff run"
        raise Failure(message, UNREACHABLE) from error
    except ValueError as error:
        message = f"what answers at {endpoint} is not Handoff; look at the endpoint in the settings"
        raise Failure(message, UNREACHABLE) from error
    finally:
        connection.close()


def _endpoint(declared: str, data: Path) -> str:
    """Return where the console is; a console on port 0 has written down which one it got."""
    if not declared.endswith(":0"):
        return declared
    try:
        return (data / _ENDPOINT_FILE).read_text().strip()
    except OSError:
        message = f"no engine has run in {data}; start one with: handoff run"
        raise Failure(message, UNREACHABLE) from None


def _tls(settings: Any) -> ssl.SSLContext | None:
    """Return what takes the console's own certificate and no other, whatever name is in it; None for plain HTTP."""
    if settings.console.tls is None:
        return None
    path = Path(settings.root) / settings.console.tls.certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # we may reach it by an address; that it is this certificate says more
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(path)
    except OSError as error:  # ssl.SSLError is one
        message = f"{path}: the console's certificate cannot be read ({type(error).__name__}); look at console.tls"
        raise Failure(message, UNREACHABLE) from None
    return context


def _token(data: Path) -> str:
    path = data / _TOKEN_FILE
    try:
        with path.open() as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read().strip()
        if mode & _OTHERS_MAY:
            message = f"{path}: others can read the console's token (mode {mode:04o}); run: chmod 600 {path}"
            raise Failure(message, NOT_ALLOWED)
        return token
    except FileNotFoundError:
        return ""  # then nothing answers, or it says that it wants one
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); run as the user that runs the engine"
        raise Failure(message, NOT_ALLOWED) from None


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
