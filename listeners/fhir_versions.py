"""This module has lines of NDJSON taken as the FHIR resources that they are, each version once."""

from asyncio import Future
from dataclasses import replace

import orjson

from broker.delivery import Report
from broker.formats.rows import unpack
from broker.message import Conclusion, Inbound, Receipt
from broker.parts import Intake
from broker.units import Commit
from listeners.fhir_version import version_key


class Versions:
    """An intake in front of the engine's, see `broker.parts.Intake`, for what is read as lines of a file.

    A message is the line as it was, without its place in the file, and its version is what it is known by.
    """

    def __init__(self, intake: Intake, server: str) -> None:
        self._intake = intake
        self._server = server
        self.quarantined = 0

    def accept(self, inbound: Inbound) -> Future[Receipt]:
        """Resolve after the commit that holds the resource, or fail with `NotAccepted`."""
        body = unpack(inbound.body)[1].rstrip(b"\r\n")
        return self._intake.accept(replace(inbound, body=body, key=self._key(body), key_decides=True))

    def pass_on(self, inbound: Inbound) -> Commit:
        """Return what commits a message together with the delivery that it is."""
        return self._intake.pass_on(inbound)

    def _key(self, body: bytes) -> bytes:
        try:
            resource = orjson.loads(body)
        except orjson.JSONDecodeError:
            resource = None  # the format will say so
        return version_key(resource if isinstance(resource, dict) else {}, body, self._server)

    async def conclude(self, channel: str, message: int, destination: str = "") -> Conclusion:
        """Return what became of a message."""
        return await self._intake.conclude(channel, message, destination)

    def report(self, report: Report) -> Future[None]:
        """Resolve after the commit that holds a report."""
        return self._intake.report(report)

    def quarantine(self, channel: str, peer: str, reason: str, data: bytes) -> None:
        """Keep bytes that never became a message, and count that."""
        self.quarantined += 1
        self._intake.quarantine(channel, peer, reason, unpack(data)[1])
