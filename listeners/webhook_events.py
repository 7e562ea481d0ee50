"""This module takes the body of a webhook apart into events: JSON as it was sent, forms and SOAP as JSON."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element

import orjson

from broker.errors import MessageError
from broker.wire.safe_xml import read_xml
from broker.wire.strict_json import read_json
from listeners.http_request import Refusal, Request

_FORM: Final = "application/x-www-form-urlencoded"
_ENVELOPE: Final = "{http://schemas.xmlsoap.org/soap/envelope/}"
_OUTBOUND: Final = "{http://soap.sforce.com/2005/09/outbound}"
_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_MOST_FIELDS: Final = 1000

Event = tuple[bytes, Any]  # as it is handed in, and what it holds


def events_of(kind: str, each: str, request: Request, body: bytes) -> list[Event]:
    """Return the events in a body of a kind (json, form, soap, any). Raises `Refusal` where it cannot be read."""
    try:
        if kind == "soap":
            return [(orjson.dumps(event), event) for event in _notifications(body)]
        if kind == "form" or (kind == "any" and request.content_type == _FORM):
            fields = read_form(body)
            return [(orjson.dumps(fields), fields)]
        value = read_json(body)
    except MessageError as error:
        raise Refusal(400, str(error)) from None
    if each == "array" and isinstance(value, list):
        return list(zip(_items(body), value, strict=True))
    return [(body, value)]


def read_form(body: bytes) -> dict[str, Any]:
    """Return the fields of a form; those that are there several times as lists. Raises `Refusal`."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refusal(400, "the body is no form of UTF-8 fields") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        before = fields.get(name)
        fields[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return fields


def _items(body: bytes) -> Iterator[bytes]:
    """Yield the items of a JSON array that was read before, byte for byte."""
    text = body.decode("utf-8-sig")
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        _, end = decoder.raw_decode(text, at)
        yield text[at:end].encode()
        at = end


def _notifications(body: bytes) -> Iterator[dict[str, Any]]:
    """Yield what Salesforce's outbound messages say, one for each record."""
    root = read_xml(body)
    found = root.find(f"{_ENVELOPE}Body/{_OUTBOUND}notifications")
    if root.tag != f"{_ENVELOPE}Envelope" or found is None:
        raise MessageError("the XML is no SOAP envelope with Salesforce's notifications in it")
    whole = {
        "organization_id": _text(found, "OrganizationId"),
        "action_id": _text(found, "ActionId"),
    }
    for notification in found.findall(f"{_OUTBOUND}Notification"):
        record = notification.find(f"{_OUTBOUND}sObject")
        fields = (
            {_bare(field.tag): field.text or "" for field in record if not len(field)} if record is not None else {}
        )
        kind = record.get(_TYPE, "") if record is not None else ""
        yield whole | {"id": _text(notification, "Id"), "type": kind.rpartition(":")[2], "fields": fields}


def _text(parent: Element, name: str) -> str:
    return (parent.findtext(f"{_OUTBOUND}{name}") or "").strip()


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]


def value_at(place: str, request: Request, event: Any) -> str:
    """Return what stands at a place of an event (``data.id``) or in a header (``header:x-id``), or nothing."""
    if place.startswith("header:"):
        return request.headers.get(place.removeprefix("header:"), "")
    value = event
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)
