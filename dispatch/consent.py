"""This module asks the patient store, at the moment of sending, whether the patient agreed to being sent this.

The request of a destination with ``consent:`` begins with whose consent it needs; what is behind that line are the
bytes that every attempt sends. Consent is looked up before each attempt, so that a *no* which came meanwhile counts.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from pydantic import Field

from broker.delivery import Delivery, Outcome, Rejected, Retry, Suppressed
from broker.errors import NotReady, StepError, StoreError
from broker.spec import Spec
from dispatch.patients.consents import Consents
from dispatch.patients.permissions import Needs, read_standing, refusal

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Destination, Renderer

_HEAD: Final = b"\0consent of "  # no request begins so by itself: texts, JSON, forms and mail hold no zero bytes
_NOBODY: Final = Rejected(
    "it was prepared before this destination asked for consent, so nobody knows whose it needs; have the message sent "
    "again"
)


class ConsentSpec(Spec):
    """What patients must have agreed to before this reaches them."""

    purpose: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$",
        description="What it is for, as consents name it: appointment, marketing, treatment …",
    )
    medium: Literal["sms", "email", "phone", "push", "post"] | None = Field(
        default=None, description="How it reaches the patient; sms and email say it themselves."
    )
    needs: Needs = Field(
        default="given",
        description="given: they must have said yes to the purpose; not_withdrawn: they must not have said no.",
    )


@dataclass(frozen=True, slots=True)
class ConsentRenderer:
    """Puts in front of a request whose consent it needs."""

    inner: "Renderer"

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` when nobody can say whose consent it needs."""
        mrn = document.event.patient.mrn if document.event is not None else None
        if mrn is None or not mrn.value:
            text = "consent: the event has no patient.mrn, so nobody can say whose consent it needs"
            raise StepError(text, location="PID-3")
        return _HEAD + orjson.dumps([mrn.value, mrn.system, mrn.type]) + b"\n" + self.inner(document)


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
        outcomes: dict[int, Outcome] = {}
        allowed: list[Delivery] = []
        for delivery in deliveries:
            key, request = _parted(delivery.request)
            stopped = await self._stopped(key)
            if stopped is None:
                allowed.append(delivery if key is None else replace(delivery, request=request))
            else:
                outcomes[delivery.id] = stopped
        sent = await self._inner.send(allowed) if allowed else ()
        outcomes |= {delivery.id: outcome for delivery, outcome in zip(allowed, sent, strict=True)}
        return [outcomes[delivery.id] for delivery in deliveries]

    async def _stopped(self, key: list[str] | None) -> Outcome | None:
        """Return why a delivery may not be sent; None where it may."""
        consent = self._consent
        if consent is None:
            return None
        if key is None:
            return _NOBODY
        try:
            standing = await self._consents.ask(read_standing, key, self._medium, consent.purpose)
        except (StoreError, NotReady) as error:
            return Retry(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was sent
            return Retry(f"patient store: consent cannot be looked up ({type(error).__name__})")
        reason = refusal(standing, self._medium, consent.purpose, consent.needs, time.time())
        return Suppressed(reason) if reason else None


def _parted(request: bytes) -> tuple[list[str] | None, bytes]:
    """Return whose consent a request needs, as value, system and type of a record number, and what is to be sent."""
    if not request.startswith(_HEAD):
        return None, request
    head, _newline, rest = request.partition(b"\n")
    key: Any = orjson.loads(head[len(_HEAD) :])
    return key, rest
