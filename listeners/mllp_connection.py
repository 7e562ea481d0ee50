"""This module is one MLLP connection: frames in, messages on to the intake, answers back in the order the frames came.

Frames are handed to the intake as they arrive, so a sender that does not wait for answers fills a commit with many; how
many may be open is bounded, and beyond that nothing is read. The order of answers is kept by a queue of exchanges.
"""

import time
from asyncio import Future
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TcpConnection
from twisted.python.failure import Failure
from zope.interface import implementer

from broker.errors import MessageError, NotAccepted
from broker.message import Inbound, Receipt
from broker.notices import Bug, ConnectionClosed, ConnectionOpened, MessageRefused
from broker.parts import Tools
from broker.wire.ack import acknowledge, is_acknowledgment, reply_code
from broker.wire.header import Header, read_header
from broker.wire.mllp import CUT_OFF, Decoder, Empty, Frame, Item, Junk, Oversize, frame

_OPEN_FRAMES: Final = 64  # messages of one connection that wait for their commit
_OPEN_BYTES: Final = 32 * 1024**2
_NOISE: Final = 65_536  # bytes outside frames after which the peer cannot be speaking MLLP
_LINGER: Final = 3.0  # seconds in which a peer may read our last answer before the connection is cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may cost: bytes of a message, seconds of an open frame, seconds of silence (0: any)."""

    message: int
    frame_deadline: float
    idle: float


class Home(Shape):
    """What a connection needs of its listener."""

    tools: Tools
    limits: Limits
    reactor: Any

    def opened(self, connection: "Connection") -> None:
        """Count a connection, and set its socket up."""

    def closed(self, connection: "Connection") -> None:
        """Count a connection no more."""

    def control_id(self) -> str:
        """Return a control id (MSH-10) that no other acknowledgment has."""


@dataclass(slots=True)
class Exchange:
    """A message and the answer that it waits for: the intake's promise, or bytes that were clear at once."""

    header: Header = field(repr=False)
    body: bytes = field(repr=False)
    promise: Future[Receipt] | None
    answer: bytes = field(default=b"", repr=False)


