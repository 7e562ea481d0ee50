"""This module is one HL7 v2 message in a request: it is handed in, and its acknowledgment goes into the answer."""

import asyncio
from dataclasses import dataclass, field

from broker.errors import MessageError
from broker.message import Receipt
from broker.parts import Tools
from broker.wire.batch import read_only_header
from listeners.http_answer import WaitSpec
from listeners.http_request import Refusal
from listeners.mllp_exchange import Exchanges, Manner, control_id
from listeners.tls import Certificates, Peer, TlsSpec


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What a message is answered with, where it wants an answer; ``refused``: nothing was kept, by our fault."""

    told: bytes = field(repr=False)
    refused: bool
    receipt: Receipt | None  # None where the message was refused, or answers another


async def exchange_hl7(tools: Tools, peer: str, body: bytes, wait: WaitSpec, speaker: Peer | None) -> Exchanged:
    """Hand a message in, and return its acknowledgment, once what is waited for is done.

    Raises `Refusal` for what has no header, or several (400), and where its steps did not end in time (504).
    """
    manner = Manner(original=False, blocks=False, waits=wait.waits)
    exchanges = Exchanges(tools, peer, control_id, manner)
    exchanges.speaker = speaker
    try:
        header = read_only_header(body)
    except MessageError as error:
        exchanges.quarantine(str(error), body)
        raise Refusal(400, str(error), location=error.location) from None
    exchange = exchanges.begin(body, header, alone=False)  # a request has one answer, at its end
    if exchange.promise is not None:
        await asyncio.wait([exchange.promise], timeout=wait.timeout if wait.waits else None)
        if not exchange.promise.done():
            exchange.promise.cancel()  # nobody hears of it any more
            raise Refusal(504, "the steps have not ended in time; send it again: it is known, and has no effect")
    answers = exchanges.answers(exchange)
    told = (answers[-1] if wait.waits else answers[0]) if answers else b""
    promise = exchange.promise
    receipt = promise.result() if promise is not None and promise.exception() is None else None
    return Exchanged(told, exchange.refused, receipt)


def speakers(tls: TlsSpec | None, where: str) -> Certificates | None:
    """Return what tells for which senders a certificate speaks; None where all may speak for any."""
    return Certificates(tls, where, lambda _: None) if tls is not None and tls.senders else None
