"""This module is one TCP connection with a framing of its own: messages in, and short answers in the same order.

Messages go to the intake as they come, and are answered after the commit. The peer that is not answered, or is told no,
sends again: where it does not, nothing but the connection's end tells it that something is missing.
"""

import time
from collections import deque
from typing import TYPE_CHECKING, Final
from typing import Protocol as Shape

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from broker.errors import NotAccepted
from broker.message import Inbound, Receipt
from broker.notices import Bug, MessageRefused
from broker.wire.framing import Cutter, Whole
from listeners.connection import Home, PortConnection
from listeners.watch import State

if TYPE_CHECKING:
    from asyncio import Future

_OPEN: Final = 64  # messages of one connection that wait for their commit
_OPEN_BYTES: Final = 32 * 1024**2


class TcpHome(Home, Shape):
    """What such a connection needs of its listener."""

    accepted: bytes
    refused: bytes


class Connection(PortConnection):
    """One connection of one peer."""

    _home: TcpHome

    def __init__(self, home: TcpHome, peer: str, cutter: Cutter) -> None:
        super().__init__(home, peer)
        self._cutter = cutter
        self._open: deque[tuple[Future[Receipt], bytes]] = deque()
        self._open_bytes = 0
        self._paused = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Take what was read."""
        if self._ending:
            return
        pieces = self._cutter.feed(data)
        for piece in pieces:
            if isinstance(piece, Whole):
                self._take(piece.body)
            else:
                self._refuse(piece.reason, piece.data)
                if piece.ends:
                    self.finish(piece.reason)
                    return
        self._watch.heard(frame=bool(self._cutter.pending), began=bool(pieces))
        self._keep_pace(len(pieces))
        self._weigh(self._cutter.pending)
        self._read_or_not()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's name
        """Keep what was left unfinished; what was handed to the intake stays there."""
        self._gone = True
        self._watch.end()
        if not self._ending and (stray := self._cutter.close()) is not None:
            self._refuse(stray.reason, stray.data)
        self._ended(reason)

    def finish(self, reason: str, *, linger: bool = False) -> None:  # noqa: ARG002 - a port says it of any connection
        """Take nothing more, write the answers that are due, then close."""
        if self._ending or self._gone:
            return
        self._ending = reason
        if (stray := self._cutter.close()) is not None:
            self._refuse(reason, stray.data)
        self._read_or_not()
        if not self._open:
            self._close()

    def _take(self, body: bytes) -> None:
        promise = self._tools.intake.accept(
            Inbound(channel=self._tools.channel, body=body, peer=self.peer, received_at=time.time())
        )
        self._open.append((promise, body))
        self._open_bytes += len(body)
        promise.add_done_callback(self._answer)

    def _answer(self, _done: object = None) -> None:
        """Write every answer that is due, in order."""
        answers: list[bytes] = []
        while self._open and self._open[0][0].done():
            promise, body = self._open.popleft()
            self._open_bytes -= len(body)
            answers.append(self._answer_to(promise, body))
        if self._gone:
            return
        if said := b"".join(answers):
            self.transport.write(said)
        self._read_or_not()
        if self._ending and not self._open:
            self._close()

    def _answer_to(self, promise: "Future[Receipt]", body: bytes) -> bytes:
        if promise.cancelled():
            self.finish("the engine stops")
            return b""
        error = promise.exception()
        if error is None:
            return self._home.accepted
        if not isinstance(error, NotAccepted):
            self._tools.notify(Bug(where="intake.accept", error=type(error).__name__))
            error = NotAccepted("the message could not be stored; send it again", code="AE", condition=207)
        self._refuse(str(error), b"" if error.is_ours else body, error)
        if not self._home.refused:
            self.finish("a message was refused, and no answer says so")
        return self._home.refused

    def _refuse(self, reason: str, data: bytes, error: NotAccepted | None = None) -> None:
        """Tell that something is no message of ours, and keep its bytes."""
        code, condition = (error.code, error.condition) if error is not None else ("", 0)
        self._tools.notify(
            MessageRefused(channel=self._tools.channel, peer=self.peer, code=code, condition=condition, reason=reason)
        )
        if data:
            self._tools.intake.quarantine(self._tools.channel, self.peer, reason, data)

    def _read_or_not(self) -> None:
        """Read unless something speaks against it; an open message's time does not run while nothing is read."""
        paused = not self._state().reading
        if paused == self._paused or self._gone or self.transport.disconnecting:
            return
        self._paused = paused
        if paused:
            self.transport.pauseProducing()
        else:
            self._watch.resumed(frame=bool(self._cutter.pending))
            self.transport.resumeProducing()

    def _state(self) -> State:
        full = len(self._open) >= _OPEN or self._open_bytes >= _OPEN_BYTES
        return State(
            frame=bool(self._cutter.pending),
            reading=not (full or self._deaf or self._fast or self._pressed or self._ending),
            waiting=bool(self._open),
        )
