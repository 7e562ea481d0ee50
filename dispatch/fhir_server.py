"""This module sends resources to a FHIR R4 server: create, or find by a search and update or patch; and whole Bundles.

With a search every attempt looks first, so an attempt whose outcome stayed unknown can be repeated: what it may have
created is found. What the same search finds is written one after the other, because conditional create is a race on
many servers (two at once make two).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.named import find_named
from broker.places import reveal
from broker.tls import Tls, build_tls
from dispatch.auth import Credentials, Fixed, authorised_exchange, build_credentials
from dispatch.ehr_profile import EhrProfile, find_profile, with_statement
from dispatch.fhir_answer import Match, classed, named, read_matches
from dispatch.fhir_bundle import BUNDLE, bundle_outcome
from dispatch.http import Answer, Exchange, Failure, web_address, while_looking
from dispatch.turns import Turns
from dispatch.way import witnessed

if TYPE_CHECKING:
    from broker.parts import Tools

MEDIA_TYPE: Final = "application/fhir+json"
PATCH_TYPE: Final = "application/json-patch+json"

_CHANGED: Final = frozenset({409, 412})  # FHIR R4 says 412 of a stale version, Cerner 409


@dataclass(frozen=True, slots=True)
class Server:
    """One FHIR server of ``handoff.yaml``; ``token`` is short for the usual ``auth``, ``data`` the data folder."""

    name: str
    base: str
    token: Any = None
    auth: Any = None
    profile: EhrProfile = field(default_factory=lambda: find_profile("generic"))
    data: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = field(default=None, repr=False)

    @property
    def peer(self) -> str:
        """What reasons call it."""
        return f"server {self.name}"

    @property
    def every_header(self) -> dict[str, str]:
        """The headers that every request needs."""
        return {**self.profile.headers, **self.headers}

    def credentials(self, http: Exchange) -> Credentials:
        """Return what authorises requests; tokens are fetched over ``http``. Raises `ConfigError`."""
        token = reveal(self.token)
        if token:
            return Fixed({"Authorization": f"Bearer {token}"})
        return build_credentials(self.auth, self.peer, http, base=self.base, data=self.data)


def find_server(tools: "Tools", name: str) -> Server:
    """Look a server up in the settings; raise `ConfigError` when it is missing or incomplete."""
    settings = tools.settings
    found = find_named(settings.servers, name, f"channel {tools.channel}", "server", "servers")
    return Server(
        name=name,
        base=web_address(getattr(found, "base", ""), f"handoff.yaml, servers.{name}.base"),
        token=getattr(found, "token", None),
        auth=getattr(found, "auth", None),
        profile=profile_of(found, getattr(settings, "root", Path())),
        data=getattr(settings, "data", None),
        headers=getattr(found, "headers", {}),
        tls=build_tls(getattr(found, "tls", None), tools, f"handoff.yaml, servers.{name}.tls"),
    )


def profile_of(server: Any, root: Path) -> EhrProfile:
    """Return what a server of the settings takes; a relative path of a CapabilityStatement starts at ``root``.

    Raises `ConfigError` when the statement cannot be read.
    """
    profile = find_profile(getattr(server, "profile", None) or "generic")
    statement = getattr(server, "capabilities", None)
    return with_statement(profile, root / statement) if statement else profile


@dataclass(frozen=True, slots=True)
class _Write:
    """What one delivery asks for, as frozen."""

    kind: str
    body: bytes = field(repr=False)
    search: str = field(repr=False)
    key: str
    patches: bool
    bundle: str  # the type of a Bundle that is an interaction of its own
    entries: int  # of that Bundle

    @classmethod
    def of(cls, delivery: Delivery) -> "_Write":
        request = orjson.loads(delivery.request)
        return cls(
            request["type"],
            request["resource"].encode(),
            request["search"],
            delivery.key,
            request.get("patch", False),
            request.get("bundle", ""),
            request.get("entries", 0),
        )

    def with_id(self, name: str) -> bytes:
        """Return the body with the server's id in it; everything else stays byte for byte."""
        return b'{"id":"' + name.encode("ascii") + b'",' + self.body[1:]


