"""This module reads what a partner answered to an HL7 v2 message, and says what that means for the delivery.

Partners disagree on what AE and AR mean, so a table of each destination decides. Reasons hold codes alone: what a
partner writes in MSA-3 or ERR-8 may name a patient, and is kept sealed with the attempt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from broker.delivery import Delivered, Outcome, Rejected, Retry, Unknown
from broker.errors import MessageError
from broker.wire.ack import TABLE_0008, TABLE_0357
from broker.wire.er7 import Message, read_header

Action = Literal["delivered", "retry", "unknown", "refused"]
Code = Literal["AA", "AE", "AR", "CA", "CE", "CR"]

# What a code of table 0008 leads to. AE: something stood in the way, and may be gone later. AR, CR: never this one.
ACTIONS: Final[Mapping[str, Action]] = {
    "AA": "delivered",
    "CA": "delivered",
    "AE": "retry",
    "CE": "retry",
    "AR": "refused",
    "CR": "refused",
}
# What a condition of table 0357 says of a refusal, whatever its code: errors in the message stay in the message.
CONDITIONS: Final[Mapping[str, Action]] = {
    **dict.fromkeys(("100", "101", "102", "103", "104", "198"), "refused"),
    **dict.fromkeys(("200", "201", "202", "203", "204", "205"), "refused"),
    "206": "retry",
}
_GOOD: Final = frozenset({"AA", "CA"})
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
_PLACE: Final = 2  # ERR-2: segment, its number, field, repetition, component, subcomponent


@dataclass(frozen=True, slots=True)
class Answer:
    """One acknowledgment: MSA-1, MSA-2, and of the first ERR its condition and location, as far as they are codes."""

    code: str
    control_id: str
    condition: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What a destination makes of answers: its own rules over `ACTIONS` and `CONDITIONS`."""

    actions: Mapping[str, Action]
    conditions: Mapping[str, Action]

    def action(self, answer: Answer) -> Action:
        """Return what an answer leads to.

        What the channel says of a condition counts most, then what it says of the code, then what is usual of both.
        """
        if answer.code in _GOOD:
            return self.actions.get(answer.code, "delivered")
        for rules, key in (
            (self.conditions, answer.condition),
            (self.actions, answer.code),
            (CONDITIONS, answer.condition),
            (ACTIONS, answer.code),
        ):
            if key in rules:
                return rules[key]
        return "unknown"


def control_id_of(request: bytes) -> str:
    """Return the control id of a message as an acknowledgment of it gives it back."""
    plain = read_header(request).control_id
    return plain.decode() if plain.isalnum() else (Message.parse(request).get("MSH-10") or "").strip()


def read_answer(payload: bytes) -> Answer | None:
    """Return what an acknowledgment says, or None for bytes that are none."""
    try:
        message = Message.parse(payload)
    except MessageError:
        return None
    code = (message.get("MSA-1") or "").strip().upper()
    if not code:
        return None
    control_id = (message.get("MSA-2") or "").strip()
    if code in _GOOD:
        return Answer(code, control_id)
    condition = message.get("ERR-3.1") or message.get("ERR-1.4") or ""
    return Answer(
        code=code,
        control_id=control_id,
        condition=condition if _NUMBER.fullmatch(condition) else "",
        location=_location(message),
    )


def outcome(answer: Answer, table: Table, peer: str, response: bytes) -> Outcome:
    """Return what an answer means for the delivery."""
    action = table.action(answer)
    if action == "delivered":
        return Delivered(reference=answer.code, response=response)
    reason = f"{peer}: {_said(answer)}"
    if action == "retry":
        return Retry(reason, response=response)
    if action == "refused":
        return Rejected(reason, location=answer.location, response=response)
    return Unknown(reason, response=response)


def _said(answer: Answer) -> str:
    if answer.code not in TABLE_0008:
        return "answered with a code that is not of HL7 table 0008"
    text = f"answered {answer.code} ({TABLE_0008[answer.code]})"
    if answer.condition:
        name = TABLE_0357.get(int(answer.condition))
        text += f", condition {answer.condition}" + (f" ({name})" if name else "")
    return text + (f" at {answer.location}" if answer.location else "")


def _location(message: Message) -> str:
    """Return ERR-2 (before 2.5: ERR-1) as a location, if it is one: a partner could write anything there."""
    field = "ERR-2" if message.get("ERR-3.1") else "ERR-1"
    name = message.get(f"{field}.1") or ""
    if not _NAME.fullmatch(name):
        return ""
    last = 6 if field == "ERR-2" else 3  # ERR-1 of old versions has the code as its fourth component
    numbers = [message.get(f"{field}.{part}") or "" for part in range(_PLACE, last + 1)]
    if not all(_NUMBER.fullmatch(number) for number in numbers if number):
        return ""
    occurrence, place, repetition, *below = [*numbers, "", "", "", ""][:5]
    text = name + (f"[{occurrence}]" if occurrence not in {"", "0", "1"} else "")
    if not place:
        return text
    text += f"-{place}" + (f"[{repetition}]" if repetition not in {"", "0", "1"} else "")
    return text + "".join(f".{number}" for number in below if number)
