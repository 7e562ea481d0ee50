"""This module says what a way in needs of a FHIR server that it reads, and what an answer is.

Where a server is and how it is authorised to stands under ``servers:`` in handoff.yaml, whose entries build a source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from broker.named import find_named

if TYPE_CHECKING:
    from broker.parts import Tools


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. ``reason`` tells what it was in codes alone; ``after`` is how many seconds the server wants of us.

    ``codes`` are those of the issues, where the answer is an OperationOutcome.
    """

    status: int
    reason: str
    codes: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # names in lower case
    body: bytes = field(default=b"", repr=False)
    after: float | None = None


class FhirSource(Protocol):
    """One FHIR server that is read. Redirects are not followed."""

    @property
    def base(self) -> str:
        """Its address, without a slash at the end."""

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""

    async def close(self) -> None:
        """Let go of connections."""

    async def ask(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Said:
        """Send an authorised request to an address of this server; raise `Away`."""

    async def fetch(self, url: str, file: BinaryIO, *, most: int, authorised: bool) -> Said:
        """Copy what is at an address into a file, at most so many bytes; raise `Away`.

        The body of anything but a success does not go into it. Only what is ``authorised`` carries our credentials.
        """


def find_source(tools: "Tools", name: str, *, timeout: float) -> FhirSource:
    """Build the source of a server of handoff.yaml; an answer may take ``timeout`` seconds. Raises `ConfigError`."""
    where = f"channel {tools.channel}"
    server = find_named(tools.settings.servers, name, where, "server", "servers")
    source: FhirSource = server.build_source(name, tools, timeout=timeout)
    return source
