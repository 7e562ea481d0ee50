"""This module reads what gateways for texts call back with: what became of a text, and what somebody answered.

Sources: Twilio "Track outbound message status" and "TwiML for programmable SMS"; Vonage SMS API "Delivery receipts" and
"Inbound SMS"; Vonage Messages API "Message status" and "Inbound message".
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

# What the gateways call the states of `broker.delivery.Report`; one that is not here changes nothing for us.
_TWILIO: Final = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "undeliverable",
    "failed": "failed",
    "canceled": "failed",
}
_VONAGE_SMS: Final = {
    "accepted": "sent",
    "buffered": "sent",
    "delivered": "delivered",
    "expired": "expired",
    "failed": "failed",
    "rejected": "rejected",
    "deleted": "failed",
    "unknown": "unknown",
}
_VONAGE_MESSAGES: Final = {
    "submitted": "sent",
    "delivered": "delivered",
    "read": "read",
    "undeliverable": "undeliverable",
    "rejected": "rejected",
}
_WISHES: Final = {"STOP": "stop", "START": "start", "HELP": "help"}
_TWILIO_OPTED_OUT: Final = "21610"
_CODE: Final = re.compile(r"[0-9]{1,6}")
_ENDS_IN_CODE: Final = re.compile(r"([0-9]{1,6})$")
_NUMBER: Final = re.compile(r"[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Reported:
    """What became of a text that the gateway calls ``identifier``; ``at`` in POSIX seconds, None where untold."""

    identifier: str
    state: str
    code: str = ""
    at: float | None = None
    opted_out: str = field(default="", repr=False)  # the number of a recipient who, as this shows, wants no texts


@dataclass(frozen=True, slots=True)
class Replied:
    """What somebody sent; ``said`` has the keys of the format ``text``, and is the same when it is brought again."""

    identifier: str
    said: Mapping[str, Any] = field(repr=False)


Called = Reported | Replied | None  # None: nothing that anybody here needs to know


def read_twilio(fields: Mapping[str, Any]) -> Called:
    """Return what Twilio says. Raises `ValueError` where it is neither a status nor a text."""
    identifier = _text(fields, "MessageSid") or _text(fields, "SmsSid")
    status = _text(fields, "MessageStatus")
    if status:
        state = _TWILIO.get(status)
        code = _code(fields, "ErrorCode")
        opted_out = _text(fields, "To") if code == _TWILIO_OPTED_OUT else ""
        return Reported(_needed(identifier), state, code, None, opted_out) if state is not None else None
    wish = _WISHES.get(_text(fields, "OptOutType").upper(), "")
    return _replied(identifier, _text(fields, "From"), _text(fields, "To"), _text(fields, "Body"), wish=wish)


def read_vonage_sms(fields: Mapping[str, Any]) -> Called:
    """Return what Vonage's SMS API says. Raises `ValueError` where it is neither a receipt nor a text."""
    identifier = _text(fields, "messageId")
    status = _text(fields, "status")
    at = _moment(_text(fields, "message-timestamp"))
    if status:
        state = _VONAGE_SMS.get(status)
        return Reported(_needed(identifier), state, _code(fields, "err-code"), at) if state is not None else None
    part = None
    if _text(fields, "concat").lower() == "true":
        part = {name: int(_text(fields, f"concat-{key}") or 0) for name, key in _CONCATENATED}
    sender, recipient = _international(_text(fields, "msisdn")), _international(_text(fields, "to"))
    return _replied(identifier, sender, recipient, _text(fields, "text"), at=at, part=part)


_CONCATENATED: Final = (("reference", "ref"), ("total", "total"), ("number", "part"))


def read_vonage_messages(fields: Mapping[str, Any]) -> Called:
    """Return what Vonage's Messages API says. Raises `ValueError` where it is neither a status nor a text."""
    identifier = _text(fields, "message_uuid")
    status = _text(fields, "status")
    at = _moment(_text(fields, "timestamp"))
    if status:
        state = _VONAGE_MESSAGES.get(status)
        error = fields.get("error")
        found = _ENDS_IN_CODE.search(_text(error, "type")) if isinstance(error, Mapping) else None
        return Reported(_needed(identifier), state, found[1] if found else "", at) if state is not None else None
    sender, recipient = _international(_text(fields, "from")), _international(_text(fields, "to"))
    return _replied(identifier, sender, recipient, _text(fields, "text"), at=at)


# By the `kind` of the gateway.
READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Called]]] = {
    "twilio": read_twilio,
    "vonage-sms": read_vonage_sms,
    "vonage-messages": read_vonage_messages,
}
# The preset that says how it signs.
PRESETS: Final = {"twilio": "twilio", "vonage-sms": "vonage_sms", "vonage-messages": "vonage"}


def _replied(
    identifier: str,
    sender: str,
    recipient: str,
    text: str,
    *,
    wish: str = "",
    at: float | None = None,
    part: Mapping[str, int] | None = None,
) -> Replied:
    if not sender:
        raise ValueError("it is neither a report on a text nor a text: there is no sender")
    said: dict[str, Any] = {"kind": "reply", "from": sender, "to": recipient, "text": text}
    if wish:
        said["wish"] = wish
    if at is not None:
        said["at"] = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    if part is not None:
        said["part"] = part
    return Replied(_needed(identifier), said)


def _needed(identifier: str) -> str:
    if not identifier:
        raise ValueError("it does not say which text it is about")
    return identifier


def _text(fields: Mapping[str, Any], name: str) -> str:
    """Return a value as text: gateways write numbers now as numbers and now as texts."""
    value = fields.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _code(fields: Mapping[str, Any], name: str) -> str:
    """Return a code of the gateway's where it is one; zeros mean that nothing is wrong."""
    code = _text(fields, name)
    return code if _CODE.fullmatch(code) and code.strip("0") else ""


def _international(number: str) -> str:
    """Return a number with its + back, which Vonage leaves out; names and short codes stay."""
    return f"+{number}" if _NUMBER.fullmatch(number) else number


def _moment(text: str) -> float | None:
    """Return a time that is written with or without its zone; without, it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
