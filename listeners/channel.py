"""This module is the way in of a channel that gets its messages from other channels only."""

from typing import TYPE_CHECKING

from broker.notices import ListenerStarted
from broker.spec import ListenerSpec

if TYPE_CHECKING:
    from broker.parts import Tools

_ENDPOINT = "other channels"


class ChannelInSpec(ListenerSpec):
    """No way in from outside: messages come from other channels, which name this one in `deliver`."""

    def build(self, tools: "Tools") -> "ChannelListener":
        """Build the listener."""
        return ChannelListener(tools)


class ChannelListener:
    """Listens to nobody; see `broker.parts.Listener`."""

    def __init__(self, tools: "Tools") -> None:
        self._tools = tools
        self._started = False

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where messages come from; nothing while stopped."""
        return (_ENDPOINT,) if self._started else ()

    @property
    def connections(self) -> int:
        """None: nobody connects."""
        return 0

    async def start(self) -> None:
        """Say that it runs."""
        self._started = True
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint=_ENDPOINT))

    async def stop(self) -> None:
        """Say that it does not."""
        self._started = False
