"""This module is one MLLP connection: frames in, messages on to the intake, answers back in the order the frames came.

Frames are handed to the intake as they arrive, so a sender that does not wait for answers fills a commit with many; how
many may be open is bounded, and beyond that nothing is read. The order of answers is kept by a queue of exchanges.
"""

from asyncio import Future
from collections import deque
from typing import Any, Final
from typing import Protocol as Shape

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from broker.errors import MessageError, NotAccepted
from broker.wire.ack import is_acknowledgment
from broker.wire.batch import is_batch, is_several, split_batch
from broker.wire.header import read_header
from broker.wire.mllp import (
    COMMITTED,
    CUT_OFF,
    NOT_COMMITTED,
    Decoder,
    Empty,
    Frame,
    Item,
    Junk,
    Oversize,
)
from listeners.connection import Home, PortConnection
from listeners.mllp_exchange import BatchExchange, Exchange, Exchanges, Manner
from listeners.watch import State
from listeners.writing import write_now

_OPEN_FRAMES: Final = 64  # messages of one connection that wait for their commit
_OPEN_BYTES: Final = 32 * 1024**2
_NOISE: Final = 65_536  # bytes outside frames after which the peer cannot be speaking MLLP


class MllpHome(Home, Shape):
    """What an MLLP connection needs of its listener."""

    manner: Manner

    def control_id(self) -> str:
        """Return a control id (MSH-10) that no other acknowledgment has."""


