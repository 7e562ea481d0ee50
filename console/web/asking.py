"""This module reads what a request asks for, and words what cannot be answered."""

from typing import Any, Final

import orjson
from starlette.requests import Request

from broker import ids, queries

_MOST_BODY: Final = 1 << 20


class Refused(Exception):
    """A request that cannot be answered as asked; ``status`` is the HTTP status."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


def read_limit(request: Request, default: int) -> int:
    """Return how many rows a list is asked for; ``default`` if it is not said."""
    number = read_number(request.query_params.get("limit"), "limit")
    return default if number is None else max(1, min(int(number), queries.MOST))


def read_number(value: str | None, name: str) -> float | None:
    """Return a number from 0, or None; ``name`` is how an error calls it. Raises `Refused`."""
    try:
        number = None if value is None else float(value)
    except ValueError:
        number = -1
    if number is not None and not 0 <= number < 1e12:  # noqa: PLR2004 - far beyond any date
        message = f"{name} needs a number from 0"
        raise Refused(message)
    return number


def read_id(value: object) -> int:
    """Return the id that 13 letters and digits stand for. Raises `Refused`."""
    identifier = ids.read_or_none(str(value))
    if identifier is None:
        message = f"{str(value)[:20]!r} is not an id; an id has 13 letters and digits"
        raise Refused(message)
    return identifier


async def read_object(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request holds, of at most 1 MiB. Raises `Refused`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            message = "the request is larger than 1 MiB"
            raise Refused(message, 413)
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        message = "the request needs to be a JSON object"
        raise Refused(message)
    return found
