"""This module writes resources to a FHIR R4 server: create, or find by a search and update.

With ``search`` every attempt looks first, so an attempt whose outcome stayed unknown can be repeated: what it may
have created is found. What is frozen for every attempt is the resource as it was rendered and the search string.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import parse_qsl, quote

import orjson
from pydantic import Field, field_validator, model_validator

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError
from broker.fhir.search import search_of
from broker.spec import DestinationSpec, Seconds, Template
from dispatch.fhir_answer import Match, classed, named, read_matches
from dispatch.fhir_check import faults, read_resource, warm
from dispatch.http import Answer, Exchange, Failure, reveal, web_address

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer, Tools

MEDIA_TYPE: Final = "application/fhir+json"

_RESOURCE: Final = re.compile(r"[A-Za-z]{2,60}")
_BUNDLE: Final = "Bundle"
_FORM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}=.")
_COMMA: Final = re.compile(r"(?<!\\),")
_NO_VALUE: Final = re.compile(r"(.*[^\\])?\|", re.DOTALL)  # system| finds everything of that system


class FhirSpec(DestinationSpec):
    """A resource written to a FHIR R4 server of ``handoff.yaml``."""

    unknown: ClassVar[str] = "hold"

    server: str = Field(description="Name of the server, as under `servers:` in handoff.yaml.")
    resource: Template = Field(
        description="The resource: a name such as Patient, Encounter or Bundle writes the event the standard way; else "
        "JSON, as the path of a .j2 file or inline."
    )
    search: Template | None = Field(
        default=None,
        description="How to find what is there already, such as `identifier={{ patient.mrn.system }}|{{ … }}`. "
        "Left out, a resource by name is found by its first identifier.",
    )
    zone: str | None = Field(
        default=None,
        description="IANA time zone of times that came without an offset, for a resource by name; without it only "
        "their day is written, because FHIR allows no local times.",
    )
    on_match: Literal["update", "keep"] = Field(default="update", description="What to do with the one that is there.")
    validate_: bool = Field(default=True, alias="validate", description="Check the resource against the FHIR model.")
    concurrency: int = Field(default=8, ge=1, le=100, description="Requests under way at a time.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the server may take to answer.")

    @field_validator("search")
    @classmethod
    def _searchable(cls, value: Template | None) -> Template | None:
        if value is not None and not _FORM.match(value):
            text = "needs name=value, such as identifier={{ patient.mrn.system }}|{{ patient.mrn.value }}"
            raise ValueError(text)
        return value

    def unknown_policy(self) -> str:
        """Return ``retry`` when a search can find what an earlier attempt did, else ``hold``."""
        return "hold" if self.search is None and not self.is_named else "retry"

    @property
    def is_named(self) -> bool:
        """Tell whether ``resource`` is a name, and no template."""
        return _RESOURCE.fullmatch(self.resource.strip()) is not None

    @model_validator(mode="after")
    def _sensible(self) -> "FhirSpec":
        if self.zone is not None and not self.is_named:
            raise ValueError("zone belongs to a resource by name; in a template write event | fhir('…', zone='…')")
        if self.search is not None and self.resource.strip() == _BUNDLE:
            raise ValueError("a Bundle has a search for each of its resources; leave `search` out")
        return self

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the server is missing or incomplete."""
        return FhirServer(find_server(tools.settings, self.server, tools.channel), self)

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: the resource checked, the search encoded."""
        if self.is_named:
            resource = kit.resource(self.resource.strip(), self.zone)
        else:
            resource = kit.template(str(self.resource), kind="json")
        search = kit.template(str(self.search), kind="search") if self.search is not None else None
        if self.validate_ and not getattr(kit, "only_checks", False):  # a check renders nothing
            warm(str(getattr(resource, "text", self.resource)))
        return ResourceRenderer(resource, search, check=self.validate_, own_search=self.is_named)


def encode_search(rendered: str) -> str:
    """Return a rendered search as it goes into an address: values are encoded already, what the analyst wrote is not.

    Raises `StepError` when a value is empty, because an empty value finds what it should not.
    """
    for name, value in parse_qsl(rendered, keep_blank_values=True):
        if any(not token or _NO_VALUE.fullmatch(token) for token in _COMMA.split(value)):
            raise StepError(f"fhir: the search value for {name!r} is empty for this message, so it would find too much")
    return quote(rendered, safe="%=&:/.,-_~")


@dataclass(frozen=True, slots=True)
class ResourceRenderer:
    """Renders ``{"resource": <JSON text>, "search": <encoded>, "type": …}``; decimals keep the digits they had."""

    resource: Any
    search: Any = None
    check: bool = True
    own_search: bool = False  # without ``search``, the resource is found by its own identifier

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when the resource is not JSON or not FHIR."""
        text = str(self.resource(document)).strip()
        resource = read_resource(text)
        if self.check:
            found = faults(resource)
            if found:
                message = f"fhir: the rendered {resource['resourceType']} is not valid: {'; '.join(found)}"
                raise StepError(message, location=found[0].partition(" ")[0])
        search = "" if self.search is None else encode_search(str(self.search(document)))
        if self.own_search and self.search is None and resource["resourceType"] != _BUNDLE:
            search = search_of(resource)
        request = {"resource": text, "search": search, "type": resource["resourceType"]}
        if resource.get("type") == "transaction" and resource["resourceType"] == _BUNDLE:
            request["transaction"] = True
        return orjson.dumps(request)


@dataclass(frozen=True, slots=True)
class Server:
    """One FHIR server of ``handoff.yaml``; ``token`` is a bearer token, where it wants one."""

    name: str
    base: str
    token: Any = None


