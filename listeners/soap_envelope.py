"""This module reads SOAP envelopes of both versions, and writes answers and faults in the one that was asked in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.etree.ElementTree import Element

from python_multipart.multipart import parse_options_header

from broker.errors import MessageError
from broker.wire.safe_xml import Declared, read_xml
from broker.wire.write_xml import escaped
from listeners.http_request import Answer, Refusal, Request

TYPES: Final = ("text/xml", "application/soap+xml", "application/xml")
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="%s">'
_ACTOR_NEXT: Final = "http://schemas.xmlsoap.org/soap/actor/next"
_ROLE: Final = "http://www.w3.org/2003/05/soap-envelope/role/"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of SOAP: its envelope's namespace, its media type, and for whom a header may be that is for us."""

    name: str
    namespace: str
    media_type: str
    aimed: str  # the attribute of a header that says for whom it is
    ours: frozenset[str]


V11: Final = Version(
    "1.1", "http://schemas.xmlsoap.org/soap/envelope/", "text/xml", "actor", frozenset({"", _ACTOR_NEXT})
)
V12: Final = Version(
    "1.2",
    "http://www.w3.org/2003/05/soap-envelope",
    "application/soap+xml",
    "role",
    frozenset({"", f"{_ROLE}next", f"{_ROLE}ultimateReceiver"}),
)
VERSIONS: Final = {version.name: version for version in (V11, V12)}
_BY_NAMESPACE: Final = {version.namespace: version for version in VERSIONS.values()}

# What a code of SOAP 1.2 (part 1, 5.4.6) is called in SOAP 1.1 (4.4.1); the others are called the same.
_IN_V11: Final = {"Sender": "Client", "Receiver": "Server"}
# What HTTP itself says to a request, whatever is in it (SOAP 1.2 part 2, 7.5.2.2); and "come again later".
_STRANGER: Final = 401
_CHALLENGE: Final = "www-authenticate"
_OF_HTTP: Final = frozenset({_STRANGER, 403, 405, 408, 415, 429, 431, 503})


