"""This module speaks Twilio's Messages API (2010-04-01), which knows no idempotency key."""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from broker.places import reveal
from dispatch.auth import basic
from dispatch.http import Answer, by_status, retry_after
from dispatch.texts.gateway import FORM, JSON, Request, Text, refused_credentials

# Twilio error codes that say why a text can never be sent, in an operator's words.
PERMANENT: Final = {
    20404: "the account is not known to the gateway",
    21211: "the recipient's number is not valid",
    21214: "the recipient's number cannot be reached",
    21217: "the recipient's number does not look valid",
    21408: "the account may not send to the recipient's country",
    21602: "the text is missing",
    21604: "the recipient's number is missing",
    21606: "the sender's number cannot send texts from this account",
    21612: "this sender cannot reach the recipient",
    21614: "the recipient's number is not a mobile number",
    21617: "the text is too long",
    21659: "the sender's number does not belong to this account",
    30003: "the recipient's handset cannot be reached",
    30004: "the message was blocked",
    30005: "the recipient's handset is unknown",
    30006: "the recipient's number is a landline",
    30007: "the carrier filtered the message",
    30034: "the sender's number is not registered with the carriers",
    63016: "the recipient's messaging window is closed",
}
OPTED_OUT: Final = 21610
# Twilio error codes with which the request was not processed and may be sent again.
TRANSIENT: Final = {20429: "too many requests at a time", 30001: "the gateway's queue is full"}

_FAILED: Final = frozenset({"failed", "undelivered", "canceled"})


@dataclass(frozen=True, slots=True)
class Twilio:
    """One account; ``sender`` is a number, a name, or a Messaging Service (``MG…``)."""

    name: str
    base: str
    account: str
    token: Any
    sender: str
    callback: str = ""

    def request(self, text: Text) -> Request:
        """Return the request; its form is the same for every attempt."""
        return Request(
            f"{self.base}/2010-04-01/Accounts/{quote(self.account, safe='')}/Messages.json",
            {
                "Authorization": basic(self.account, reveal(self.token)),
                "Content-Type": FORM,
                "Accept": JSON,
                "X-Request-Id": text.key,
            },
            self.form(text),
        )

    def form(self, text: Text) -> bytes:
        """Return the form body of a text."""
        service = self.sender.startswith("MG")
        fields = {"To": text.to, ("MessagingServiceSid" if service else "From"): self.sender, "Body": text.body}
        if self.callback:
            fields["StatusCallback"] = f"{self.callback}?{urlencode({'delivery': text.key})}"
        return urlencode(fields).encode("ascii")

    def outcome(self, answer: Answer, now: float) -> Outcome:
        """Class what Twilio answered, by its status and its error code."""
        said = answer.json_object()
        code = said.get("code") or said.get("error_code")
        code = code if isinstance(code, int) and not isinstance(code, bool) else None
        reason = f"HTTP {answer.status} from gateway {self.name}" + ("" if code is None else f" (code {code})")
        if 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
            return _accepted(answer, said, code, reason)
        if code in TRANSIENT:
            return Retry(f"{reason}: {TRANSIENT[code]}", after=retry_after(answer.headers, now), response=answer.body)
        if answer.status < 500 and code is not None:  # noqa: PLR2004 - a server error says nothing for sure
            if code == OPTED_OUT:
                return Suppressed(f"{reason}: the recipient has opted out", response=answer.body)
            if code in PERMANENT:
                return Rejected(f"{reason}: {PERMANENT[code]}", response=answer.body)
        if answer.status in {401, 403}:
            return refused_credentials(reason, self.name, answer.body)
        return by_status(answer, f"gateway {self.name}", now, "" if code is None else f"code {code}")


def _accepted(answer: Answer, said: dict[str, Any], code: int | None, reason: str) -> Outcome:
    sid = said.get("sid")
    if not (isinstance(sid, str) and sid.isascii() and sid.isalnum() and len(sid) <= 64):  # noqa: PLR2004 - Twilio: 34
        return Unknown(f"{reason}: success without a message sid", response=answer.body)
    if said.get("status") in _FAILED:
        if code == OPTED_OUT:
            return Suppressed(f"{reason}: the recipient has opted out", response=answer.body)
        why = PERMANENT.get(code or 0, "the gateway gave the message up")
        return Rejected(f"{reason}: {why}", response=answer.body)
    return Delivered(reference=sid, response=answer.body)
