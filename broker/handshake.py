"""This module says in words why there is no connection or no TLS, and agrees on TLS with peers that connect to us.

asyncio's own servers tell nobody of a handshake that failed. `TlsServer` does, with the peer and the reason.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

WITHIN: Final = 10.0  # seconds in which TLS must be agreed on
AT_ONCE: Final = 512  # handshakes of one port; who comes then waits in the backlog, and costs us nothing
_PAUSE: Final = 1.0  # seconds until it is tried again to take a connection in
NO_SUCH_HOST: Final = "its host name could not be resolved"
LATE: Final = "TLS was not agreed on in time"
# OpenSSL's X509_V_ERR_…, in words.
_NOT_YET, _OVER, OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_DOUBTS: Final = {
    _NOT_YET: "its certificate is not valid yet",
    _OVER: "its certificate has ended",
    OTHER_NAME: "its certificate is for another name",
    _OTHER_ADDRESS: "its certificate is for another address",
}
# OpenSSL's reasons, which are a fixed list; the first that fits counts.
_REASONS: Final = (
    ("DID_NOT_RETURN_A_CERTIFICATE", "it showed no certificate"),
    ("HTTP_REQUEST", "it spoke plain HTTP"),
    ("NO_SHARED_CIPHER", "it speaks no TLS that is safe today"),
    ("UNSUPPORTED_PROTOCOL", "it speaks no TLS that is safe today"),
    ("WRONG_VERSION_NUMBER", "what it sent is no TLS"),
)
# What TLS 1.3 tells only after the handshake: the other side did not let us in, and read nothing of what we wrote.
_NOT_LET_IN: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")


def not_connected(
    error: BaseException, *, late: str = "no connection within the time allowed", other: str = "no connection"
) -> str:
    """Say why there is no connection with another side; for errors of `socket` and `ssl`, others go by their type.

    Who asks more of the other side than to be connected says ``late`` where it took too long, and ``other`` for the
    rest.
    """
    if isinstance(error, ssl.SSLError):
        return told_by(error)
    for kind, words in (
        (socket.gaierror, NO_SUCH_HOST),
        (ConnectionRefusedError, "the connection was refused"),
        (TimeoutError, late),
    ):
        if isinstance(error, kind):
            return words
    return f"{other} ({type(error).__name__})"


def told_by(error: BaseException) -> str:
    """Say why TLS could not be set up with another side, as far as its certificate tells; for errors of `ssl`."""
    return in_words(str(error), error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None)


def is_not_let_in(error: BaseException | None) -> bool:
    """Say whether the other side refused us before it read anything; for errors of `ssl`."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLCertVerificationError):
        return False
    return is_about_us(str(error))


def in_words(reason: str, doubt: int | None = None) -> str:
    """Say why TLS could not be set up, from OpenSSL's reason and (X509_V_ERR_…) what is wrong with a certificate."""
    reason = reason.upper().replace(" ", "_")
    if doubt is not None:
        why = _DOUBTS.get(doubt, "nobody whom we trust vouches for its certificate")
    else:
        why = next((words for found, words in _REASONS if found in reason), "")
        if not why:
            refused = is_about_us(reason)
            why = "it refused our certificate, or wants one" if refused else "certificate or protocol refused"
    return f"TLS could not be set up ({why})"


def is_about_us(reason: str) -> bool:
    """Say whether OpenSSL's reason is that the other side did not let us in."""
    return any(word in reason.upper().replace(" ", "_") for word in _NOT_LET_IN)


class TlsServer:
    """Takes connections in, and lets a protocol speak once there is TLS; else tells the peer and the reason.

    ``inside`` makes the protocol of one connection, ``on_failed`` gets the peer as host:port, and why there is no TLS.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        inside: Callable[[], asyncio.BaseProtocol],
        on_failed: Callable[[str, str], None],
    ) -> None:
        self.sockets: list[socket.socket] = []
        self._context = context
        self._inside = inside
        self._on_failed = on_failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def open(self, host: str, port: int, backlog: int) -> None:
        """Listen on every address of a host; raise OSError when that is not possible."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                listening = socket.create_server(address[:2], family=family, backlog=backlog)
                self.sockets.append(listening)
                listening.settimeout(0)
        except OSError:
            self.close()
            raise
        for listening in self.sockets:
            self._begin(self._listen(listening))

    def close(self) -> None:
        """Give the port back; what has TLS goes on, and what has none yet is cut off."""
        for task in self._tasks:
            task.cancel()
        sockets, self.sockets = self.sockets, []
        for listening in sockets:
            listening.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connected, address = await loop.sock_accept(listening)
            except OSError:  # as a rule this process has too many files open; the peer waits in the backlog
                self._room.release()
                await asyncio.sleep(_PAUSE)
            else:
                self._begin(self._agree(connected, f"{address[0]}:{address[1]}"))

    async def _agree(self, connected: socket.socket, peer: str) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                await asyncio.get_running_loop().connect_accepted_socket(self._inside, connected, ssl=self._context)
        except (OSError, TimeoutError) as error:
            if why := _why(error):
                self._on_failed(peer, why)
        finally:
            self._room.release()


def _why(error: OSError | TimeoutError) -> str:
    """Return why there is no TLS; nothing for a peer that merely went away, as those do that only look at a port."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return told_by(error)
    return LATE if isinstance(error, TimeoutError) else ""
