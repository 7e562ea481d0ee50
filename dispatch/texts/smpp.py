"""This module carries texts to an SMSC over SMPP 3.4, and hands in the receipts and replies that it brings.

All channels that send through one gateway share its bind, because SMSCs allow few. A text whose answer does not come is
`Unknown`: SMPP knows no idempotency key.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Literal

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from broker.errors import MessageError
from broker.notices import Notice
from broker.notices_texts import GatewayBound, GatewayUnbound
from broker.places import reveal
from broker.wire import smpp
from broker.wire.smpp import ShortMessage, address_of, message_id, status_name
from broker.wire.smpp_text import short_messages
from dispatch.texts.gateway import Text
from dispatch.texts.smpp_link import Access, Link, LinkLost, NotBound

# command_status with which the text was not taken, and may be later; with the seconds to wait at least.
TRANSIENT: Final[Mapping[int, float | None]] = {
    0x58: 1.0,  # ESME_RTHROTTLED
    0x14: 5.0,  # ESME_RMSGQFUL
    0x08: None,  # ESME_RSYSERR
    0x64: None,  # ESME_RX_T_APPN
}
_IN_WORDS: Final = {
    0x58: "too many texts at a time",
    0x14: "the gateway's queue is full",
    0x0A: "the sender's number is not valid",
    0x0B: "the recipient's number is not valid",
    0x45: "the gateway refused the text",
}
_PAUSE: Final = 0.5  # seconds after the first attempt to bind that failed; it doubles …
_LONGEST_PAUSE: Final = 60.0  # … up to this

# Takes what an SMSC brings; returns the command_status to answer with.
Brought = Callable[[ShortMessage], Awaitable[int]]
Notify = Callable[[Notice], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How texts are written for an SMSC, and what its own answers mean."""

    sender: str
    long: Literal["udh", "payload"] = "udh"
    receipts: bool = True
    suppress: frozenset[int] = field(default_factory=frozenset)  # of command_status: the recipient has opted out
    retry: frozenset[int] = field(default_factory=frozenset)  # of command_status: not taken for now


