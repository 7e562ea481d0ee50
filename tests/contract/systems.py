"""This module sends to systems as channels do, by their presets, and serves what vendors document."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from broker.canonical.model import Address, Appointment, Concept, Event, Identifier, Patient, Source
from broker.delivery import Delivery, Outcome
from broker.message import Document
from broker.parts import Tools
from config.presets import every_preset
from config.secrets import open_secrets
from config.systems import SystemSpec
from dispatch.web.spec import HttpSpec
from tests.contract.scripted_server import Behaviour, Request, ScriptedServer, reply
from transforms.kit import Kit

PRESETS: Final = every_preset(Path("channels"))
KEY: Final = "0123456789abcdef" * 2  # of the first delivery
PATIENT: Final = Patient(
    mrn=Identifier(value="0012", system="MERCY", type="MR"),
    family="O'Hara",
    given="Ngozi",
    birth_date="1962-09-10",
    mobile="+12025550123",
    email="ngozi@example.org",
    addresses=(Address(lines=("12 Main St", "Apt 3"), city="Springfield", state="IL", postal_code="62701"),),
)
EVENT: Final = Event(
    kind="patient.registered",
    source=Source(),
    patient=PATIENT,
    occurred_at="2026-01-02T03:04:05Z",
    appointment=Appointment(
        identifier=Identifier(value="A1"),
        type=Concept(text="Check-up"),
        starts_at="2026-01-09T10:00:00Z",
        ends_at="2026-01-09T10:30:00Z",
    ),
)
SECRET: Final = "s3cret"


def event_of(mrn: str) -> Event:
    """Return the sample event for another patient."""
    return replace(EVENT, patient=replace(PATIENT, mrn=Identifier(value=mrn, system="MERCY", type="MR")))


def key_of(number: int) -> str:
    """Return the idempotency key of a delivery, numbered from 0."""
    return KEY if number == 0 else f"{number:032x}"


@dataclass(frozen=True)
class Asked:
    """One request, taken apart."""

    method: str
    path: str  # below the base, decoded
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The body: JSON, or the fields of a form."""
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(self.raw.decode(), keep_blank_values=True))
        return orjson.loads(self.raw)


Answers = Callable[[Asked], Behaviour]


@dataclass
class VendorServer(ScriptedServer):
    """Answers each request by a function of it; ``asked`` is what came."""

    answers: Answers = lambda _: reply(500)
    asked: list[Asked] = field(default_factory=list)

    def choose(self, request: Request) -> Behaviour:
        parts = urlsplit(request.target)
        path = unquote(parts.path).removeprefix("/api").removeprefix("/")
        asked = Asked(request.method, path, dict(parse_qsl(parts.query)), request.headers, request.body)
        self.asked.append(asked)
        return self.answers(asked)


def said(status: int, body: Any = None, **headers: str) -> Behaviour:
    """Answer with JSON; header names are given with ``_`` for ``-``."""
    content = b"" if body is None else orjson.dumps(body)
    return reply(status, content, Content_Type="application/json", **headers)


def spec(preset: str, operation: str, values: Mapping[str, Any] | None = None, **options: Any) -> HttpSpec:
    """Return a destination of a channel."""
    written = {"system": preset, "operation": operation, "values": values or {}, "timeout": "2s", **options}
    return HttpSpec.model_validate(written)


def render(declared: HttpSpec, event: Event = EVENT, values: Mapping[str, Any] | None = None) -> bytes:
    """Return the frozen request for an event."""
    kit = Kit(Path("channels"), presets=PRESETS)
    for name in values or {}:
        kit.declare(name)
    document = Document(message=None, received_at=0.0, event=event, values=dict(values or {}))
    return declared.build_renderer(kit)(document)


def destination(declared: HttpSpec, base: str, **system: Any) -> Any:
    """Build the sending half of a destination for a system at an address."""
    preset = PRESETS[declared.system]
    written = {"preset": declared.system, "base": base, "auth": {"bearer": {"token": "${env:S}"}}, **system}
    if preset.signing:
        written |= {"auth": None, "signing_secret": "${env:S}"}
    found = SystemSpec.model_validate(written)
    _reveal(found)
    nothing = cast("Any", None)
    settings = SimpleNamespace(systems={declared.system: found}, data=None)
    return declared.build(Tools("feed", nothing, lambda _: None, settings, presets=PRESETS))


def _reveal(found: SystemSpec) -> None:
    open_secrets(found, {"S": SECRET})


async def send(
    declared: HttpSpec, server: ScriptedServer, requests: Sequence[bytes], attempt: int = 1, **system: Any
) -> list[Outcome]:
    """Send deliveries together, over connections of their own."""
    made = destination(declared, f"{server.base}/api", **system)
    await made.open()
    try:
        deliveries = [
            Delivery(id=number + 1, route=1, key=key_of(number), request=request, attempt=attempt)
            for number, request in zip(itertools.count(), requests, strict=False)
        ]
        return list(await made.send(deliveries))
    finally:
        await made.close()