class Connection(PortConnection):
    """One connection of one peer."""

    _home: MllpHome

    def __init__(self, home: MllpHome, peer: str) -> None:
        super().__init__(home, peer)
        self._decoder = Decoder(home.limits.message)
        self._exchanges = Exchanges(home.tools, peer, home.control_id, home.manner)
        self._open: deque[Exchange | BatchExchange] = deque()
        self._later: deque[Exchange] = deque()  # answered once, and again when their steps have ended
        self._open_bytes = 0
        self._batch: BatchExchange | None = None  # the open one
        self._held: deque[Item] = deque()  # what came behind it in the same read
        self._full = False  # as much is open as may be
        self._linger = False  # give the peer time to read the last answer

    def handshakeCompleted(self) -> None:  # noqa: N802 - Twisted's name
        """Know now who the peer is."""
        super().handshakeCompleted()
        if self._home.certificates is not None:
            self._exchanges.speaker = self._home.certificates.peer(self.transport)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take what was read."""
        if self._ending:
            return  # it is read only so that the peer can see our last answer
        items = self._decoder.feed(data)
        for item in items:
            if self._batch is not None:
                self._held.append(item)
            elif isinstance(item, Frame):
                self._take(item.payload)
            else:
                self._explain(item)
            if self._is_over():
                return
        if self._decoder.noise > _NOISE:
            self.finish("the peer does not speak MLLP", linger=True)
        self._watch.heard(frame=bool(self._decoder.pending), began=bool(items))
        self._keep_pace(len(items))
        self._weigh(self._decoder.pending)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """Keep what was left unfinished; what was handed to the intake stays there."""
        self._gone = True
        self._watch.end()
        junk = None if self._ending else self._decoder.close()
        if junk is not None:
            self._exchanges.quarantine(junk.reason, junk.data)
        self._ended(reason)

    def finish(self, reason: str, *, linger: bool = False) -> None:
        """Take nothing more, write the answers that are due, then close."""
        if self._ending or self._gone:
            return
        self._ending = reason
        self._linger = linger
        junk = self._decoder.close()
        if junk is not None:
            self._exchanges.quarantine(reason if junk.reason == CUT_OFF else junk.reason, junk.data)
        self._read_or_not()
        if not (self._open or self._later):
            self._close()

    def _is_over(self) -> bool:
        return bool(self._ending)

    def _take(self, body: bytes) -> None:
        """Hand a message, or a batch of them, to the intake; the answer follows its promise."""
        try:
            header = read_header(body)
        except MessageError as error:
            if is_batch(body):
                self._take_batch(body)
            elif not self._take_block(body):
                self._take_nonsense(body, error)
            return
        if is_several(body, header):
            self._take_batch(body)
            return
        exchange = self._exchanges.begin(body, header)
        if exchange.promise is None:
            self._open.append(exchange)
            self._answer()
        else:
            self._admit(exchange, exchange.promise)

    def _admit(self, exchange: Exchange | BatchExchange, promise: Future[Any]) -> None:
        """Take an exchange into the row; read no more where much is open."""
        self._open.append(exchange)
        self._open_bytes += exchange.size
        promise.add_done_callback(self._answer)
        if (
            len(self._open) + len(self._later) >= _OPEN_FRAMES
            or self._open_bytes >= _OPEN_BYTES
            or self._batch is not None
        ):
            self._full = True
            self._read_or_not()

    def _take_batch(self, body: bytes) -> None:
        """Hand the messages of a batch in; what is behind it waits, so that messages stay in order."""
        try:
            batch = split_batch(body, self._home.limits.batch)
        except MessageError as error:
            self._take_nonsense(body, error)
            return
        self._batch = BatchExchange(self._exchanges, batch, len(body))
        self._admit(self._batch, self._batch.promise)

    def _take_block(self, body: bytes) -> bool:
        """Take a commit block with which a peer of release 2 says whether it kept our acknowledgment."""
        if not self._home.manner.blocks or body not in {COMMITTED, NOT_COMMITTED}:
            return False
        if body == NOT_COMMITTED:
            reason = "the peer did not keep our acknowledgment; when it sends its message again, it gets the same"
            self._exchanges.refuse("", 0, reason)
        return True

    def _take_nonsense(self, body: bytes, error: MessageError) -> None:
        """Keep what is no message, and close; in release 2 it is not to be sent again, which could not help.

        Frames behind it are not taken: whoever sent them sees that no answer came, and sends them again.
        """
        reason = str(error)
        if body in {COMMITTED, NOT_COMMITTED}:
            reason = "a commit block of MLLP release 2 came; set listen.mllp.release, or let the peer speak release 1"
        self._exchanges.refuse_bytes(reason, body, error.condition, code="")
        self._held.clear()
        self._open.append(Exchange(None, b"", None))
        self.finish("a frame was not HL7", linger=True)
        self._answer()

    def _explain(self, item: Item) -> None:
        """Deal with what is not a whole frame."""
        if isinstance(item, Junk):
            self._exchanges.quarantine(item.reason, item.data)
        elif isinstance(item, Oversize):
            self._refuse_oversize(item.head)
        elif isinstance(item, Empty):
            self._exchanges.refuse("", 0, "an empty frame came; it is not answered")
            self._open.append(Exchange(None, b"", None))
            self._answer()

    def _refuse_oversize(self, head: bytes) -> None:
        """Reject a message for its size, which sending it again would not change."""
        reason = f"the message is larger than {self._home.limits.message} bytes (listen.mllp.max_message)"
        self._exchanges.refuse_bytes(reason, head, 207)
        try:
            header = read_header(head)
        except MessageError:
            header = None
        answer: tuple[bytes, ...] = ()
        if header is not None and header.control_id and not is_acknowledgment(header, head):
            answer = self._exchanges.refusal(header, NotAccepted(reason, code="AR", condition=207))
        self._held.clear()
        self._open.append(Exchange(header, b"", None, answer=answer))
        self.finish("a message was too large", linger=True)
        self._answer()

    def _take_held(self) -> None:
        """Take what came behind a batch, now that its messages are in."""
        while self._held and self._batch is None:
            item = self._held.popleft()
            if isinstance(item, Frame):
                self._take(item.payload)
            else:
                self._explain(item)

    def _answer(self, _done: object = None) -> None:
        """Write every answer that is due, in order and at once."""
        answers: list[bytes] = []
        waiting = self._open
        while waiting and (waiting[0].promise is None or waiting[0].promise.done()):
            exchange = waiting.popleft()
            self._open_bytes -= exchange.size
            answer = self._answer_to(exchange)
            if answer:
                answers.append(answer)
        answers += self._late_answers()
        if answers and not self._gone:
            write_now(self.transport, b"".join(answers) if len(answers) > 1 else answers[0])
        if self._held:
            self._take_held()
        if self._gone:
            return
        few = len(waiting) + len(self._later) <= _OPEN_FRAMES // 2 and self._open_bytes <= _OPEN_BYTES // 2
        if self._full and few and self._batch is None:
            self._full = False
            self._read_or_not()
        if self._ending and not (waiting or self._later):
            self._close()

    def _answer_to(self, exchange: Exchange | BatchExchange) -> bytes:
        if exchange is self._batch:
            self._batch = None
        if exchange.promise is not None and exchange.promise.cancelled():
            self._held.clear()
            self.finish("the engine stops")
            return b""
        answer = self._exchanges.written(exchange)
        if isinstance(exchange, Exchange) and exchange.steps is not None and not self._failed(exchange):
            exchange.body = b""
            self._later.append(exchange)
            exchange.steps.add_done_callback(self._answer)
        return answer

    @staticmethod
    def _failed(exchange: Exchange) -> bool:
        return exchange.promise is None or exchange.promise.exception() is not None

    def _late_answers(self) -> list[bytes]:
        """Return the second answers that are due, in order."""
        answers = []
        while self._later and (steps := self._later[0].steps) is not None and steps.done():
            exchange = self._later.popleft()
            if steps.cancelled():
                self.finish("the engine stops")
            elif answer := self._exchanges.late(exchange):
                answers.append(answer)
        return answers

    def _read_or_not(self) -> None:
        """Read unless something speaks against it; an open frame's time does not run while nothing is read."""
        if self._gone or self.transport.disconnecting:
            return
        if self._full or self._deaf or self._fast or self._pressed or (self._ending and not self._linger):
            self.transport.pauseProducing()
        else:
            self._watch.resumed(frame=bool(self._decoder.pending))
            self.transport.resumeProducing()

    def _hang_up(self) -> None:
        if self._linger and self._home.certificates is None:
            # Closing while unread bytes wait would reset the connection, and the peer would lose our answer with it.
            self.transport.loseWriteConnection()
        else:
            super()._hang_up()

    def _state(self) -> State:
        return State(
            frame=bool(self._decoder.pending),
            reading=not (self._full or self._deaf or self._fast or self._pressed or self._ending),
            waiting=bool(self._open or self._later),
        )
