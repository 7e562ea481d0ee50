"""This module plays Twilio's Messages API (2010-04-01), so far as an engine that sends texts can tell."""

import base64
import binascii
import hmac
import re
import uuid
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.wire.gsm import cut
from console.sandbox.record import Arrival, Record

TOKEN: Final = "sandbox"  # noqa: S105 - of every account, where none is known
_NUMBER: Final = re.compile(r"\+[1-9]\d{6,14}")
_LONGEST: Final = 1600
_PAGE: Final = 50

# The numbers with which Twilio's own test credentials let one practise failures.
_PRACTICE: Final = {
    "+15005550001": (21211, "Invalid 'To' Phone Number: +15005550001"),
    "+15005550002": (21612, "The 'To' phone number: +15005550002, is not currently reachable using the 'From' number"),
    "+15005550003": (21408, "Permission to send an SMS has not been enabled for the region"),
    "+15005550004": (21610, "Attempt to send to unsubscribed recipient"),
    "+15005550009": (21614, "'To' number is not a valid mobile number"),
}


class Refused(Exception):
    """A request is answered with one of Twilio's errors."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text

    def response(self) -> Response:
        """Return Twilio's error document."""
        more = f"https://www.twilio.com/docs/errors/{self.code}"
        document = {"code": self.code, "message": self.text, "more_info": more, "status": self.status}
        challenge = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if self.status == 401 else None  # noqa: PLR2004
        return JSONResponse(document, self.status, challenge)


def routes(record: Record, accounts: Mapping[str, str]) -> list[Route]:
    """Return the routes of the practice gateway; ``accounts`` have their tokens, and without any, all have `TOKEN`."""
    account = "/2010-04-01/Accounts/{account}"

    async def messages(request: Request) -> Response:
        _authenticate(request, accounts)
        if request.method == "POST":
            form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
            return JSONResponse(_send(record, request, form), 201)
        return JSONResponse(_list(record, request))

    async def message(request: Request) -> Response:
        _authenticate(request, accounts)
        found = record.get("Message", request.path_params["sid"])
        if found is None:
            raise Refused(404, 20404, f"The requested resource {request.url.path} was not found")
        return JSONResponse(found.body)

    return [
        Route(f"{account}/Messages.json", messages, methods=["GET", "POST"]),
        Route(f"{account}/Messages/{{sid}}.json", message, methods=["GET"]),
    ]


def _authenticate(request: Request, accounts: Mapping[str, str]) -> None:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    try:
        user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        user = password = ""
    token = accounts.get(user, "") if accounts else TOKEN
    proven = bool(token) and hmac.compare_digest(password.encode(), token.encode())
    if scheme.lower() != "basic" or user != request.path_params["account"] or not proven:
        raise Refused(401, 20003, "Authenticate")


def _check(form: dict[str, str]) -> None:
    to, body = form.get("To", ""), form.get("Body", "")
    if not to:
        raise Refused(400, 21604, "A 'To' phone number is required.")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        raise Refused(400, 21603, "A 'From' phone number is required.")
    if not body:
        raise Refused(400, 21602, "Message body is required.")
    if len(body) > _LONGEST:
        raise Refused(400, 21617, "The concatenated message body exceeds the 1600 character limit")
    if not _NUMBER.fullmatch(to):
        raise Refused(400, 21211, f"Invalid 'To' Phone Number: {to}")
    if to in _PRACTICE:
        raise Refused(400, *_PRACTICE[to])


def _send(record: Record, request: Request, form: dict[str, str]) -> dict[str, Any]:
    _check(form)
    to, body = form["To"], form["Body"]
    sender, service = form.get("From", ""), form.get("MessagingServiceSid", "")
    account, sid, now = request.path_params["account"], f"SM{uuid.uuid4().hex}", formatdate()
    uri = f"/2010-04-01/Accounts/{account}/Messages/{sid}"
    document = {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": body,
        "date_created": now,
        "date_sent": None,
        "date_updated": now,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": sender or None,
        "messaging_service_sid": service or None,
        "num_media": "0",
        "num_segments": str(cut(body).segments) if sender else "0",
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued" if sender else "accepted",
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": to,
        "uri": f"{uri}.json",
    }
    record.add("text", "create", ("Message", sid, 1), document, request_id=request.headers.get("x-request-id", ""))
    return document


def _list(record: Record, request: Request) -> dict[str, Any]:
    account, wanted = request.path_params["account"], request.query_params
    found = [arrival.body for arrival in reversed(record.log("text", limit=10_000)) if _fits(arrival, account, wanted)]
    size = (
        min(max(int(wanted.get("PageSize", "") or _PAGE), 1), 1000) if wanted.get("PageSize", "1").isdigit() else _PAGE
    )
    uri = f"/2010-04-01/Accounts/{account}/Messages.json"
    page = found[:size]
    return {
        "messages": page,
        "page": 0,
        "page_size": size,
        "start": 0,
        "end": max(len(page) - 1, 0),
        "first_page_uri": f"{uri}?PageSize={size}&Page=0",
        "next_page_uri": None,
        "previous_page_uri": None,
        "uri": f"{uri}?PageSize={size}&Page=0",
    }


def _fits(arrival: Arrival, account: str, wanted: Any) -> bool:
    body = arrival.body
    return body["account_sid"] == account and all(
        body[name] == wanted[key] for key, name in (("To", "to"), ("From", "from")) if wanted.get(key)
    )
