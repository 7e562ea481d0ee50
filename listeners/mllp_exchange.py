"""This module is what happens to a message that came over MLLP: it goes to the intake, and its result is answered.

An `Exchange` is a message and what became of it; `Exchanges` begins them and says what is answered. A batch is one
exchange with many inside (`BatchExchange`). No sockets here, and no order: those are the connection's.
"""

import itertools
import time
from asyncio import CancelledError, Future, get_running_loop, wait
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker.errors import Breach, MessageError, NotAccepted, refused
from broker.message import Ended, Inbound, Receipt
from broker.notices import BatchFaulty, Bug, MessageRefused, PeerRefused
from broker.parts import Tools
from broker.wire.ack import (
    acknowledge,
    application_code,
    bad_code,
    commit_code,
    is_acknowledgment,
    refusal_code,
)
from broker.wire.batch import Batch, Fault, Group, answer_batch, envelope_of
from broker.wire.header import Header, read_header
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, frame
from listeners.tls import Peer

# Our own MSH-10: unique in this process by the counter, among processes by when they began.
_BEGAN: Final = f"{time.time_ns() // 1_000_000:X}"
_COUNTER: Final = itertools.count(1)
_AT_ONCE: Final = 64  # messages of a batch that wait for their commit
_TORN: Final = "a segment of the batch's envelope stands inside the message; send it again, whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a listener answers: in original mode whatever is wished, with the commit blocks of MLLP release 2, and when.

    ``waits`` says that the answer is due when the steps have ended, not at the commit.
    """

    original: bool
    blocks: bool
    waits: bool = False


@dataclass(slots=True)
class Exchange:
    """A message and what became of it: the intake's promise, or an answer that was clear at once.

    There is no ``header`` where the message answers another, and so has no answer.
    """

    header: Header | None = field(repr=False)
    body: bytes = field(repr=False)
    promise: "Future[Receipt] | None"  # after which it is answered first
    steps: "Future[Receipt] | None" = None  # after which it is answered again
    size: int = 0
    answer: tuple[bytes, ...] = field(default=(), repr=False)
    refused: bool = False  # by our own fault: nothing was kept, and sending it again may help


def control_id() -> str:
    """Return a control id (MSH-10) that no other acknowledgment has."""
    return f"{_BEGAN}{next(_COUNTER):08X}"


class Exchanges:
    """Begins the exchanges of one connection, and makes their answers."""

    def __init__(self, tools: Tools, peer: str, control_id: Callable[[], str], manner: Manner) -> None:
        self.tools = tools
        self.peer = peer
        self.control_id = control_id
        self.original = manner.original
        self.speaker: Peer | None = None  # who showed a certificate
        self._blocks = manner.blocks
        self._waits = manner.waits

    def begin(self, body: bytes, header: Header, *, alone: bool = True) -> Exchange:
        """Hand a message to the intake; one that answers another is kept and never answered.

        Of a batch (not ``alone``) everything is answered at once.
        """
        if is_acknowledgment(header, body):
            self.quarantine("an acknowledgment came where messages are expected; it is not answered", body)
            return Exchange(None, b"", None)
        if self.speaker is not None and not self.speaker.may_speak_for(header):
            return self._strange(body, header, self.speaker)
        inbound = Inbound(
            channel=self.tools.channel,
            body=body,
            peer=self.peer,
            received_at=time.time(),
            header=header,
            waits=self._waits,
        )
        if alone and self._waits and not self.original and commit_code(header, "AA") is not None:
            return self._begin_in_two(inbound, header)
        return Exchange(header, body, self.tools.intake.accept(inbound), size=len(body))

    def _begin_in_two(self, inbound: Inbound, header: Header) -> Exchange:
        """Hand in a message whose sender waits for the commit, and hears later what its steps made of it."""
        stored: Future[Receipt] = get_running_loop().create_future()
        inbound.on_stored = lambda receipt: None if stored.done() else stored.set_result(receipt)
        steps = self.tools.intake.accept(inbound)
        steps.add_done_callback(lambda _: _follow(stored, steps))
        return Exchange(header, inbound.body, stored, steps, len(inbound.body))

    def _strange(self, body: bytes, header: Header, speaker: Peer) -> Exchange:
        """Refuse a message whose sender the peer's certificate does not speak for."""
        name = speaker.names[0] if speaker.names else "without a name"
        reason = f"the certificate of {name} does not speak for this sender (listen.mllp.tls.senders)"
        self.tools.notify(PeerRefused(channel=self.tools.channel, peer=self.peer, reason=reason))
        refusal = NotAccepted(reason, code="AR", condition=207, location="MSH-3")
        self.refuse_bytes(reason, body, refusal.condition, refusal.code)
        return Exchange(header, b"", None, answer=self.refusal(header, refusal))

    def written(self, exchange: "Exchange | BatchExchange") -> bytes:
        """Return what is written for an exchange that has ended: its acknowledgments, each in a frame of its own."""
        messages = exchange.answers() if isinstance(exchange, BatchExchange) else self.answers(exchange)
        if self._blocks:
            # A peer that is told to send it again waits for nothing else.
            block = frame(NOT_COMMITTED if exchange.refused else COMMITTED)
            return block if exchange.refused else block + b"".join(map(frame, messages))
        return frame(messages[0]) if len(messages) == 1 else b"".join(map(frame, messages))

    def answers(self, exchange: Exchange) -> tuple[bytes, ...]:
        """Return the acknowledgments that a message gets now that its promise is kept or broken, one message each."""
        promise, header = exchange.promise, exchange.header
        if promise is None or header is None:
            return exchange.answer
        error = promise.exception()
        if error is None:
            if exchange.steps is not None:
                return self._committed(header)
            receipt = promise.result()
            failed = receipt.ended if receipt.ended is not None and not receipt.ended.is_good else None
            if self.original or not (header.accept_ack or header.application_ack):
                return (self._verdict(header, _code(failed), failed),)
            return self._committed(header) + self._processed(header, failed)
        if not isinstance(error, NotAccepted):
            self.tools.notify(Bug(where="intake.accept", error=type(error).__name__))
            error = NotAccepted("the message could not be stored; send it again", code="AE", condition=207)
        exchange.refused = error.is_ours
        if error.is_ours:  # its sender keeps it; what the store could not take, or has no room for, is not put there
            self.refuse(error.code, error.condition, str(error))
        else:
            self.refuse_bytes(str(error), exchange.body, error.condition, error.code)
        return self.refusal(header, error)

    def late(self, exchange: Exchange) -> bytes:
        """Return what is written when the steps of a message have ended whose commit was answered before."""
        if exchange.steps is None or exchange.header is None:
            return b""
        error = exchange.steps.exception()
        failed = Ended("", reason=str(error)) if isinstance(error, NotAccepted) else None
        if error is None and (ended := exchange.steps.result().ended) is not None and not ended.is_good:
            failed = ended
        return b"".join(map(frame, self._processed(exchange.header, failed)))

    def _committed(self, header: Header) -> tuple[bytes, ...]:
        """Return the accept acknowledgment, where one is due: enhanced mode tells commit and processing apart."""
        code = commit_code(header, "AA")
        return () if code is None else (acknowledge(header, code, self.control_id(), time.time()),)

    def _processed(self, header: Header, failed: Ended | None) -> tuple[bytes, ...]:
        """Return the application acknowledgment, where one is due: with ``acknowledge: stored``, at the commit."""
        code = application_code(header, _code(failed))
        return () if code is None else (self._verdict(header, code, failed, silent=True),)

    def _verdict(self, header: Header, code: str, failed: Ended | None, *, silent: bool = False) -> bytes:
        """Return what the steps made of a message; it is kept either way, so sending it again changes nothing."""
        if failed is None:
            return acknowledge(header, code, self.control_id(), time.time(), silent=silent)
        told = failed.breaches or (Breach(failed.location or "", 207, failed.reason or "the steps failed"),)
        return acknowledge(
            header,
            code,
            self.control_id(),
            time.time(),
            text=told[0].text,
            condition=told[0].condition,
            location=told[0].location,
            diagnostic=f"channel {self.tools.channel}: it waits for an operator, at {failed.step or 'its steps'}",
            further=told[1:],
            silent=silent,
        )

    def refusal(self, header: Header, error: NotAccepted) -> tuple[bytes, ...]:
        """Return the one answer to a message that was not accepted, where it wants one."""
        if self.original:
            header = header._replace(accept_ack=b"", application_ack=b"")
        code = refusal_code(header, error.code)
        if code is None:
            return ()
        return (
            acknowledge(
                header,
                code,
                self.control_id(),
                time.time(),
                text=str(error),
                condition=error.condition,
                location=error.location,
                diagnostic=f"channel {self.tools.channel}: "
                + ("nothing was kept of it" if error.is_ours else "what was refused is in quarantine"),
            ),
        )

    def refuse_bytes(self, reason: str, body: bytes, condition: int, code: str = "AR") -> None:
        """Tell that a message was refused, and keep its bytes."""
        self.refuse(code, condition, reason)
        self.quarantine(reason, body)

    def refuse(self, code: str, condition: int, reason: str) -> None:
        """Tell that something was refused."""
        self.tools.notify(
            MessageRefused(channel=self.tools.channel, peer=self.peer, code=code, condition=condition, reason=reason)
        )

    def quarantine(self, reason: str, data: bytes) -> None:
        """Keep bytes that never became a message."""
        self.tools.intake.quarantine(self.tools.channel, self.peer, reason, data)


