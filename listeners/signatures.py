"""This module checks the signatures of webhooks: how each system signs is data, in ``listeners/webhooks/*.yaml``."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
import yaml
from pydantic import Field

from broker.errors import MessageError
from broker.hosts import PORTS
from broker.spec import Seconds, Spec
from broker.wire.strict_json import read_json
from listeners.http_callers import is_one_of
from listeners.http_request import Request

FOLDER: Final = Path(__file__).with_name("webhooks")
_HOLE: Final = re.compile(r"\{(timestamp|body|id|method|url)\}")
_MOST_FIELDS: Final = 1000  # of a form, which is read before anybody knows who sent it
_STANDARD_SECRET: Final = "whsec_"  # noqa: S105 - what a secret of Standard Webhooks begins with
_HUBSPOT_DECODED: Final = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_TWILIO_SETTINGS: Final = "x-twilio-webhooks-signature-settings"
_TWILIO_ALGORITHMS: Final = {"": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}


class StampSpec(Spec):
    """Where a request says when it was signed."""

    header: str = Field(description="The header, in lower case.")
    prefix: str = Field(default="", description="What stands before the time in one item of the header.")
    unit: Literal["seconds", "milliseconds", "iso"] = Field(
        default="seconds", description="How the time is written; `iso` without a zone is UTC."
    )


class SignatureSpec(Spec):
    """How a system signs."""

    kind: Literal["hmac", "twilio", "jwt", "field", "fields", "tink"] = Field(
        description="`hmac` over what `signs` says; `twilio` over address and sorted fields; "
        "`jwt` with a digest of the body; `field`: the secret itself in a field of the body; "
        "`fields`: HMAC over the sorted fields of the body, in one of them; `tink`: ECDSA with a public keyset."
    )
    header: str = Field(default="", description="The header that holds the signature, in lower case.")
    separator: str = Field(default="", description="What stands between several signatures in the header.")
    prefix: str = Field(default="", description="What stands before a signature in the header.")
    signs: str = Field(
        default="{body}", description="What is signed: {body}, {timestamp}, {id}, {method}, {url} and other characters."
    )
    algorithm: Literal["sha1", "sha256", "sha512"] = Field(default="sha256", description="The hash of the HMAC.")
    encoding: Literal["hex", "base64"] = Field(default="hex", description="How the signature is written.")
    timestamp: StampSpec | None = Field(default=None, description="Where the time is; without it none is signed.")
    id_header: str = Field(default="", description="The header with the id of the event, where that is signed.")
    secret: Literal["text", "whsec"] = Field(
        default="text",
        description="What the key is: the secret as text, or what Base64 behind `whsec_` holds.",
    )
    field: str = Field(
        default="", description="The field of the body that holds the secret (`field`) or the signature (`fields`)."
    )
    window: Seconds = Field(default=300.0, description="How far its time may be from ours.")

    def verify(self, request: Request, body: bytes, secrets: Sequence[str], now: float) -> bool:
        """Tell whether one of some secrets signed a request, within the window around ``now`` (POSIX seconds)."""
        if self.kind == "twilio":
            return _is_of_twilio(request, body, secrets)
        if self.kind == "jwt":
            return any(self._is_token(request, body, secret, now) for secret in secrets)
        if self.kind == "field":
            found = re.search(rb'"%s"\s*:\s*"([^"\\]*)"' % re.escape(self.field).encode(), body)
            return found is not None and is_one_of(found[1].decode("utf-8", "replace"), secrets)
        if self.kind == "fields":
            return self._are_signed_fields(request, body, secrets, now)
        return self.kind == "hmac" and self._is_signed(request, body, secrets, now)

    def _are_signed_fields(self, request: Request, body: bytes, secrets: Sequence[str], now: float) -> bool:
        """Tell whether fields hold a signature over the others (Vonage: signing messages)."""
        fields = _fields(request, body)
        stamp = fields.get(self.timestamp.header, "") if self.timestamp is not None else ""
        if self.timestamp is not None and not self._is_near(stamp, now):
            return False
        given = _decoded(fields.pop(self.field, ""), self.encoding)
        # What would end a name or a value is written as _, so that no other fields give the same text.
        plain = "".join(f"&{name}={re.sub('[&=]', '_', fields[name])}" for name in sorted(fields)).encode()
        good = [hmac.compare_digest(hmac.digest(each.encode(), plain, self.algorithm), given) for each in secrets]
        return any(good)

    def _is_signed(self, request: Request, body: bytes, secrets: Sequence[str], now: float) -> bool:
        stamp = self._stamp(request)
        if stamp is None or (self.timestamp is not None and not self._is_near(stamp, now)):
            return False
        given = [_decoded(text, self.encoding) for text in _items(request, self.header, self.separator, self.prefix)]
        good = False
        for url in _spellings(request.url) if "{url}" in self.signs else ("",):
            signed = self._signed(request, body, stamp, url)
            for secret in secrets:
                wanted = hmac.new(self._key(secret), signed, self.algorithm).digest()
                good |= any(hmac.compare_digest(wanted, each) for each in given)
        return good

    def _signed(self, request: Request, body: bytes, stamp: str, url: str) -> bytes:
        values = {
            "timestamp": stamp.encode(),
            "body": body,
            "id": request.headers.get(self.id_header, "").encode(),
            "method": request.method.encode(),
            "url": url.encode(),
        }
        parts = _HOLE.split(self.signs)
        return b"".join(values[part] if number % 2 else part.encode() for number, part in enumerate(parts))

    def _key(self, secret: str) -> bytes:
        if self.secret == "text":  # noqa: S105 - a kind of secret
            return secret.encode()
        return base64.b64decode(secret.removeprefix(_STANDARD_SECRET) + "==")

    def _stamp(self, request: Request) -> str | None:
        """Return the time as it was sent; nothing where none is signed, None where it is not there."""
        if self.timestamp is None:
            return ""
        return next(_items(request, self.timestamp.header, self.separator, self.timestamp.prefix), None)

    def _is_near(self, stamp: str, now: float) -> bool:
        try:
            if self.timestamp is not None and self.timestamp.unit == "iso":
                moment = datetime.fromisoformat(stamp)
                at = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
            else:
                at = int(stamp) / (1000 if self.timestamp and self.timestamp.unit == "milliseconds" else 1)
        except (ValueError, OverflowError):
            return False
        return abs(now - at) <= self.window

    def _is_token(self, request: Request, body: bytes, secret: str, now: float) -> bool:
        """Tell whether the token is signed, new, and about this body (Vonage: signed webhooks)."""
        scheme, _, token = request.headers.get(self.header, "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            # PyJWT looks at the clock itself; the window is ours, around the time that we were given.
            claims = jwt.decode(
                token,
                secret,
                algorithms=["HS256"],
                options={"verify_iat": False, "verify_exp": False, "verify_aud": False},
            )
            at, digest = float(claims["iat"]), str(claims["payload_hash"])
        except (jwt.PyJWTError, KeyError, ValueError, TypeError):
            return False
        fits = hmac.compare_digest(digest.encode(), hashlib.sha256(body).hexdigest().encode())
        return fits and abs(now - at) <= self.window


def _fields(request: Request, body: bytes) -> dict[str, str]:
    """Return the fields of a form or of a flat JSON object; none where there is something else."""
    try:
        if request.content_type == "application/json":
            value = read_json(body)
            return {name: str(each) for name, each in value.items()} if isinstance(value, dict) else {}
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except (MessageError, ValueError):
        return {}


def _items(request: Request, header: str, separator: str, prefix: str) -> Iterator[str]:
    """Yield what a header holds behind a prefix."""
    text = request.headers.get(header, "")
    for item in text.split(separator) if separator else [text]:
        bare = item.strip()
        if bare and bare.startswith(prefix):
            yield bare.removeprefix(prefix)


def _decoded(text: str, encoding: str) -> bytes:
    try:
        return bytes.fromhex(text) if encoding == "hex" else base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _spellings(url: str) -> tuple[str, ...]:
    """Return an address as it is, and as HubSpot signs it: with some characters no longer percent-encoded."""
    plain = url
    for encoded, letter in _HUBSPOT_DECODED.items():
        plain = plain.replace(encoded, letter).replace(encoded.lower(), letter)
    return (url,) if plain == url else (url, plain)


def _is_of_twilio(request: Request, body: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether Twilio signed a request: address and sorted fields, or address with a digest of the body."""
    settings = dict(item.strip().partition("=")[::2] for item in request.headers.get(_TWILIO_SETTINGS, "").split(","))
    algorithm = _TWILIO_ALGORITHMS.get(settings.get("algorithm", ""))
    if algorithm is None:
        return False
    digest = parse_qs(urlsplit(request.url).query).get("bodySHA256", [])
    if digest:
        if not hmac.compare_digest(digest[0].encode(), hashlib.sha256(body).hexdigest().encode()):
            return False
        fields = ""
    else:
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MOST_FIELDS
            )
        except ValueError:
            return False
        fields = "".join(name + value for name, value in sorted(set(pairs)))
    given = _decoded(request.headers.get("x-twilio-signature", ""), "base64")
    good = False
    for url in _ports(request.url):
        for secret in secrets:
            wanted = hmac.new(secret.encode(), (url + fields).encode(), algorithm).digest()
            good |= hmac.compare_digest(wanted, given)
    return good


