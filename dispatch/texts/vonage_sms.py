"""This module speaks Vonage's SMS API, which answers 200 whatever happened and says in the body what did."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from broker.places import reveal
from broker.wire.gsm import fits_gsm
from dispatch.http import Answer, by_status
from dispatch.texts.gateway import FORM, JSON, Request, Text, refused_credentials, usable_reference

# https://developer.vonage.com/api-errors/sms, in an operator's words.
PERMANENT: Final = {
    "2": "a parameter is missing",
    "3": "a parameter is not valid",
    "6": "the gateway cannot process this message or number",
    "8": "the account is barred; talk to Vonage, then replay",
    "11": "the account may not use this API",
    "12": "the text is too long",
    "15": "the sender is not allowed",
    "22": "the network code is not valid",
    "23": "the callback's address is not valid",
    "29": "the number is not on the list that a trial account may send to",
}
CREDENTIALS: Final = frozenset({"4", "14"})  # key or secret, or the signature
BARRED: Final = "7"
# The text was surely not taken, and may be later.
TRANSIENT: Final = {"1": "too many texts at a time", "9": "the account's credit is spent", "10": "too many connections"}
_WAIT: Final = {"9": 300.0}  # seconds before it can make sense to try again


@dataclass(frozen=True, slots=True)
class VonageSms:
    """One account; ``sender`` is a number or a name."""

    name: str
    base: str
    account: str
    secret: Any
    sender: str
    callback: str = ""

    def request(self, text: Text) -> Request:
        """Return the request; its form is the same for every attempt, but for the secret."""
        fields = {
            "api_key": self.account,
            "api_secret": reveal(self.secret),
            "from": self.sender.removeprefix("+"),
            "to": text.to.removeprefix("+"),
            "text": text.body,
            "type": "text" if fits_gsm(text.body) else "unicode",
            "client-ref": text.key,
        }
        if self.callback:
            fields |= {"status-report-req": "true", "callback": self.callback}
        return Request(
            f"{self.base}/sms/json",
            {"Content-Type": FORM, "Accept": JSON, "X-Request-Id": text.key},
            urlencode(fields).encode("ascii"),
        )

    def outcome(self, answer: Answer, now: float) -> Outcome:
        """Class what Vonage answered: every part of the text must have status 0."""
        reason = f"HTTP {answer.status} from gateway {self.name}"
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
            if answer.status in {401, 403}:
                return refused_credentials(reason, self.name, answer.body)
            return by_status(answer, f"gateway {self.name}", now)
        parts = answer.json_object().get("messages")
        if isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts):
            return _told(parts, reason, self.name, answer.body)
        return Unknown(f"{reason}: success without a status of the text", response=answer.body)


def _told(parts: list[dict[str, Any]], reason: str, gateway: str, response: bytes) -> Outcome:
    statuses = [str(part.get("status")) for part in parts]
    if "0" not in statuses:
        return _refused(statuses[0], reason, gateway, response)
    if set(statuses) != {"0"}:
        return Unknown(f"{reason}: it took some parts of the text and not all", response=response)
    # Each part of a long text has an id of its own, under which its receipt comes.
    references = [usable_reference(part.get("message-id")) for part in parts]
    if not all(references):
        return Unknown(f"{reason}: success without a message-id", response=response)
    return Delivered(reference=" ".join(references), response=response)


def _refused(status: str, reason: str, gateway: str, response: bytes) -> Outcome:
    """Class a status other than 0."""
    if not (status.isascii() and status.isdigit() and len(status) <= 3):  # noqa: PLR2004 - Vonage has two digits
        return Unknown(f"{reason}: a status that is no number", response=response)
    reason = f"{reason} (status {status})"
    if status in TRANSIENT:
        return Retry(f"{reason}: {TRANSIENT[status]}", after=_WAIT.get(status), response=response)
    if status == BARRED:
        return Suppressed(f"{reason}: the gateway bars the recipient's number, so they opted out", response=response)
    if status in CREDENTIALS:
        return refused_credentials(reason, gateway, response)
    if status in PERMANENT:
        return Rejected(f"{reason}: {PERMANENT[status]}", response=response)
    return Unknown(reason, response=response)  # 5, an error while it was processed, and what we do not know
