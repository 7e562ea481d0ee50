"""This module is what all listeners over HTTP have in common: who may call, how fast, how much, and how to say no."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, model_validator

from broker.errors import NotAccepted, NotReady
from broker.hosts import Network, is_loopback, is_within, networks
from broker.message import Inbound, Receipt
from broker.notices import Bug, ListenerStarted, MessageRefused, PeerRefused
from broker.parts import Tools
from broker.spec import Bytes, Endpoint, ListenerSpec, Seconds
from listeners.http_callers import ANYBODY, Caller, Callers, Signed
from listeners.http_connection import Bounds
from listeners.http_port import HttpPort, PortOptions, Route, join, leave
from listeners.http_request import RETRY_AFTER, Answer, Refusal, Request, problem, refused
from listeners.pace import Pace
from listeners.signatures import load_preset, presets
from listeners.tls import TlsSpec

LONGEST_KEY: Final = 255


def _plain(value: str) -> str:
    if not value.startswith("/") or set(value) & set("?#%\\ ") or "//" in value or "/." in value:
        raise ValueError("a path begins with / and has no blanks, ?, #, %, or dots in front, such as /lab/results")
    return value if value == "/" else value.rstrip("/")


def _signs(value: str) -> str:
    if value not in presets() or load_preset(value).signature is None:
        raise ValueError(f"there is no such signature; known: {', '.join(presets(signed=True))}")
    return value


SignatureName = Annotated[str, AfterValidator(_signs)]
SIGNATURE: Final[Any] = Field("standard", description="How callers with a `signature` sign: the name of a preset.")


def signed_by(name: str) -> Signed | None:
    """Return what checks signatures as a preset has them."""
    scheme = load_preset(name).signature
    return scheme.verify if scheme is not None else None


class HttpPortSpec(ListenerSpec):
    """What every listener over HTTP has in common."""

    endpoint: Endpoint = Field(
        description="Address and port to listen on, such as 127.0.0.1:8600. Channels may share one, by their paths."
    )
    path: Annotated[str, AfterValidator(_plain)] = Field("/", description="The path that is served, such as /lab.")
    callers: list[str] = Field([], description="Who may call: names under `callers` in handoff.yaml.")
    anonymous: str = Field(
        "",
        description="Why it is safe to let other machines call without saying who they are; without `callers`, without "
        "`tls.ca` and without a reason a listener takes loopback addresses only.",
    )
    tls: TlsSpec | None = Field(None, description="TLS, and by what certificates the two ends know each other.")
    unprotected: str = Field(
        "",
        description="Why it is safe to let other machines in without TLS, such as `a proxy on this host ends TLS`; "
        "without `tls` and without a reason a listener takes loopback addresses only.",
    )
    allow: list[Network] = Field(
        [], description="Addresses and networks that may call, such as 10.1.0.0/16; empty lets any."
    )
    rate: float | None = Field(
        None, gt=0, description="Requests a second of one peer; what is faster is told to come later (429)."
    )
    connections: int = Field(1000, ge=1, description="Most connections at a time; further ones are turned away.")
    max_body: Bytes = Field(16 * 1024**2, gt=0, description="Largest body; a larger one is refused (413).")
    head_deadline: Seconds = Field(10.0, gt=0, description="Longest time from a request's first byte to its body.")
    body_deadline: Seconds = Field(30.0, gt=0, description="Longest time for a body to arrive (408).")
    idle: Seconds = Field(60.0, gt=0, description="Close a connection on which no request came for so long.")

    @model_validator(mode="after")
    def _is_protected(self) -> "HttpPortSpec":
        if self.tls is not None and self.tls.certificate is None:
            raise ValueError("tls of a listener needs certificate and key")
        if is_loopback(self.endpoint.rpartition(":")[0].strip("[]")):
            return self
        wide = f"{self.endpoint} lets other machines in"
        if self.tls is None and not self.unprotected:
            raise ValueError(f"{wide} without TLS: add `tls`, or say in `unprotected` why it is safe")
        if not self.callers and not self.anonymous and (self.tls is None or self.tls.ca is None):
            raise ValueError(f"{wide} whoever they are: add `callers`, or say in `anonymous` why it is safe")
        return self

    @property
    def caller_kinds(self) -> frozenset[str]:
        """The kinds of callers that it can tell apart."""
        return frozenset({"bearer", "basic", "api_key", "jwt", "certificate", "signature"})

    def port(self, root: Path) -> PortOptions:
        """Return what all channels of one port must say alike; files start at ``root``."""
        return PortOptions(
            endpoint=self.endpoint,
            tls=self.tls.below(root) if self.tls is not None else None,
            connections=self.connections,
            bounds=Bounds(self.head_deadline, self.idle),
        )

    def same_port(self, other: ListenerSpec) -> str:
        """Return why another listener cannot have the same endpoint, or nothing."""
        if not isinstance(other, HttpPortSpec):
            return "they do not speak the same protocol"
        if self.port(Path()) != other.port(Path()):
            return "tls, connections, head_deadline and idle must be the same there"
        return f"it serves {self.path} there already" if self.path == other.path else ""


class HttpService:
    """Serves one path for one channel; see `broker.parts.Listener`."""

    methods: tuple[str, ...] = ("POST",)
    below = False  # whether it serves what lies below its path, too
    in_body = False  # whether a body may hold the user and the password of a caller
    finishes = False  # whether requests help to finish what was taken before: they come in while space is short, too

    def __init__(self, spec: HttpPortSpec, tools: Tools, word: str, signed: Signed | None = None) -> None:
        self.tools = tools
        self.where = f"channel {tools.channel}: listen.{word}"
        self._spec = spec
        self._word = word
        self._root: Path = getattr(tools.settings, "root", Path())
        self._callers = Callers(self._known(spec, tools), self._root, signed, in_body=self.in_body)
        self._allowed = networks(spec.allow)
        self._pace = Pace(spec.rate, time.monotonic) if spec.rate is not None else None
        self._port: HttpPort | None = None
        self._route: Route | None = None

    def _known(self, spec: HttpPortSpec, tools: Tools) -> Mapping[str, Any]:
        known = getattr(tools.settings, "callers", {})
        missing = [name for name in spec.callers if name not in known]
        if missing:
            raise NotReady(f"{self.where}.callers: handoff.yaml has no caller {missing[0]}; add it to `callers`")
        return {name: known[name] for name in spec.callers}

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it really listens, as ``host:port/path``; nothing while stopped."""
        if self._port is None or not self._port.address:
            return ()
        return (self._port.address + ("" if self._spec.path == "/" else self._spec.path),)

    @property
    def connections(self) -> int:
        """How many peers are connected to its port."""
        return len(self._port.open) if self._port is not None else 0

    @property
    def port(self) -> int:
        """The port that is really listened on (0 before the start)."""
        address = self._port.address if self._port is not None else ""
        return int(address.rpartition(":")[2] or 0)

    async def start(self) -> None:
        """Serve the path; raise `NotReady` when that is not possible."""
        self._route = Route(
            channel=self.tools.channel,
            path=self._spec.path,
            below=self.below,
            largest=self._spec.max_body,
            where=self.where,
            notify=self.tools.notify,
            serve=self.serve,
        )
        self._port = await join(self._spec.port(self._root), self._route)
        self.tools.notify(ListenerStarted(channel=self.tools.channel, endpoint=self.endpoints[0]))

    async def stop(self) -> None:
        """Serve the path no more; the port is closed when nobody else has it, and what was begun is answered."""
        port, route = self._port, self._route
        self._port = self._route = None
        if port is not None and route is not None:
            await leave(port, route)

    async def serve(self, request: Request) -> Answer:
        """Answer one request."""
        body = b""
        try:
            self._admit(request)
            caller = ANYBODY if self.is_public(request) else await self._callers.identify(request)
            request.url = self.url(request)
            if request.method not in {"GET", "HEAD"}:
                await self._wait_for_room()
                body = await request.body(self._spec.max_body, self._spec.body_deadline)
            return await self.answer(request, body, caller)
        except Refusal as refusal:
            self._tell(request, refusal)
            return self.refusal(request, refusal)

    async def answer(self, request: Request, body: bytes, caller: Caller | None) -> Answer:
        """Answer a request that was read; where its head did not say who calls, its body has to. Raises `Refusal`."""
        return await self.take(request, body, caller or self._callers.verify(request, body))

    def is_public(self, request: Request) -> bool:  # noqa: ARG002 - for those that have such requests
        """Tell whether anybody may ask this, whoever the callers are."""
        return False

    def url(self, request: Request) -> str:
        """Return the address that the peer called, where the channel says what that is."""
        return request.path

    def _admit(self, request: Request) -> None:
        """See that this peer may call, and so often. Raises `Refusal`."""
        if self._allowed and not is_within(request.host, self._allowed):
            raise Refusal(403, f"its address is not in listen.{self._word}.allow")
        if self._pace is not None:
            if ahead := self._pace.ahead(request.host):
                raise Refusal(429, "too many requests; come again later", headers={"retry-after": str(int(ahead) + 1)})
            self._pace.spend(request.host, 1)
        if request.method not in self.methods:
            allowed = ", ".join(self.methods)
            raise Refusal(405, f"only {allowed} is served here", headers={"allow": allowed})
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal(
                415, "compressed bodies are not taken; send it as it is", headers={"accept-encoding": "identity"}
            )

    async def _wait_for_room(self) -> None:
        """Read no body while too much waits for the store, nor while its disk is nearly full. Raises `Refusal`."""
        pressure = self.tools.pressure
        if pressure.is_high:
            low = asyncio.Event()
            pressure.when_low(low.set)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._spec.body_deadline):
                    await low.wait()
            pressure.forget(low.set)
        if pressure.is_high or (pressure.is_short and not self.finishes):
            raise Refusal(503, f"{pressure.reason}; send it again later", headers={"retry-after": RETRY_AFTER})

    def _tell(self, request: Request, refusal: Refusal) -> None:
        channel, reason = self.tools.channel, f"{refusal} ({refusal.status})"
        if refusal.status in {401, 403, 405, 408, 413, 415, 429, 431}:
            self.tools.notify(PeerRefused(channel=channel, peer=request.peer, reason=reason))
        else:
            code = "AE" if refusal.is_ours else "AR"
            notice = MessageRefused(channel=channel, peer=request.peer, code=code, condition=207, reason=reason)
            self.tools.notify(notice)

    async def take(self, request: Request, body: bytes, caller: Caller) -> Answer:
        """Do what a request asks for. Raises `Refusal`."""
        raise NotImplementedError

    def refusal(self, request: Request, refusal: Refusal) -> Answer:  # noqa: ARG002 - for those that have several forms
        """Return what a refusal is answered with."""
        return problem(refusal)

    async def accept(
        self, request: Request, body: bytes, key: bytes = b"", peer: str = "", *, key_decides: bool = False
    ) -> Receipt:
        """Return once a message is committed. Raises `Refusal`; one that is wrong itself is kept in quarantine."""
        channel, peer = self.tools.channel, peer or request.peer
        now = time.time()
        inbound = Inbound(channel=channel, body=body, peer=peer, received_at=now, key=key, key_decides=key_decides)
        try:
            return await self.tools.intake.accept(inbound)
        except NotAccepted as error:
            if not error.is_ours:
                self.tools.intake.quarantine(channel, peer, str(error), body)
            raise refused(error) from None
        except Exception as error:  # noqa: BLE001 - its text may hold patient data
            self.tools.notify(Bug(where="intake.accept", error=type(error).__name__))
            text = "the message could not be stored; send it again"
            raise Refusal(503, text, headers={"retry-after": RETRY_AFTER}) from None


def idempotency_key(request: Request, caller: Caller) -> bytes:
    """Return what makes a message the same as one that came before: the Idempotency-Key, each caller's own."""
    given = request.headers.get("idempotency-key", "").strip().strip('"')
    if len(given) > LONGEST_KEY:
        raise Refusal(400, f"the Idempotency-Key has more than {LONGEST_KEY} characters")
    return f"key\0{caller.name}\0{given}".encode() if given else b""