class Smsc:
    """One gateway, kept bound as long as somebody uses it."""

    def __init__(self, name: str, access: Access, ways: Ways, brought: Brought, notify: Notify) -> None:
        self._name = name
        self._notify = notify
        self.peer = f"gateway {name}"
        self._access = access
        self._ways = ways
        self._brought = brought
        self._link: Link | None = None
        self._binding = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._failures = 0  # to bind, in a row
        self._not_before = 0.0  # loop time of the next attempt to bind
        self._why = ""  # the last one failed
        self.users = 0

    def open(self) -> None:
        """Begin to keep the bind, so that receipts and replies can come even while no text leaves."""
        self.users += 1
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"bind {self.peer}")

    async def close(self) -> None:
        """Unbind with the last user."""
        self.users -= 1
        if self.users or self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(NotBound):  # the next text says why; there may be none for days
                await self._bound()
            await asyncio.sleep(_PAUSE)

    async def _bound(self) -> Link:
        async with self._binding:
            if self._link is None or not self._link.is_bound:
                old, self._link = self._link, None
                if old is not None:
                    await old.close()
                self._link = await self._bind()
            return self._link

    async def _bind(self) -> Link:
        """Bind anew, but not at once after it failed: SMSCs lock accounts that knock too often."""
        now = asyncio.get_running_loop().time
        if now() < self._not_before:
            raise NotBound(self._why)
        link = Link(self._access, self._take)
        try:
            await link.bind(reveal(self._access.password))
        except NotBound as error:
            self._failures += 1
            self._why = str(error)
            if self._failures == 1:
                self._notify(GatewayUnbound(gateway=self._name, reason=self._why))
            self._not_before = now() + min(_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE)
            raise
        self._failures = 0
        self._notify(GatewayBound(gateway=self._name))
        return link

    async def _take(self, pdu: smpp.Pdu) -> int:
        try:
            message = ShortMessage.decode(pdu.body)
        except MessageError:
            return 0x65  # ESME_RX_P_APPN: it will not be readable the next time either
        return await self._brought(message)

    async def send(self, text: Text, seconds: float) -> Outcome:
        """Submit a text; ``seconds`` is how long each answer may take."""
        try:
            link = await self._bound()
        except NotBound as error:
            return Retry(f"{self.peer}: {error}", is_away=True)
        taken: list[str] = []
        for part in self._parts(text):
            outcome = await self._submit(link, part, seconds)
            if not isinstance(outcome, Delivered):
                return self._partly(outcome, len(taken)) if taken else outcome
            taken.append(outcome.reference)
        return Delivered(reference=" ".join(filter(None, taken)))

    def _parts(self, text: Text) -> list[ShortMessage]:
        ways = self._ways
        return list(
            short_messages(
                address_of(ways.sender),
                address_of(text.to),
                text.body,
                reference=sha256(text.key.encode()).digest()[0],  # the same for every attempt
                receipts=ways.receipts,
                payload=ways.long == "payload",
            )
        )

    def _partly(self, outcome: Outcome, taken: int) -> Unknown:
        """Say that a text was begun and not ended: the recipient may see a part of it."""
        why = "" if isinstance(outcome, Delivered) else outcome.reason.removeprefix(f"{self.peer}: ")
        return Unknown(f"{self.peer}: it took {taken} parts of the text and not all ({why})")

    async def _submit(self, link: Link, part: ShortMessage, seconds: float) -> Outcome:
        try:
            answer = await link.request(smpp.SUBMIT_SM, part.encode(), seconds)
        except NotBound as error:
            return Retry(f"{self.peer}: {error}", is_away=True)
        except LinkLost as error:
            return Unknown(f"{self.peer}: {error}")
        if answer.status or answer.command == smpp.GENERIC_NACK:
            return self._refused(answer.status)
        try:
            return Delivered(reference=_printable(message_id(answer.body)))
        except MessageError:
            return Unknown(f"{self.peer}: success with a message_id that cannot be read")

    def _refused(self, status: int) -> Outcome:
        reason = f"{self.peer}: {status_name(status)}"
        if status in self._ways.suppress:
            return Suppressed(f"{reason}: the recipient has opted out")
        if status in _IN_WORDS:
            reason = f"{reason}: {_IN_WORDS[status]}"
        if status in TRANSIENT or status in self._ways.retry:
            return Retry(reason, after=TRANSIENT.get(status))
        return Rejected(reason)


def _printable(reference: str) -> str:
    return reference if reference.isascii() and reference.isprintable() and " " not in reference else ""


_shared: Final[dict[tuple[str, Access], Smsc]] = {}


class SmppGateway:
    """One channel's use of a gateway; see `dispatch.texts.gateway.Gateway`."""

    def __init__(
        self, name: str, access: Access, ways: Ways, brought: Brought, notify: Notify, *, timeout: float
    ) -> None:
        self._key = (name, access)
        self._ways = ways
        self._brought = brought
        self._notify = notify
        self._timeout = timeout
        self._smsc: Smsc | None = None

    async def open(self) -> None:
        """Bind, or begin to try."""
        if self._smsc is None:
            if self._key not in _shared:
                _shared[self._key] = Smsc(*self._key, self._ways, self._brought, self._notify)
            self._smsc = _shared[self._key]
            self._smsc.open()

    async def send(self, text: Text) -> Outcome:
        """Attempt one text."""
        if self._smsc is None:
            message = "smpp: used before open() or after close()"
            raise RuntimeError(message)
        return await self._smsc.send(text, self._timeout)

    async def close(self) -> None:
        """Let go of the gateway; the last one unbinds."""
        smsc, self._smsc = self._smsc, None
        if smsc is None:
            return
        await smsc.close()
        if not smsc.users:
            _shared.pop(self._key, None)
