"""This module reads from a FHIR server, for the ways in that ask for what is new there; see `broker.fhir.source`."""

import time
from collections.abc import Mapping
from typing import BinaryIO, Final

from broker.errors import Away
from broker.fhir.source import Said
from dispatch.auth import Fixed, authorised_exchange
from dispatch.fhir_answer import issues_of
from dispatch.fhir_server import MEDIA_TYPE, Server
from dispatch.http import Answer, Exchange, Failure, Into, NotKept, retry_after

LARGEST_PAGE: Final = 16 * 1024**2  # bytes, as everything that is read as FHIR JSON
_FILE_TYPE: Final = "application/fhir+ndjson"
_AT_ONCE: Final = 4  # requests
_REFUSED: Final = 400  # and above, RFC 9110, 15.5
_UNAUTHORIZED: Final = 401


class ServerSource:
    """One server of handoff.yaml that is read."""

    def __init__(self, server: Server, *, timeout: float) -> None:
        self.base = server.base
        self._peer = server.peer
        # Whatever is asked here may be asked twice, so connections that are kept cost no answer.
        limit = min(_AT_ONCE, server.profile.concurrency or _AT_ONCE)
        self._http = Exchange(self._peer, timeout=timeout, limit=limit, reuse=True, tls=server.tls, cap=LARGEST_PAGE)
        self._credentials = server.credentials(self._http)
        self._headers = server.every_header

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def ask(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Said:
        """Send an authorised request to an address of this server; raise `Away`."""
        named = {"Accept": MEDIA_TYPE, **self._headers, **(headers or {})}
        return self._said(await authorised_exchange(self._http, self._credentials, method, url, named))

    async def fetch(self, url: str, file: BinaryIO, *, most: int, authorised: bool) -> Said:
        """Copy what is at an address into a file; raise `Away`."""
        named = {"Accept": _FILE_TYPE, **(self._headers if authorised else {})}
        credentials = self._credentials if authorised else Fixed()
        into = Into(file, most)
        try:
            return self._said(await authorised_exchange(self._http, credentials, "GET", url, named, into=into))
        except NotKept as error:
            raise Away(f"what {self._peer} gives cannot be kept on this machine ({error})") from None

    def _said(self, answer: Answer | Failure) -> Said:
        if not isinstance(answer, Answer):
            raise Away(answer.reason, getattr(answer, "after", None))
        outcome = answer.json_object() if answer.status >= _REFUSED else {}  # pages are large, and read once
        codes = tuple(dict.fromkeys(code for _, code, _ in issues_of(outcome)))
        advice = ": mend its entry under `servers:` in handoff.yaml" if answer.status == _UNAUTHORIZED else ""
        reason = f"HTTP {answer.status} from {self._peer}" + (f" ({', '.join(codes)})" if codes else "") + advice
        return Said(answer.status, reason, codes, answer.headers, answer.body, retry_after(answer.headers, time.time()))
