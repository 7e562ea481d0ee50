"""This module finds things in a SOAP request, and makes the message of what is there: text, XML, or JSON of it."""

import base64
import re
from collections.abc import Collection
from functools import cache
from typing import Any, Final
from xml.etree.ElementTree import Element

import orjson

from broker.errors import MessageError
from broker.wire.charset import codec_of_header
from broker.wire.header import read_header
from broker.wire.write_xml import write_xml
from listeners.soap_envelope import Envelope, SoapRefusal
from listeners.soap_service import PAYLOAD, OperationSpec

_STEP: Final = re.compile(r"(?:\{[^{}]+\})?[^/{}]+")
_XSI: Final = "{http://www.w3.org/2001/XMLSchema-instance}"
_ENDS: Final = re.compile(r"\r\n|\n")
_DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")  # what it says of bytes is not so any more
_WIDE: Final = ("utf-16", "utf-32")


def find(payload: Element, path: str, namespace: str) -> Element | None:
    """Return what is at a path below a payload, in the service's namespace or none; None where nothing is."""
    way = _way(payload, path, namespace)
    return way[-1] if way else None


def _way(payload: Element, path: str, namespace: str) -> list[Element]:
    """Return the elements from the payload to what is at a path, or nothing."""
    way = [payload]
    for step in _steps(path):
        names = {step} if step.startswith("{") else {step, f"{{{namespace}}}{step}"}
        found = next((child for child in way[-1] if child.tag in names), None)
        if found is None:
            return []
        way.append(found)
    return way


@cache
def _steps(path: str) -> tuple[str, ...]:
    return () if path == PAYLOAD else tuple(_STEP.findall(path))


def text_at(payload: Element, path: str, namespace: str) -> str:
    """Return the text at a path, or nothing."""
    found = find(payload, path, namespace)
    return "".join(found.itertext()) if found is not None else ""


def see_parts(payload: Element, operation: OperationSpec, namespace: str) -> None:
    """Raise `SoapRefusal` where an element is missing that a request needs."""
    for name, needed in operation.parts():
        if needed and find(payload, name, namespace) is None:
            raise SoapRefusal(f"the request has no element {name} of namespace {namespace}")


def message_in(envelope: Envelope, operation: OperationSpec, namespace: str, form: str) -> bytes:
    """Return the message of a request, for a channel of a format. Raises `SoapRefusal` where there is none."""
    path = operation.message or PAYLOAD
    way = _way(envelope.payload, path, namespace)
    if not way:
        raise SoapRefusal(f"there is no message at {path} of the request")
    if operation.content in {"xml", "json"}:
        _take_out(envelope.payload, operation.login or (), namespace)
    if operation.content == "json":
        return orjson.dumps(_tree(way[-1], frozenset(operation.lists)))
    if operation.content == "xml":
        return _document(envelope, way)
    text = "".join(way[-1].itertext())
    if not text.strip():
        raise SoapRefusal(f"the message at {path} of the request is empty")
    if operation.content == "base64":
        return _decoded(text, path)
    if form == "hl7":
        return hl7_bytes(text)
    return (_DECLARATION.sub("", text) if form == "cda" else text).encode()


def _take_out(payload: Element, paths: Collection[str], namespace: str) -> None:
    """Remove what is no part of a message: who its caller is, and the password."""
    for path in paths:
        before, _, _ = path.rpartition("/")
        parent, found = find(payload, before or PAYLOAD, namespace), find(payload, path, namespace)
        if parent is not None and found is not None:
            parent.remove(found)


def _document(envelope: Envelope, way: list[Element]) -> bytes:
    """Return an element as a document."""
    scope = dict(envelope.prefixes)
    for element in way[:-1]:
        scope |= envelope.declared.get(element, {})
    return write_xml(way[-1], envelope.declared, scope)


def _tree(element: Element, lists: Collection[str]) -> Any:
    """Return an element as JSON has it: text alone as a string, nil as null, without namespaces and what XSI says."""
    if element.get(f"{_XSI}nil", "").strip() in {"true", "1"}:
        return None
    tree: dict[str, Any] = {f"@{_bare(name)}": value for name, value in element.items() if not name.startswith(_XSI)}
    for child in element:
        name, value = _bare(child.tag), _tree(child, lists)
        if name in lists or isinstance(tree.get(name), list):
            tree.setdefault(name, []).append(value)
        else:
            tree[name] = [tree[name], value] if name in tree else value
    text = (element.text or "") + "".join(child.tail or "" for child in element)
    if not tree:
        return text
    return tree | {"#text": text.strip()} if text.strip() else tree


def _bare(tag: str) -> str:
    return tag.rpartition("}")[2]


def _decoded(text: str, path: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise SoapRefusal(f"the message at {path} of the request is no Base64") from None


def hl7_bytes(text: str) -> bytes:
    """Return an HL7 v2 message as bytes: segments end with CR, which XML makes LF of; letters are as MSH-18 says.

    Raises `SoapRefusal` where MSH-18 names a character set that lacks a letter of the message.
    """
    message = _ENDS.sub("\r", text.strip()) + "\r"
    try:
        return message.encode(codec_of(message.encode()))
    except UnicodeError:
        raise SoapRefusal("MSH-18 names a character set that has not all letters of the message") from None


def codec_of(message: bytes) -> str:
    """Return the codec that MSH-18 of a message names; UTF-8 where it names none, or there is no MSH."""
    try:
        header = read_header(message)
        codec = codec_of_header(header.charset, header.separators.repetition) or "utf-8"
    except MessageError:
        return "utf-8"  # the intake says what is wrong with it
    return "utf-8" if codec.startswith(_WIDE) else codec