class SoapRefusal(Refusal):
    """A request that is answered with a fault: ``code`` is SOAP 1.2's, ``subcode`` a name of another namespace.

    ``kind`` is what a service may have details for: `security`, `too_large`, `operation`. ``is_told`` says that the
    engine knows of it, or that nothing was refused: the message is kept.
    """

    def __init__(
        self,
        text: str,
        *,
        code: str = "Sender",
        kind: str | None = None,
        status: int = 400,
        subcode: tuple[str, str] | None = None,
        not_understood: Sequence[str] = (),
        supported: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
        is_told: bool = False,
    ) -> None:
        super().__init__(status, text, headers=headers)
        self.code = code
        self.kind = kind
        self.subcode = subcode
        self.not_understood = tuple(not_understood)
        self.supported = tuple(supported)
        self.is_told = is_told

    @property
    def is_of_header(self) -> bool:
        """Say whether it is a header that is refused: such a fault has no details (SOAP 1.1, 4.4)."""
        return self.subcode is not None or self.code in {"MustUnderstand", "VersionMismatch"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope: its version, the headers that are for us, and the one element in its body."""

    version: Version
    headers: tuple[Element, ...]
    payload: Element = field(repr=False)
    declared: Declared = field(repr=False)
    prefixes: Mapping[str, str]  # that the payload has from around it

    def header(self, tag: str) -> Element | None:
        """Return the first header of a name."""
        return next((header for header in self.headers if header.tag == tag), None)

    def see_understood(self, known: Collection[str]) -> None:
        """Raise `SoapRefusal` for headers that must be understood and are not ``known`` (SOAP 1.2 part 1, 2.4)."""
        attribute = f"{{{self.version.namespace}}}mustUnderstand"
        strange = [
            header.tag
            for header in self.headers
            if header.get(attribute, "").strip() in {"1", "true"} and header.tag not in known
        ]
        if strange:
            text = "a header that must be understood is not; send it without, or as one that may be passed over"
            raise SoapRefusal(text, code="MustUnderstand", status=500, not_understood=strange)


def read_envelope(request: Request, body: bytes, taken: Collection[str]) -> Envelope:
    """Return what is in an envelope of a version that is ``taken``. Raises `SoapRefusal`, or `Refusal` (415)."""
    if request.content_type not in TYPES:
        text = f"only {', '.join(TYPES)} is taken here, and no attachments (MTOM)"
        raise Refusal(415, text, headers={"accept": ", ".join(TYPES)})
    declared: Declared = {}
    try:
        # The port bounds its size.
        root = read_xml(body, largest=len(body), encoding=_charset(request), declared=declared)
    except MessageError as error:
        raise SoapRefusal(str(error)) from None
    namespace, _, local = root.tag[1:].rpartition("}")
    version = _BY_NAMESPACE.get(namespace)
    if version is None or local != "Envelope" or version.name not in taken:
        text = f"the root is no Envelope of SOAP {' or '.join(taken)}; send one"
        raise SoapRefusal(text, code="VersionMismatch", status=500, supported=taken)
    payload = _payload(root, namespace)
    prefixes = dict(declared.get(root, {})) | declared.get(_child(root, namespace, "Body"), {})
    return Envelope(version, tuple(_headers(root, version)), payload, declared, prefixes)


def _charset(request: Request) -> str | None:
    """Return the encoding that the Content-Type names: it goes before what the XML says itself (RFC 7303, 3.2)."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    named = options.get(b"charset", b"").decode("latin-1").strip().lower()
    return named or None


def _child(parent: Element, namespace: str, name: str) -> Element:
    found = parent.findall(f"{{{namespace}}}{name}")
    if len(found) != 1:
        raise SoapRefusal(f"an envelope has exactly one {name}")
    return found[0]


def _payload(root: Element, namespace: str) -> Element:
    body = _child(root, namespace, "Body")
    if len(body) != 1:
        raise SoapRefusal("the body of an envelope needs exactly one element, as document/literal has it")
    return body[0]


def _headers(root: Element, version: Version) -> Iterator[Element]:
    """Yield the headers that are for us: for nobody in particular, for the next, or for the last who gets them."""
    found = root.findall(f"{{{version.namespace}}}Header")
    aimed = f"{{{version.namespace}}}{version.aimed}"
    for header in found[0] if found else ():
        if header.get(aimed, "").strip() in version.ours:
            yield header


def version_of(request: Request) -> Version:
    """Return the version that a request is likely in, by its media type: before its envelope is read."""
    return V12 if request.content_type == V12.media_type else V11


def write_envelope(version: Version, body: str, headers: str = "", status: int = 200) -> Answer:
    """Return an answer: ``body`` and ``headers`` are XML."""
    head = f"<soap:Header>{headers}</soap:Header>" if headers else ""
    text = f"{_HEAD % version.namespace}{head}<soap:Body>{body}</soap:Body></soap:Envelope>\n"
    return Answer(status, text.encode(), f"{version.media_type}; charset=utf-8")


def write_fault(version: Version, refusal: Refusal, detail: str, headers: str = "") -> Answer:
    """Return a refusal as a fault, with the status that SOAP's binding to HTTP says (1.1: 6.2; 1.2 part 2: 7.5.2.2).

    ``detail`` is XML, or nothing.
    """
    code = getattr(refusal, "code", "Receiver" if refusal.is_ours else "Sender")
    text = str(refusal) if refusal.location in str(refusal) else f"{refusal.location}: {refusal}"
    write = _fault_11 if version is V11 else _fault_12
    if version is V12 and isinstance(refusal, SoapRefusal):
        headers += "".join(_explained(refusal))
    is_of_http = refusal.status in _OF_HTTP and (refusal.status != _STRANGER or _CHALLENGE in refusal.headers)
    status = refusal.status if is_of_http else 400 if code == "Sender" and version is V12 else 500
    answer = write_envelope(version, write(code, getattr(refusal, "subcode", None), text, detail), headers, status)
    return Answer(answer.status, answer.body, answer.content_type, refusal.headers)


def _fault_11(code: str, subcode: tuple[str, str] | None, text: str, detail: str) -> str:
    name, declared = f"soap:{_IN_V11.get(code, code)}", ""
    if subcode is not None:  # it takes the code's place (WSS: SOAP Message Security, 12)
        name, declared = _qname(f"{{{subcode[0]}}}{subcode[1]}")
    told = f"<detail>{detail}</detail>" if detail else ""
    return (
        f"<soap:Fault><faultcode{declared}>{name}</faultcode><faultstring>{escaped(text)}</faultstring>{told}"
        "</soap:Fault>"
    )


def _fault_12(code: str, subcode: tuple[str, str] | None, text: str, detail: str) -> str:
    inner = ""
    if subcode is not None:
        name, declared = _qname(f"{{{subcode[0]}}}{subcode[1]}")
        inner = f"<soap:Subcode><soap:Value{declared}>{name}</soap:Value></soap:Subcode>"
    told = f"<soap:Detail>{detail}</soap:Detail>" if detail else ""
    return (
        f"<soap:Fault><soap:Code><soap:Value>soap:{code}</soap:Value>{inner}</soap:Code>"
        f'<soap:Reason><soap:Text xml:lang="en">{escaped(text)}</soap:Text></soap:Reason>{told}</soap:Fault>'
    )


def _qname(tag: str) -> tuple[str, str]:
    """Return a name with a prefix, and what declares that."""
    uri, brace, local = tag[1:].rpartition("}")
    return (f"q:{local}", f' xmlns:q="{escaped(uri)}"') if brace else (tag, "")


def _explained(refusal: SoapRefusal) -> Iterator[str]:
    """Yield the headers that say what we speak, and what was not understood (SOAP 1.2 part 1, 5.4.7 and 5.4.8)."""
    if refusal.supported:
        known = "".join(
            f'<soap:SupportedEnvelope xmlns:e="{VERSIONS[name].namespace}" qname="e:Envelope"/>'
            for name in refusal.supported
        )
        yield f"<soap:Upgrade>{known}</soap:Upgrade>"
    for tag in refusal.not_understood:
        name, declared = _qname(tag)
        yield f'<soap:NotUnderstood{declared} qname="{name}"/>'
