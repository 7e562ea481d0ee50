"""This module speaks Vonage's Messages API (v1), with a token that it signs itself or with key and secret."""

import re
import time
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import orjson

from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown
from broker.places import reveal
from dispatch.auth import basic
from dispatch.http import Answer, by_status, retry_after
from dispatch.texts.gateway import JSON, Request, Text, refused_credentials, usable_reference

if TYPE_CHECKING:
    from dispatch.signing import SigningKey

# https://developer.vonage.com/api-errors/messages: the code is the fragment of the problem's `type`.
PERMANENT: Final = {
    "1010": "a parameter is missing",
    "1020": "a parameter is not valid",
    "1040": "the gateway cannot process this message or number",
    "1060": "the account is barred; talk to Vonage, then replay",
    "1070": "the account's credit is spent; top it up, then replay",
    "1080": "the account may not use this API",
    "1090": "the text is too long",
    "1120": "the sender is not allowed",
}
BARRED: Final = "1050"
THROTTLED: Final = "1000"

_TOKEN_SECONDS: Final = 300
_CODE: Final = re.compile(r"#(\d{3,5})$")


@dataclass(frozen=True, slots=True)
class VonageMessages:
    """One application (``application`` and ``private_key``, PEM), or one account (``account`` and ``secret``)."""

    name: str
    base: str
    sender: str
    application: str = ""
    private_key: Any = None
    account: str = ""
    secret: Any = None
    callback: str = ""

    def request(self, text: Text) -> Request:
        """Return the request; its body is the same for every attempt."""
        body = {
            "channel": "sms",
            "client_ref": text.key,
            "from": self.sender.removeprefix("+"),
            "message_type": "text",
            "text": text.body,
            "to": text.to.removeprefix("+"),
        }
        if self.callback:
            body |= {"webhook_url": self.callback, "webhook_version": "v1"}
        headers = {
            "Authorization": self._authorization(time.time()),
            "Content-Type": JSON,
            "Accept": JSON,
            "X-Request-Id": text.key,
        }
        return Request(f"{self.base}/v1/messages", headers, orjson.dumps(body))

    def _authorization(self, now: float) -> str:
        if not self.application:
            return basic(self.account, reveal(self.secret))
        claims = {
            "application_id": self.application,
            "iat": int(now),
            "exp": int(now) + _TOKEN_SECONDS,
            "jti": str(uuid.uuid4()),
        }
        return "Bearer " + _key(reveal(self.private_key), f"gateways.{self.name}.private_key").sign(claims)

    def outcome(self, answer: Answer, now: float) -> Outcome:
        """Class what Vonage answered, by its status and the code of its problem document."""
        said = answer.json_object()
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success, RFC 9110 15.3
            found = _CODE.search(str(said.get("type", "")))
            return _refused(answer, found[1] if found else "", self.name, now)
        # 202 is the one success that the API describes.
        reference = usable_reference(said.get("message_uuid")) if answer.status == 202 else ""  # noqa: PLR2004
        if reference:
            return Delivered(reference=reference, response=answer.body)
        text = f"HTTP {answer.status} from gateway {self.name}: success without a message_uuid"
        return Unknown(text, response=answer.body)


@lru_cache(maxsize=8)  # reading an RSA key checks its primes, which takes longer than a text may
def _key(pem: str, where: str) -> "SigningKey":
    from dispatch.signing import read_key  # noqa: PLC0415 - loads what reading a channel file need not

    return read_key(pem, where, algorithm="RS256")


def _refused(answer: Answer, code: str, gateway: str, now: float) -> Outcome:
    detail = f"code {code}" if code else ""
    reason = f"HTTP {answer.status} from gateway {gateway}" + (f" ({detail})" if detail else "")
    known = code if answer.status < 500 else ""  # noqa: PLR2004 - a server error says nothing for sure
    if known == THROTTLED:
        wait = retry_after(answer.headers, now)
        return Retry(f"{reason}: too many texts at a time", after=wait, response=answer.body)
    if known == BARRED:
        return Suppressed(f"{reason}: the gateway bars the recipient's number, so they opted out", response=answer.body)
    if known in PERMANENT:
        return Rejected(f"{reason}: {PERMANENT[known]}", response=answer.body)
    if answer.status in {401, 403}:
        return refused_credentials(reason, gateway, answer.body)
    return by_status(answer, f"gateway {gateway}", now, detail)
