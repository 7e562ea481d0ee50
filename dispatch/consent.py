"""This module declares what patients must have agreed to, and notes in a request whose consent it needs.

The request of a destination with ``consent:`` begins with whose consent it needs; what is behind that line are the
bytes that every attempt sends. `dispatch.consent_gate` asks the patient store.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson
from pydantic import Field

from broker.errors import StepError
from broker.spec import Spec

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Renderer

_HEAD: Final = b"\0consent of "  # no request begins so by itself: texts, JSON, forms and mail hold no zero bytes
Needs = Literal["given", "not_withdrawn"]


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


def parted(request: bytes) -> tuple[list[str] | None, bytes]:
    """Return whose consent a request needs, as value, system and type of a record number, and what is to be sent."""
    if not request.startswith(_HEAD):
        return None, request
    head, _newline, rest = request.partition(b"\n")
    key: Any = orjson.loads(head[len(_HEAD) :])
    return key, rest
