"""This module asks the patient store, at the moment of sending, whether the patient agreed to being sent this.

Consent is looked up before each attempt, so that a *no* which came meanwhile counts.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker.delivery import Delivery, Outcome, Rejected, Retry, Suppressed
from dispatch.consent import ConsentSpec, parted
from dispatch.patients.consents import Consents
from dispatch.patients.permissions import read_standing, refusal

if TYPE_CHECKING:
    from broker.parts import Destination

_NOBODY: Final = Rejected(
    "it was prepared before this destination asked for consent, so nobody knows whose it needs; have the message sent "
    "again"
)


class ConsentGate:
    """Lets through to a destination what patients agreed to, and takes off what is known of them.

    Without a ``consent`` it takes that off only: the channel may have asked for consent until a moment ago.
    """

    def __init__(self, inner: "Destination", consent: ConsentSpec | None, medium: str, consents: Consents) -> None:
        self._inner = inner
        self._consent = consent
        self._medium = medium
        self._consents = consents

    async def open(self) -> None:
        """Get ready to ask and to send."""
        self._consents.open()
        await self._inner.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._inner.close()
        await self._consents.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send those that may be sent; the others end without anything having left."""
        if self._consent is None:
            return await self._inner.send([_without_key(delivery) for delivery in deliveries])
        outcomes: dict[int, Outcome] = {}
        allowed: list[Delivery] = []
        for delivery in deliveries:
            key, request = parted(delivery.request)
            stopped = await self._stopped(self._consent, key)
            if stopped is None:
                allowed.append(replace(delivery, request=request))
            else:
                outcomes[delivery.id] = stopped
        sent = await self._inner.send(allowed) if allowed else ()
        outcomes |= {delivery.id: outcome for delivery, outcome in zip(allowed, sent, strict=True)}
        return [outcomes[delivery.id] for delivery in deliveries]

    async def _stopped(self, consent: ConsentSpec, key: list[str] | None) -> Outcome | None:
        """Return why a delivery may not be sent; None where it may."""
        if key is None:
            return _NOBODY
        standing = await self._consents.ask_or_wait(read_standing, key, self._medium, consent.purpose)
        if isinstance(standing, Retry):
            return standing
        reason = refusal(standing, self._medium, consent.purpose, consent.needs, time.time())
        return Suppressed(reason) if reason else None


def _without_key(delivery: Delivery) -> Delivery:
    key, request = parted(delivery.request)
    return delivery if key is None else replace(delivery, request=request)
