"""This module talks to the running engine's console for the command line."""

import http.client
import json
import urllib.parse
from pathlib import Path
from typing import Any

import click

from console.cli.main import FINDINGS, NOT_ALLOWED, NOT_READY, UNREACHABLE, USAGE, Failure, Options

_TOKEN_FILE = "console.token"  # noqa: S105 - a file's name
_ENDPOINT_FILE = "console.endpoint"
_TIMEOUT = 30.0
_EXITS = {400: USAGE, 401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: FINDINGS, 409: FINDINGS, 413: USAGE, 421: NOT_ALLOWED}


class Client:
    """The console's API; every failure becomes one sentence and an exit code."""

    def __init__(self, endpoint: str, token: str) -> None:
        self.endpoint = endpoint
        self._token = token

    @classmethod
    def of(cls, options: Options) -> "Client":
        """Find the endpoint and the token by the settings."""
        settings = options.settings()
        return cls(_endpoint(settings.console.endpoint, Path(settings.data)), _token(Path(settings.data)))

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the answer to a question; parameters that are None are left out, lists are repeated."""
        asked = {name: value for name, value in parameters.items() if value is not None}
        return self._ask("GET", f"{path}?{urllib.parse.urlencode(asked, doseq=True)}", None)

    def post(self, path: str, content: dict[str, Any]) -> Any:
        """Return the answer to an act."""
        return self._ask("POST", path, json.dumps(content))

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        status, answer = fetch(self.endpoint, method, f"/api/v1{path}", body, headers)
        if status == 200:  # noqa: PLR2004 - OK
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        text = error or f"the console at {self.endpoint} answered {status}"
        raise Failure(str(text), _EXITS.get(status, NOT_READY))


def fetch(endpoint: str, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
    """Return the status and the JSON that a local server answers."""
    host, _, port = endpoint.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT)
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


def _token(data: Path) -> str:
    try:
        return (data / _TOKEN_FILE).read_text().strip()
    except FileNotFoundError:
        return ""  # then nothing answers, or it says that it wants one
    except OSError as error:
        message = f"{data / _TOKEN_FILE}: cannot be read ({error.strerror}); run as the user that runs the engine"
        raise Failure(message, NOT_ALLOWED) from None


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
