"""This module is an intake that takes nothing: a test's own says what of it the part under test may use."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import Future

    from broker.delivery import Report
    from broker.message import Conclusion, Inbound, Receipt
    from broker.units import Commit


class NoIntake:
    """Fails whoever uses it; see `broker.parts.Intake`."""

    def accept(self, inbound: "Inbound") -> "Future[Receipt]":
        raise NotImplementedError

    def pass_on(self, inbound: "Inbound") -> "Commit":
        raise NotImplementedError

    async def conclude(self, _channel: str, message: int, destination: str = "") -> "Conclusion":
        raise NotImplementedError

    def report(self, report: "Report") -> "Future[None]":
        raise NotImplementedError

    def quarantine(self, _channel: str, _peer: str, _reason: str, data: bytes) -> None:
        raise NotImplementedError
