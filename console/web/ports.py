"""This module says what the web console needs from the engine and its settings, and nothing more."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from broker.notices import ConfigurationRefused, ConfigurationReloaded
from broker.units import Act, Pause
from config.serving import ConsoleTls


class DestinationStatus(Protocol):
    """How one destination is now."""

    @property
    def destination(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """One of running, paused (by an operator), held (by its file), open, half_open, busy."""


class ChannelStatus(Protocol):
    """How one channel runs now."""

    @property
    def channel(self) -> str:
        """Its name."""

    @property
    def revision(self) -> str:
        """The digest of the revision that runs."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Where its listeners accept traffic, as ``host:port`` with the port really bound."""

    @property
    def connections(self) -> int:
        """How many peers are connected."""

    @property
    def state(self) -> str:
        """One of running, away (what it reads from cannot be reached), paused, stopped."""

    @property
    def reason(self) -> str:
        """Why it is away."""

    @property
    def destinations(self) -> Sequence[DestinationStatus]:
        """How its destinations are."""


class Pressure(Protocol):
    """Whether more is taken in."""

    @property
    def state(self) -> str:
        """One of open, busy (too much waits for the store: nothing is read), short (of space: all is refused)."""

    @property
    def reason(self) -> str:
        """Why nothing is taken in; empty where it is."""

    @property
    def waiting(self) -> int:
        """Bytes that wait for their commit."""

    @property
    def unfinished(self) -> int:
        """Bytes of messages that have begun and not ended."""

    @property
    def free(self) -> int | None:
        """Bytes that are free where the store is; None where that is not known."""


class Engine(Protocol):
    """The running engine."""

    @property
    def pressure(self) -> Pressure:
        """Whether more is taken in."""

    @property
    def started_at(self) -> float:
        """When it began to accept messages, in POSIX seconds."""

    def status(self) -> Sequence[ChannelStatus]:
        """Return how every channel runs now."""

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(connection, sealer, *args)``, run in the reader's thread."""

    async def act(self, act: Act) -> int:
        """Run dead letters again, give them up, or cancel what waits, audited; return how many that changed."""

    async def pause(self, asked: Pause) -> bool:
        """Stop a destination, or a channel's way in, until it is resumed; return whether that changed something."""

    async def resume(self, asked: Pause) -> bool:
        """Let it go on; return whether it was paused."""


# Reads the channel files again; returns the notice that says what came of it.
Reload = Callable[[], Awaitable[ConfigurationRefused | ConfigurationReloaded]]


class HasEndpoint(Protocol):
    """A section of the settings with an ``endpoint``."""

    @property
    def endpoint(self) -> str:
        """``host:port``."""


class HasCertificate(HasEndpoint, Protocol):
    """Something that may be served over TLS."""

    @property
    def tls(self) -> ConsoleTls | None:
        """The certificate that it shows; without one it is plain HTTP."""


class HasSandbox(HasEndpoint, Protocol):
    """The sandbox's section."""

    @property
    def enabled(self) -> bool:
        """Whether the engine starts it."""


class Settings(Protocol):
    """The settings that the console reads."""

    @property
    def data(self) -> Path:
        """The data folder."""

    @property
    def patients(self) -> str:
        """The URL of the patient store."""

    @property
    def root(self) -> Path:
        """The folder at which the paths of a certificate start."""

    @property
    def console(self) -> HasCertificate:
        """Where the console is served; port 0 takes a free one."""

    @property
    def sandbox(self) -> HasSandbox:
        """Where the practice gateway and EHR are served, and whether they are."""