class FhirServer:
    """Sends resources to one FHIR R4 server.

    ``keep`` leaves alone what a search finds, and without ``creates`` there has to be something. ``repeatable`` says
    that an attempt can tell what an earlier one did.
    """

    def __init__(
        self,
        server: Server,
        *,
        timeout: float,
        concurrency: int,
        keep: bool = False,
        creates: bool = True,
        repeatable: bool = False,
    ) -> None:
        self._server = server
        self._profile = server.profile
        self._peer = server.peer
        self._keep = keep
        self._creates = creates
        # Where a search can tell what an earlier attempt did, a stale connection costs one more attempt and no more.
        limit = min(concurrency, server.profile.concurrency or concurrency)
        self._http = Exchange(self._peer, timeout=timeout, limit=limit, reuse=repeatable, tls=server.tls)
        self._credentials = server.credentials(self._http)
        self._headers = server.every_header
        self._turns = Turns()

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send one resource after the other."""
        return [await witnessed(self._send(delivery)) for delivery in deliveries]

    async def _send(self, delivery: Delivery) -> Outcome:
        write = _Write.of(delivery)
        if not write.search:
            return await self._post(write)
        async with self._turns.turn(f"{write.kind}?{write.search}"):
            return await self._find_and_write(write)

    async def _post(self, write: _Write) -> Outcome:
        refusal = self._refusal(write, write.bundle or "create")
        if refusal is not None:
            return refusal
        # A transaction or batch goes to the server's base itself (FHIR R4 http.html#transaction).
        answer = await self._request(write, "POST", "" if write.bundle else write.kind, body=write.body)
        if write.bundle and isinstance(answer, Answer) and answer.status == 200:  # noqa: PLR2004 - as the above
            return bundle_outcome(answer, self._peer, write.bundle, write.entries)
        return self._classed(answer, write)

    def _refusal(self, write: _Write, interaction: str) -> Rejected | None:
        why = self._profile.refusal(write.kind if not write.bundle else BUNDLE, interaction)
        return Rejected(f"{self._peer}: {why}; {self._profile.advice(write.kind)}") if why else None

    def _classed(self, answer: Answer | Failure, write: _Write, name: str = "") -> Outcome:
        return classed(answer, self._peer, write.kind, time.time(), name, self._profile.errors)

    async def _find_and_write(self, write: _Write) -> Outcome:
        """Look, then create, update or patch; look once more when somebody else wrote in between."""
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
            answer = await self._change(write, found)
            if isinstance(answer, Rejected):
                return answer
            if not isinstance(answer, Answer) or answer.status not in _CHANGED:
                return self._classed(answer, write, found.name)
            ending = Retry(f"HTTP {answer.status} from {self._peer} (it was changed at the same time)")
        return ending

    async def _find(self, write: _Write) -> Match | Outcome | None:
        """Search for what is there; whatever goes wrong, nothing was written."""
        answer = await self._request(write, "GET", f"{write.kind}?{write.search}")
        if not isinstance(answer, Answer):
            return while_looking(answer, "while searching")
        if answer.status == 200:  # noqa: PLR2004 - a searchset, FHIR R4 http.html#search
            return read_matches(answer, self._peer, write.kind)
        outcome = self._classed(answer, write)
        if isinstance(outcome, Unknown | Delivered):
            return Retry(f"HTTP {answer.status} from {self._peer} (while searching)", response=answer.body)
        return outcome

    async def _create(self, write: _Write) -> Match | Outcome | None:
        """Create unless something appeared meanwhile; then return that, or None when the server does not say what."""
        if not self._creates:
            return Rejected(f"{self._peer}: nothing matches the search, so there is nothing to change")
        refusal = self._refusal(write, "create")
        if refusal is not None:
            return refusal
        headers = {"If-None-Exist": write.search}
        answer = await self._request(write, "POST", write.kind, headers, write.body)
        if isinstance(answer, Answer) and answer.status == 200:  # noqa: PLR2004 - one matched, the body was ignored
            return named(answer, write.kind)
        if isinstance(answer, Answer) and answer.status == 412:  # noqa: PLR2004 - FHIR R4 http.html#ccreate
            return Rejected(f"HTTP 412 from {self._peer} (several match the search)", response=answer.body)
        if isinstance(answer, Answer) and answer.status == 409:  # noqa: PLR2004 - two at the same time
            return Retry(f"HTTP 409 from {self._peer} (somebody wrote at the same time)", response=answer.body)
        return self._classed(answer, write)

    async def _change(self, write: _Write, found: Match) -> Answer | Failure | Rejected:
        """Update or patch what was found, guarded by its version where there is one."""
        refusal = self._refusal(write, "patch" if write.patches else "update")
        if refusal is not None:
            return refusal
        version = found.version
        if not version and self._profile.versions == "required":
            version = await self._read_version(write, found)
        headers = {"If-Match": f'W/"{version}"'} if version and self._profile.versions != "none" else {}
        path = f"{write.kind}/{found.name}"
        if write.patches:
            return await self._request(write, "PATCH", path, headers, write.body, PATCH_TYPE)
        return await self._request(write, "PUT", path, headers, write.with_id(found.name))

    async def _read_version(self, write: _Write, found: Match) -> str:
        """Return the version of what a search found without one; empty where the server does not say it here either."""
        answer = await self._request(write, "GET", f"{write.kind}/{found.name}")
        read = named(answer, write.kind) if isinstance(answer, Answer) else None
        return read.version if read is not None else ""

    async def _request(
        self,
        write: _Write,
        method: str,
        path: str,
        extra: dict[str, str] | None = None,
        body: bytes | None = None,
        media_type: str = MEDIA_TYPE,
    ) -> Answer | Failure:
        headers = {"Accept": MEDIA_TYPE, "X-Request-Id": write.key, **self._headers, **(extra or {})}
        if body is not None:
            headers |= {"Content-Type": media_type, "Prefer": "return=minimal"}
        address = f"{self._server.base}/{path}" if path else self._server.base
        return await authorised_exchange(self._http, self._credentials, method, address, headers, body)
