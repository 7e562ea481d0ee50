"""This module maps what a gateway for texts brings: to opt out is to withdraw consent, to opt in is to give it."""

from datetime import UTC, datetime
from typing import Any, Final

from broker.canonical.model import Communication, Concept, Consent, Event, Patient, Source

# What carriers and gateways take for "no more" and "again" (CTIA Messaging Principles, 5.1.2; Twilio's defaults).
OPT_OUT: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
OPT_IN: Final = frozenset({"START", "UNSTOP"})
HELP: Final = frozenset({"HELP", "INFO"})
_AROUND: Final = " \t\r\n.,;:!?'\"()-"


def wish_of(text: str) -> str:
    """Return what a reply asks for: ``stop``, ``start``, ``help``, or nothing; only a word that stands alone counts."""
    word = text.strip(_AROUND).upper().replace("OPT OUT", "OPTOUT").replace("STOP ALL", "STOPALL")
    for wish, words in (("stop", OPT_OUT), ("start", OPT_IN), ("help", HELP)):
        if word in words:
            return wish
    return ""


def map_text(message: dict[str, Any], received_at: float) -> Event:
    """Return the event of a reply; the patient is known by the number it came from and by nothing else.

    ``received_at`` (POSIX seconds) counts where the gateway does not say when it was.
    """
    at = message.get("at") or datetime.fromtimestamp(received_at, UTC).isoformat(timespec="milliseconds")
    source = Source(application=str(message.get("gateway", "")), message_type=f"text {message['kind']}")
    patient = Patient(mobile=message["from"])
    # A gateway that acts on words of its own, in any language, says what it understood; we must not know better.
    said = message.get("wish") or wish_of(str(message.get("text", "")))
    wish = "stop" if message["kind"] == "opted_out" else said
    if wish in {"stop", "start"}:
        decision = "deny" if wish == "stop" else "permit"
        consent = Consent(status="active", decision=decision, channel="sms", given_at=at)
        kind = "consent.withdrawn" if wish == "stop" else "consent.given"
        return Event(kind=kind, source=source, patient=patient, occurred_at=at, consent=consent)
    communication = Communication(
        status="completed",
        category=Concept(text=wish) if wish else None,
        medium=Concept(text="sms"),
        text=message.get("text"),
        received_at=at,
    )
    return Event(
        kind="communication.recorded", source=source, patient=patient, occurred_at=at, communication=communication
    )
