"""This module fetches the access tokens that mailboxes are opened with; see `broker.tokens`."""

from pathlib import Path
from typing import Any

from broker.delivery import Retry, Unknown
from broker.errors import Away
from dispatch.auth import build_credentials
from dispatch.http import Exchange

_TIMEOUT = 30.0  # seconds for the token endpoint


class MailboxTokens:
    """The tokens of one mailbox of handoff.yaml; ``auth`` is its `config.auth.AuthSpec`."""

    def __init__(self, auth: Any, name: str, data: Path) -> None:
        peer = f"mailbox {name}"
        self._http = Exchange(peer, timeout=_TIMEOUT)
        self._credentials = build_credentials(auth, peer, self._http, data=data)

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def token(self) -> str:
        """Return a token that lasts, fetched if there is none at hand; raise `Away`."""
        headers = await self._credentials.headers()
        if isinstance(headers, Retry | Unknown):
            raise Away(headers.reason)
        return headers["Authorization"].partition(" ")[2]

    def refuse(self) -> None:
        """Forget a token that the server did not take."""
        self._credentials.refuse()