@implementer(IPushProducer)
class Connection(Protocol):
    """One connection of one peer."""

    transport: Any

    def __init__(self, home: Home, peer: str) -> None:
        self._home = home
        self._tools = home.tools
        self.peer = peer
        self._decoder = Decoder(home.limits.message)
        self._open: deque[Exchange] = deque()
        self._open_bytes = 0
        self._full = False  # as much is open as may be
        self._deaf = False  # the peer does not read our answers
        self._ending = ""  # why nothing more is taken
        self._linger = False  # give the peer time to read the last answer
        self._closing = False
        self._gone = False
        self._frame_since = 0.0  # when the open frame began
        self._heard = 0.0  # when something came last
        self._timer: Any = None

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        """Set the connection up."""
        self._home.opened(self)
        # As a producer we are told when the peer does not read what we write.
        self.transport.registerProducer(self, True)  # noqa: FBT003 - Twisted's signature
        self._heard = self._home.reactor.seconds()
        if self._home.limits.idle:
            self._watch(self._home.limits.idle)
        self._tools.notify(ConnectionOpened(channel=self._tools.channel, peer=self.peer))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take what was read."""
        if self._ending:
            return  # it is read only so that the peer can see our last answer
        items = self._decoder.feed(data)
        for item in items:
            if isinstance(item, Frame):
                self._take(item.payload)
            else:
                self._explain(item)
            if self._is_over():
                return
        if self._decoder.noise > _NOISE:
            self.finish("the peer does not speak MLLP", linger=True)
        self._note_time(began=bool(items))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """Keep what was left unfinished; what was handed to the intake stays there."""
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        junk = None if self._ending else self._decoder.close()
        if junk is not None:
            self._quarantine(junk.reason, junk.data)
        self._home.closed(self)
        why = self._ending or f"the peer closed it ({reason.type.__name__ if reason.type else 'unknown'})"
        self._tools.notify(ConnectionClosed(channel=self._tools.channel, peer=self.peer, reason=why))

    def finish(self, reason: str, *, linger: bool = False) -> None:
        """Take nothing more, write the answers that are due, then close."""
        if self._ending or self._gone:
            return
        self._ending = reason
        self._linger = linger
        junk = self._decoder.close()
        if junk is not None:
            self._quarantine(reason if junk.reason == CUT_OFF else junk.reason, junk.data)
        self._read_or_not()
        if not self._open:
            self._close()

    def _is_over(self) -> bool:
        return bool(self._ending)

    def abort(self) -> None:
        """Cut the connection off."""
        self.transport.abortConnection()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Stop reading: the peer does not read our answers."""
        self._deaf = True
        self._read_or_not()

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Read again: the peer reads our answers."""
        self._deaf = False
        self._read_or_not()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's name
        """Do nothing: connectionLost follows."""

    def _take(self, body: bytes) -> None:
        """Hand a message to the intake; the answer follows its promise."""
        try:
            header = read_header(body)
        except MessageError as error:
            # Frames behind it are not taken: whoever sent them sees that no answer came, and sends them again.
            self._refuse_bytes(str(error), body, error.condition, code="")
            self.finish("a frame was not HL7", linger=True)
            return
        if is_acknowledgment(header, body):
            self._quarantine("an acknowledgment came where messages are expected; it is not answered", body)
            return
        promise = self._tools.intake.accept(
            Inbound(
                channel=self._tools.channel,
                body=body,
                peer=self.peer,
                received_at=time.time(),
                header=header,
            )
        )
        self._open.append(Exchange(header, body, promise))
        self._open_bytes += len(body)
        promise.add_done_callback(self._answer)
        if len(self._open) >= _OPEN_FRAMES or self._open_bytes >= _OPEN_BYTES:
            self._full = True
            self._read_or_not()

    def _explain(self, item: Item) -> None:
        """Deal with what is not a whole frame."""
        if isinstance(item, Junk):
            self._quarantine(item.reason, item.data)
        elif isinstance(item, Oversize):
            self._refuse_oversize(item.head)
        elif isinstance(item, Empty):
            self._refused("", 0, "an empty frame came; it is not answered")

    def _refuse_oversize(self, head: bytes) -> None:
        reason = f"the message is larger than {self._home.limits.message} bytes (listen.mllp.max_message)"
        self._refuse_bytes(reason, head, 207)
        try:
            header = read_header(head)
        except MessageError:
            header = None
        if header is not None and header.control_id and not is_acknowledgment(header, head):
            refusal = NotAccepted(reason, code="AR", condition=207)
            self._open.append(Exchange(header, b"", None, self._refusal(header, refusal)))
        self.finish("a message was too large", linger=True)
        self._answer()

    def _answer(self, _done: object = None) -> None:
        """Write every answer that is due, in order and at once."""
        answers: list[bytes] = []
        waiting = self._open
        while waiting and (waiting[0].promise is None or waiting[0].promise.done()):
            exchange = waiting.popleft()
            self._open_bytes -= len(exchange.body)
            answer = self._answer_to(exchange)
            if answer:
                answers.append(answer)
        if self._gone:
            return
        if answers:
            self._write(b"".join(answers) if len(answers) > 1 else answers[0])
        if self._full and len(waiting) <= _OPEN_FRAMES // 2 and self._open_bytes <= _OPEN_BYTES // 2:
            self._full = False
            self._read_or_not()
        if self._ending and not waiting:
            self._close()

    def _write(self, data: bytes) -> None:
        """Write at once where nothing waits to be written.

        Twisted writes in the loop's next turn, and asks the system to be told when it may: a third of all the work
        that a message makes here.
        """
        transport = self.transport
        if isinstance(transport, TcpConnection) and not (transport.dataBuffer or transport._tempDataBuffer):  # noqa: SLF001
            sent = transport.writeSomeData(data)
            if isinstance(sent, int):  # else the connection is lost, and `write` finds that out in the usual way
                data = data[sent:]
        if data:
            transport.write(data)

    def _answer_to(self, exchange: Exchange) -> bytes:
        promise = exchange.promise
        if promise is None:
            return exchange.answer
        if promise.cancelled():
            self.finish("the engine stops")
            return b""
        error = promise.exception()
        if error is None:
            code = reply_code(exchange.header, "AA")
            if code is None:
                return b""
            return frame(acknowledge(exchange.header, code, self._home.control_id(), time.time()))
        if not isinstance(error, NotAccepted):
            self._tools.notify(Bug(where="intake.accept", error=type(error).__name__))
            error = NotAccepted("the message could not be stored; send it again", code="AE", condition=207)
        self._refuse_bytes(str(error), exchange.body, error.condition, error.code)
        return self._refusal(exchange.header, error)

    def _refusal(self, header: Header, error: NotAccepted) -> bytes:
        code = reply_code(header, error.code)
        if code is None:
            return b""
        return frame(
            acknowledge(
                header,
                code,
                self._home.control_id(),
                time.time(),
                text=str(error),
                condition=error.condition,
                location=error.location,
            )
        )

    def _refuse_bytes(self, reason: str, body: bytes, condition: int, code: str = "AR") -> None:
        self._refused(code, condition, reason)
        self._quarantine(reason, body)

    def _refused(self, code: str, condition: int, reason: str) -> None:
        self._tools.notify(
            MessageRefused(channel=self._tools.channel, peer=self.peer, code=code, condition=condition, reason=reason)
        )

    def _quarantine(self, reason: str, data: bytes) -> None:
        self._tools.intake.quarantine(self._tools.channel, self.peer, reason, data)

    def _read_or_not(self) -> None:
        """Read unless something speaks against it; an open frame's time does not run while nothing is read."""
        if self._gone or self.transport.disconnecting:
            return
        if self._full or self._deaf or (self._ending and not self._linger):
            self.transport.pauseProducing()
        else:
            self._heard = self._home.reactor.seconds()
            if self._decoder.pending:
                self._frame_since = self._heard
            self.transport.resumeProducing()

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        transport = self.transport
        transport.unregisterProducer()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._home.reactor.callLater(_LINGER, self._cut)
        if self._linger:
            # Closing while unread bytes wait would reset the connection, and the peer would lose our answer with it.
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    def _cut(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _note_time(self, *, began: bool) -> None:
        """Note when something came, and when the open frame began: one timer a connection, never one a message."""
        limits = self._home.limits
        pending = self._decoder.pending
        if not pending:
            self._frame_since = 0.0
            if not limits.idle:
                return
        now = self._heard = self._home.reactor.seconds()
        if pending and (began or not self._frame_since):
            self._frame_since = now
            self._watch(limits.frame_deadline)

    def _watch(self, seconds: float) -> None:
        """Look again after so long at the latest."""
        reactor = self._home.reactor
        if self._timer is not None:
            if self._timer.getTime() <= reactor.seconds() + seconds:
                return
            self._timer.cancel()
        self._timer = reactor.callLater(seconds, self._look)

    def _look(self) -> None:
        """See whether a frame or the silence took too long; look again when the next could have."""
        self._timer = None
        now = self._home.reactor.seconds()
        limits = self._home.limits
        due: list[float] = []
        reading = not (self._full or self._deaf or self._ending)
        if self._decoder.pending:
            left = self._frame_since + limits.frame_deadline - now if reading else limits.frame_deadline
            if left <= 0:
                self.finish("a frame did not end in time")
                return
            due.append(left)
        if limits.idle:
            left = self._heard + limits.idle - now if reading and not self._open else limits.idle
            if left <= 0:
                self.finish("nothing came for a long time")
                return
            due.append(left)
        if due:
            self._watch(min(due))