def _code(failed: Ended | None) -> str:
    """Return the code of table 0008 for what the steps made of a message."""
    return "AA" if failed is None else bad_code(breach.condition for breach in failed.breaches)


def _follow(stored: "Future[Receipt]", steps: "Future[Receipt]") -> None:
    """Let the first answer be that of the second where the message was never stored."""
    error = None if steps.cancelled() else steps.exception()
    if stored.done():
        return
    if steps.cancelled():
        stored.cancel()
    elif error is not None:
        stored.set_exception(error)
    else:
        stored.set_result(steps.result())


class BatchExchange:
    """A batch on its way: its messages go to the intake a few at a time, and are answered together after the last.

    ``promise`` resolves when every message is committed or refused; it is cancelled when the engine stops before.
    """

    def __init__(self, exchanges: Exchanges, batch: Batch, size: int) -> None:
        if exchanges.original and batch.like is not None:
            batch.like = batch.like._replace(accept_ack=b"", application_ack=b"")
        self.size = size
        self.refused = False  # see `Exchange`: of one message at least
        self._exchanges = exchanges
        self._batch = batch
        self._answers: list[list[bytes]] = []
        self._answerable = not batch.size
        self.promise = get_running_loop().create_task(self._take())

    def answers(self) -> tuple[bytes, ...]:
        """Return the batch of acknowledgments, or nothing where no message wants one and no fault is to be told.

        A batch of acknowledgments is not answered, whatever is wrong with it: two engines would do so for ever.
        """
        batch = self._batch
        error = self.promise.exception()
        if error is not None:
            self._exchanges.tools.notify(Bug(where="mllp.batch", error=type(error).__name__))
            self.refused = self._answerable = True
            self._answers += [[] for _ in batch.groups[len(self._answers) :]]
            batch.files[-1].faults.append(Fault("the batch could not be taken in; send it again", condition=207))
        if not self._answerable or not (any(self._answers) or batch.faults or not batch.size):
            return ()
        return (answer_batch(batch, self._answers, self._exchanges.control_id, time.time()),)

    async def _take(self) -> None:
        self._tell_faults()
        for file in self._batch.files:
            for group in file.groups:
                envelope = envelope_of(file, group, self._batch.like)._replace(control_id=b"")
                self._answers.append(await self._take_group(group, envelope))

    def _tell_faults(self) -> None:
        """Keep what belongs to no message, and tell what is wrong: once for the batch, however much that is."""
        exchanges, batch = self._exchanges, self._batch
        if batch.strays:
            exchanges.quarantine("segments of a batch that belong to no message", b"".join(batch.strays))
        if faults := batch.faults:
            exchanges.tools.notify(
                BatchFaulty(
                    channel=exchanges.tools.channel,
                    peer=exchanges.peer,
                    messages=batch.size,
                    faults=len(faults),
                    reason=faults[0].text,
                )
            )

    async def _take_group(self, group: Group, envelope: Header) -> list[bytes]:
        """Hand in the messages of a group, so many at once that a commit is full; return their answers in order."""
        answers: list[bytes] = []
        for begin in range(0, len(group.messages), _AT_ONCE):
            numbers = range(begin, min(begin + _AT_ONCE, len(group.messages)))
            open_ = [self._begin(group.messages[number], envelope, torn=number in group.torn) for number in numbers]
            promises = [exchange.promise for exchange in open_ if exchange.promise is not None]
            if promises:
                await wait(promises)
            if any(promise.cancelled() for promise in promises):
                raise CancelledError
            for exchange in open_:
                answers += self._exchanges.answers(exchange)
                self.refused = self.refused or exchange.refused
                self._answerable = self._answerable or exchange.header is not None
        return answers

    def _begin(self, body: bytes, envelope: Header, *, torn: bool) -> Exchange:
        """Hand one message in, or refuse it: alone, whatever is wrong with it."""
        header = envelope
        refusal = NotAccepted(_TORN, code="AR", condition=100) if torn else None
        try:
            header = read_header(body)
        except MessageError as error:
            refusal = refused(error)
        if refusal is None:
            return self._exchanges.begin(body, header, alone=False)
        self._exchanges.refuse_bytes(str(refusal), body, refusal.condition, refusal.code)
        return Exchange(header, b"", None, answer=self._exchanges.refusal(header, refusal))