def _ports(url: str) -> tuple[str, str]:
    """Return an address without and with the port that its scheme implies; Twilio signs either."""
    parts = urlsplit(url)
    port = PORTS.get(parts.scheme, 0)
    host = parts.netloc.removesuffix(f":{port}")
    return parts._replace(netloc=host).geturl(), parts._replace(
        netloc=f"{host}:{port}" if parts.port in {None, port} else host
    ).geturl()


class HandshakeSpec(Spec):
    """A request by which a system sees whether we are there; nothing is kept of it."""

    kind: Literal["token", "plain"] = Field(
        description="`token`: it wants its token signed with the secret (Zoom); `plain`: the usual answer is enough."
    )
    field: str = Field(description="The field of the body that tells it from an event.")
    equals: str = Field(description="What that field holds.")


class PresetSpec(Spec):
    """What is known of the webhooks of one system."""

    title: str = Field(description="What people call the system.")
    source: str = Field(description="Where its maker says so.")
    signature: SignatureSpec | None = Field(
        default=None, description="How it signs; without it callers prove themselves."
    )
    callers: list[Literal["bearer", "basic", "api_key", "jwt", "certificate", "signature"]] = Field(
        min_length=1, description="The kinds of callers that it can be."
    )
    body: Literal["json", "form", "soap", "any"] = Field(description="What it sends: `any` may be a form or JSON.")
    may_be_empty: bool = Field(default=False, description="An event may come without a body, and is `{}` then.")
    each: Literal["", "array"] = Field(default="", description="`array`: each item of the body is an event of its own.")
    key: list[str] = Field(
        default=[],
        description="What makes an event the same as one before: fields (`data.id`), or headers (`header:x-id`).",
    )
    key_decides: bool = Field(
        default=False,
        description="The first of `key` is an id: where it is there, events with the same `key` are one, "
        "whatever else they hold; else their bodies must be the same as well.",
    )
    tested: Literal["library", "example", "formula", "requests"] = Field(
        description="How: with signatures that its maker's own library made or checks; with the example in its "
        "documents; with what we signed by its documented formula; with requests of the documented shape (unsigned)."
    )
    account: str = Field(default="", description="Where it says whose account it is about, as in `key`.")
    handshake: HandshakeSpec | None = Field(default=None, description="A request that only asks whether we are there.")
    status: Literal[200, 202, 204] = Field(default=200, description="The status that it expects.")
    answer: str = Field(default="", description="The body that it expects.")
    answer_type: str = Field(default="text/plain", description="What that body is.")
    note: str = Field(default="", description="What somebody who sets it up must know.")


@cache
def presets(*, signed: bool = False) -> tuple[str, ...]:
    """Return the names of all presets, or of those by which other callers may sign as well."""
    names = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if not signed:
        return tuple(names)
    return tuple(name for name in names if (found := load_preset(name).signature) is not None and found.kind == "hmac")


@cache
def load_preset(name: str) -> PresetSpec:
    """Return a preset. Raises `ValueError` where there is none of this name, or its file is wrong."""
    if name not in presets():
        raise ValueError(f"there is no preset {name!r}; known: {', '.join(presets())}")
    return PresetSpec.model_validate(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()))
