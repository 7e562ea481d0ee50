"""This module hands in what a gateway brings: reports of deliveries, replies, and the news that somebody opted out.

A reply becomes a message of the channel that the gateway's ``replies:`` names, in the format ``text``.
"""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from broker.delivery import Report
from broker.errors import NotAccepted, StoreError
from broker.message import Inbound
from broker.notices_texts import ReplyRefused
from broker.wire.smpp import ShortMessage
from broker.wire.smpp_text import read_receipt, read_text

if TYPE_CHECKING:
    from broker.parts import Tools

_OK: Final = 0x00
_LATER: Final = 0x64  # ESME_RX_T_APPN
_NEVER: Final = 0x66  # ESME_RX_R_APPN


class Arrivals:
    """What one gateway brings; ``replies`` names a channel, or nothing."""

    def __init__(self, gateway: str, replies: str, tools: "Tools") -> None:
        self._gateway = gateway
        self._replies = replies
        self._tools = tools

    async def brought(self, message: ShortMessage) -> int:
        """Take what an SMSC brings in deliver_sm; return the command_status to answer with, after the commit."""
        receipt = read_receipt(message)
        try:
            if receipt is not None:
                await self.report(receipt.message_id, receipt.state, receipt.code)
                return _OK
            text, part = read_text(message)
            source, destination = (
                f"+{one.value}" if one.ton == 1 else one.value for one in (message.source, message.destination)
            )
            parts = {} if part is None else {"reference": part.reference, "total": part.total, "number": part.number}
            return _OK if await self.reply(source, destination, text, part=parts) else _NEVER
        except (NotAccepted, StoreError):
            return _LATER

    async def report(self, identifier: str, state: str, code: str = "", at: float | None = None) -> None:
        """Keep what the gateway says of the text that it calls ``identifier``. Raises `StoreError`."""
        moment = datetime.now(UTC).timestamp() if at is None else at
        await self._tools.intake.report(Report(f"{self._gateway}/{identifier}", state, code, moment))

    async def reply(self, sender: str, recipient: str, text: str, *, part: dict[str, int] | None = None) -> bool:
        """Hand in what somebody answered; say whether there is a channel for it. Raises `NotAccepted`."""
        return await self._accept("reply", {"from": sender, "to": recipient, "text": text, "part": part or None})

    async def opted_out(self, number: str, key: str) -> bool:
        """Hand in that a gateway refuses texts to a number; ``key`` is of the delivery that found out."""
        return await self._accept("opted_out", {"from": number}, key.encode())

    async def _accept(self, kind: str, said: dict[str, Any], key: bytes = b"") -> bool:
        if not self._replies:
            self._tools.notify(ReplyRefused(gateway=self._gateway, kind=kind))
            return False
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = {"kind": kind, "gateway": self._gateway, "at": at} | {k: v for k, v in said.items() if v is not None}
        inbound = Inbound(
            channel=self._replies,
            body=orjson.dumps(body),
            peer=f"gateway {self._gateway}",
            received_at=datetime.now(UTC).timestamp(),
            key=key,
        )
        try:
            accepted = self._tools.intake.accept(inbound)
        except KeyError:  # the channel does not run now
            raise NotAccepted(f"the channel {self._replies} does not run") from None
        await asyncio.shield(accepted)
        return True
