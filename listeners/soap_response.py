"""This module makes the answers of a SOAP service: the element of an operation, and the details of a fault."""

import re
from collections.abc import Callable, Mapping
from typing import Final
from xml.etree.ElementTree import Element

from broker.errors import MessageError
from broker.ids import show
from broker.message import Conclusion, Receipt
from broker.wire.safe_xml import read_xml
from broker.wire.write_xml import escaped
from listeners.http_answer import GOOD, WaitSpec
from listeners.http_request import Refusal
from listeners.soap_content import text_at
from listeners.soap_envelope import SoapRefusal
from listeners.soap_service import ASKED, HOLE, FaultKind, FaultSpec, ServiceSpec

_DECLARATION: Final = re.compile(r"^\ufeff?\s*<\?xml[^>]*\?>")
_ROOT: Final = re.compile(r"<[^\s/>]+")
_KINDS: Final[Mapping[int, FaultKind]] = {401: "security", 403: "security", 413: "too_large"}


class Responses:
    """What one service answers with."""

    def __init__(self, service: ServiceSpec) -> None:
        self._service = service
        self._templates = {name: self._template(name) for name in service.operations}

    def _template(self, name: str) -> str:
        """Return the element that answers an operation, with holes; it is of the service's namespace."""
        response, declared = self._service.operations[name].answered, f' xmlns="{self._service.namespace}"'
        if response.xml is not None:
            text, bare = response.xml.strip(), not response.root().startswith("{")
            return _ROOT.sub(lambda root: f"{root[0]}{declared}", text, count=1) if bare else text
        element = self._service.answer_element(name)
        fields = "".join(f"<{field}>{_around(text)}</{field}>" for field, text in response.fields.items())
        return f"<{element}{declared}>{fields}</{element}>"

    def write(self, name: str, values: Mapping[str, str], payload: Element) -> str:
        """Return the element that answers a request. Raises `SoapRefusal` where what came back does not fit in."""
        is_xml = self._service.operations[name].answered.xml is not None
        fill = self._filling(values, payload, is_xml=is_xml)
        text = HOLE.sub(lambda hole: fill(hole[1]), self._templates[name])
        if is_xml:
            try:
                read_xml(text.encode())
            except MessageError:
                told = "the message is kept, and what came back of it is no XML that fits into the answer"
                raise SoapRefusal(told, code="Receiver", status=502, is_told=True) from None
        return text

    def _filling(self, values: Mapping[str, str], payload: Element, *, is_xml: bool) -> Callable[[str], str]:
        def fill(name: str) -> str:
            if name.startswith(ASKED):
                return escaped(text_at(payload, name.removeprefix(ASKED), self._service.namespace))
            text = values.get(name, "")
            return _DECLARATION.sub("", text) if is_xml and name == "response" else escaped(text)

        return fill

    def detail(self, refusal: Refusal) -> str:
        """Return the details of a fault as XML; nothing where the service has none for it, or a header is at fault."""
        if isinstance(refusal, SoapRefusal) and refusal.is_of_header:
            return ""
        kind: FaultKind = getattr(refusal, "kind", None) or _KINDS.get(refusal.status, "other")
        fault: FaultSpec | None = self._service.faults.get(kind) or self._service.faults.get("other")
        if fault is None:
            return ""
        return (
            f'<{fault.element} xmlns="{self._service.namespace}"><Code>{refusal.status}</Code>'
            f"<Reason>{escaped(fault.reason)}</Reason><Detail>{escaped(str(refusal))}</Detail></{fault.element}>"
        )


def _around(text: str) -> str:
    """Return a text as XML, with its holes."""
    parts = HOLE.split(text)  # each second one is the name in a hole
    return "".join(f"{{{{ {part} }}}}" if number % 2 else escaped(part) for number, part in enumerate(parts))


def of_receipt(channel: str, receipt: Receipt | None) -> dict[str, str]:
    """Return what there is to say of a message: where there is no receipt, that it was refused."""
    if receipt is None:
        return {"channel": channel, "state": "refused"}
    return {
        "message": show(receipt.message_id),
        "duplicate": "true" if receipt.duplicate else "false",
        "channel": channel,
        "state": receipt.ended.state if receipt.ended is not None else "stored",
    }


def concluded(wait: WaitSpec, receipt: Receipt, ended: Conclusion | None) -> dict[str, str]:
    """Return what there is to say of how a message ended.

    Raises `SoapRefusal` where that is not known in time, or is not good: the message is kept all the same.
    """
    kept = f"message {show(receipt.message_id)} is kept"
    what = "its steps" if not wait.destination else f"its delivery to {wait.destination}"
    if ended is None:
        text = f"{kept}, and {what} did not end in time"
        raise SoapRefusal(text, code="Receiver", status=504, is_told=True)
    if ended.state not in GOOD and ended.state != "absent":
        code, status = ("Sender", 422) if ended.state == "failed" else ("Receiver", 502)
        text = f"{kept}, and {what} ended as {ended.state}: {ended.reason or 'no reason is known'}"
        raise SoapRefusal(text, code=code, status=status, is_told=True)
    return {
        "state": ended.state,
        "reference": ended.reference,
        "response": ended.response.decode("utf-8", "replace"),
    }
