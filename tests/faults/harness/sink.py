"""This module is the other side: an HTTP server that speaks enough FHIR and Twilio, and counts what took effect.

A script says how the writes for a message are treated; reads (searches) are always answered properly. An effect is
counted when the whole request has been read, whatever is answered then: that is what makes an outcome unknown.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qs, urlsplit

_SYSTEM: Final = "urn:faults"


@dataclass(frozen=True, slots=True)
class Request:
    """One write as it arrived; ``key`` is the control id of the message that it stands for."""

    at: float
    kind: str  # fhir, sms
    key: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Treatment:
    """How a write is treated: whether it takes effect, and what follows."""

    effect: bool = True
    status: int = 201
    headers: tuple[tuple[str, str], ...] = ()
    then: str = "answer"  # or hang, reset


OK: Final = Treatment()
HANG: Final = Treatment(then="hang")
HANG_WITHOUT: Final = Treatment(effect=False, then="hang")
RESET: Final = Treatment(then="reset")
FAIL: Final = Treatment(effect=False, status=500)
FAIL_AFTER: Final = Treatment(status=500)
REFUSE: Final = Treatment(effect=False, status=400)


def busy(seconds: int) -> Treatment:
    """Return the treatment 429 with Retry-After."""
    return Treatment(effect=False, status=429, headers=(("Retry-After", str(seconds)),))


class Sink:
    """The server; use it as an async context manager. ``base`` is its address."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.effects: dict[str, Counter[str]] = {"fhir": Counter(), "sms": Counter()}
        self.order: dict[str, list[str]] = {"fhir": [], "sms": []}  # keys in the order of their first effect
        self._scripts: dict[tuple[str, str], deque[Treatment]] = {}
        self.usual: dict[str, Treatment] = {"fhir": OK, "sms": OK}
        self.port = 0
        self._resources: dict[str, str] = {}  # key -> id
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def base(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Give everything back."""
        await self.close()

    async def open(self) -> None:
        """Listen, on the same port as before if it did."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Give the port back, so that connections are refused, and drop those that are open."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def treat(self, kind: str, key: str, *treatments: Treatment) -> None:
        """Say how the first writes for a message are treated; those after them get the usual."""
        self._scripts[kind, key] = deque(treatments)

    def attempts(self, kind: str, key: str) -> list[Request]:
        """Return the writes that came for a message."""
        return [request for request in self.requests if request.kind == kind and request.key == key]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._turn(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        top = await reader.readuntil(b"\r\n\r\n")
        first, *rest = top.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET":
            _answer(writer, 200, self._found(target), ())
            return True
        kind = "sms" if "/Accounts/" in target else "fhir"
        key = _text_key(body) if kind == "sms" else _resource_key(body)
        self.requests.append(Request(time.time(), kind, key, headers, body))
        script = self._scripts.get((kind, key))
        treatment = script.popleft() if script else self.usual[kind]
        answer = self._apply(kind, key) if treatment.effect else {}
        return await _follow(writer, treatment, answer if treatment.status < 300 else _refusal(kind, treatment.status))

    def _apply(self, kind: str, key: str) -> dict[str, object]:
        """Take effect, unless it is a conditional create of what is there, as a FHIR server would."""
        if kind == "fhir" and key in self._resources:
            return {"resourceType": "Communication", "id": self._resources[key]}
        if not self.effects[kind][key]:
            self.order[kind].append(key)
        self.effects[kind][key] += 1
        name = f"e{len(self.order[kind])}"
        if kind == "fhir":
            self._resources[key] = name
            return {"resourceType": "Communication", "id": name}
        return {"sid": f"SM{len(self.requests):032d}", "status": "queued"}

    def _found(self, target: str) -> dict[str, object]:
        query = parse_qs(urlsplit(target).query)
        key = query.get("identifier", ["|"])[0].rpartition("|")[2]
        name = self._resources.get(key)
        entry = [] if name is None else [{"resource": {"resourceType": "Communication", "id": name}}]
        return {"resourceType": "Bundle", "type": "searchset", "total": len(entry), "entry": entry}


async def _follow(writer: asyncio.StreamWriter, treatment: Treatment, answer: dict[str, object]) -> bool:
    if treatment.then == "hang":
        await asyncio.Event().wait()
    if treatment.then == "reset":
        connection: socket.socket = writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    headers = treatment.headers
    if "id" in answer:
        headers += (("Location", f"Communication/{answer['id']}/_history/1"),)
    _answer(writer, treatment.status, answer, headers)
    await writer.drain()
    return True


def _answer(
    writer: asyncio.StreamWriter, status: int, answer: dict[str, object], headers: tuple[tuple[str, str], ...]
) -> None:
    body = json.dumps(answer).encode()
    lines = [f"HTTP/1.1 {status} Answer", f"Content-Length: {len(body)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)


def _refusal(kind: str, status: int) -> dict[str, object]:
    if kind == "sms":
        return {"status": status, "message": "no"}
    return {"resourceType": "OperationOutcome", "issue": []}


def _resource_key(body: bytes) -> str:
    return str(json.loads(body)["identifier"][0]["value"])


def _text_key(body: bytes) -> str:
    """Return the control id: the last word of the text."""
    return parse_qs(body.decode())["Body"][0].rpartition(" ")[2]
