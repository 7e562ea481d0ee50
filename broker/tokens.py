"""This module says what gives a way in the access tokens that another side wants, where that takes no password."""

from typing import Protocol


class Tokens(Protocol):
    """Access tokens (OAuth 2.0) for one account."""

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""

    async def close(self) -> None:
        """Let go of connections."""

    async def token(self) -> str:
        """Return a token that lasts, fetched if there is none at hand; raise `broker.errors.Away`."""

    def refuse(self) -> None:
        """Forget a token that the other side did not take, so that the next is another one."""
