"""This module is the way in for replies to texts: gateways hand them in under the channel's name.

It opens nothing. Connections belong to the gateways of handoff.yaml, and one of those whose ``replies:`` names this
channel brings its replies here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from broker.notices import ListenerStarted
from broker.spec import ListenerSpec

if TYPE_CHECKING:
    from broker.parts import Listener, Tools


class TextsSpec(ListenerSpec):
    """Replies to texts, from every gateway whose `replies:` names this channel."""

    formats: ClassVar[frozenset[str]] = frozenset({"text"})

    def build(self, tools: "Tools") -> "Listener":
        """Build the listener."""
        return Texts(tools)


class Texts:
    """Says whether the channel runs; what it takes comes through `broker.parts.Intake`."""

    def __init__(self, tools: "Tools") -> None:
        self._tools = tools
        self._running = False

    @property
    def endpoints(self) -> Sequence[str]:
        """Where replies can arrive."""
        return ("gateways",) if self._running else ()

    @property
    def connections(self) -> int:
        """How many peers are connected here: none, ever."""
        return 0

    async def start(self) -> None:
        """Say that replies can arrive."""
        self._running = True
        self._tools.notify(ListenerStarted(channel=self._tools.channel, endpoint="gateways"))

    async def stop(self) -> None:
        """Say that they cannot."""
        self._running = False