def find_server(settings: Any, name: str, channel: str) -> Server:
    """Look a server up in the settings; raise `ConfigError` when it is missing or incomplete."""
    servers = settings.servers
    if name not in servers:
        known = ", ".join(sorted(servers)) or "none"
        message = f"channel {channel}: server {name!r} is not in handoff.yaml under `servers:` (there: {known})"
        raise ConfigError(message)
    base = web_address(getattr(servers[name], "base", ""), f"handoff.yaml, servers.{name}.base")
    return Server(name=name, base=base, token=getattr(servers[name], "token", None))


@dataclass(frozen=True, slots=True)
class _Write:
    """What one delivery asks for, as frozen."""

    kind: str
    body: bytes = field(repr=False)
    search: str = field(repr=False)
    key: str

    def with_id(self, name: str) -> bytes:
        """Return the body with the server's id in it; everything else stays byte for byte."""
        return b'{"id":"' + name.encode("ascii") + b'",' + self.body[1:]


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class FhirServer:
    """Sends resources to one FHIR R4 server; what the same search finds is written one after the other."""

    def __init__(self, server: Server, spec: FhirSpec) -> None:
        self._server = server
        self._peer = f"server {server.name}"
        self._keep = spec.on_match == "keep"
        # Where a search can tell what an earlier attempt did, a stale connection costs one more attempt and no more.
        self._http = Exchange(
            self._peer, timeout=spec.timeout, limit=spec.concurrency, reuse=spec.unknown_policy() == "retry"
        )
        self._busy: dict[str, _Turn] = {}

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one resource after the other."""
        return [await self._send(delivery) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        request = orjson.loads(delivery.request)
        write = _Write(request["type"], request["resource"].encode(), request["search"], delivery.key)
        if not write.search:
            # A transaction goes to the server's base itself (FHIR R4 http.html#transaction).
            path = "" if request.get("transaction") else write.kind
            answer = await self._request(write, "POST", path, body=write.body)
            return classed(answer, self._peer, write.kind, time.time())
        # Conditional create is a race on many servers (two at once make two), so two are never under way at once.
        async with self._turn(f"{write.kind}?{write.search}"):
            return await self._find_and_write(write)

    @contextlib.asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        turn = self._busy.setdefault(key, _Turn())
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._busy[key]

    async def _find_and_write(self, write: _Write) -> Outcome:
        """Look, then create or update; look once more when somebody else wrote in between."""
        ending: Outcome = Retry(f"{self._peer}: it was changed at the same time")
        created = False
        for _ in range(2):
            found = await self._find(write)
            if found is None and not created:
                found, created = await self._create(write), True
            if found is None:  # a 200 that named nothing: see what it meant, but never create twice
                ending = Unknown(f"HTTP 200 from {self._peer} (not said what matched, and nothing is found)")
                continue
            if not isinstance(found, Match):
                return found
            if self._keep:
                return Delivered(reference=found.reference(write.kind))
            answer = await self._update(write, found)
            if not isinstance(answer, Answer) or answer.status not in {409, 412}:
                return classed(answer, self._peer, write.kind, time.time(), found.name)
            ending = Retry(f"HTTP {answer.status} from {self._peer} (it was changed at the same time)")
        return ending

    async def _find(self, write: _Write) -> Match | Outcome | None:
        """Search for what is there; whatever goes wrong, nothing was written."""
        answer = await self._request(write, "GET", f"{write.kind}?{write.search}")
        if not isinstance(answer, Answer):
            return Retry(f"{answer.reason} (while searching)")
        if answer.status == 200:  # noqa: PLR2004 - a searchset, FHIR R4 http.html#search
            return read_matches(answer, self._peer, write.kind)
        outcome = classed(answer, self._peer, write.kind, time.time())
        if isinstance(outcome, Unknown | Delivered):
            return Retry(f"HTTP {answer.status} from {self._peer} (while searching)", response=answer.body)
        return outcome

    async def _create(self, write: _Write) -> Match | Outcome | None:
        """Create unless something appeared meanwhile; then return that, or None when the server does not say what."""
        headers = {"If-None-Exist": write.search}
        answer = await self._request(write, "POST", write.kind, headers, write.body)
        if isinstance(answer, Answer) and answer.status == 200:  # noqa: PLR2004 - one matched, the body was ignored
            return named(answer, write.kind)
        if isinstance(answer, Answer) and answer.status == 412:  # noqa: PLR2004 - FHIR R4 http.html#ccreate
            return Rejected(f"HTTP 412 from {self._peer} (several match the search)", response=answer.body)
        if isinstance(answer, Answer) and answer.status == 409:  # noqa: PLR2004 - two at the same time
            return Retry(f"HTTP 409 from {self._peer} (somebody wrote at the same time)", response=answer.body)
        return classed(answer, self._peer, write.kind, time.time())

    async def _update(self, write: _Write, found: Match) -> Answer | Failure:
        headers = {"If-Match": f'W/"{found.version}"'} if found.version else {}
        return await self._request(write, "PUT", f"{write.kind}/{found.name}", headers, write.with_id(found.name))

    async def _request(
        self, write: _Write, method: str, path: str, extra: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer | Failure:
        headers = {"Accept": MEDIA_TYPE, "X-Request-Id": write.key, **(extra or {})}
        if body is not None:
            headers |= {"Content-Type": MEDIA_TYPE, "Prefer": "return=minimal"}
        token = reveal(self._server.token)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        address = f"{self._server.base}/{path}" if path else self._server.base
        return await self._http.exchange(method, address, headers, body)
