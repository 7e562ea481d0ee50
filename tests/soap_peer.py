"""This module writes SOAP requests as senders do, and reads what they get."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element, fromstring

V11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
V12: Final = "http://www.w3.org/2003/05/soap-envelope"
TYPES: Final = {V11: "text/xml; charset=utf-8", V12: 'application/soap+xml; charset=utf-8; action="x"'}
OASIS: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
CDC: Final = "urn:cdc:iisb:2011"
# As it stands in an envelope.
VXU: Final = "MSH|^~\\&amp;|CLINIC|MERCY|IIS|STATE|20261120||VXU^V04^VXU_V04|M1|P|2.5.1\nPID|1||17||Ok\u00e1for\n"
WSSE: Final = f"{{{OASIS}wssecurity-secext-1.0.xsd}}"


def envelope(payload: str, version: str = V11, header: str = "") -> bytes:
    """Return an envelope around a payload."""
    return (
        f'<s:Envelope xmlns:s="{version}"><s:Header>{header}</s:Header><s:Body>{payload}</s:Body></s:Envelope>'.encode()
    )


def submit(message: str = VXU, user: str = "", password: str = "") -> str:
    """Return the request by which a message is submitted to an immunization registry."""
    login = f"<username>{user}</username><password>{password}</password>" if user else ""
    return f'<submitSingleMessage xmlns="{CDC}">{login}<hl7Message>{message}</hl7Message></submitSingleMessage>'


def kind(version: str = V11) -> dict[str, str]:
    """Return the headers with which a sender sends it."""
    return {"Content-Type": TYPES[version]} | ({"SOAPAction": '"x"'} if version == V11 else {})


def inner(answer: bytes, version: str = V11) -> Element:
    """Return the element in the body of an answer, which is in this version."""
    root = fromstring(answer)  # noqa: S314 - it is ours
    assert root.tag == f"{{{version}}}Envelope"
    (payload,) = root.findall(f"{{{version}}}Body/*")
    return payload


def fault(answer: bytes, version: str = V11) -> tuple[str, str]:
    """Return code and text of a fault; with a subcode, that is behind the code of 1.2."""
    found = inner(answer, version)
    assert found.tag == f"{{{version}}}Fault", answer
    if version == V11:
        return str(found.findtext("faultcode")).rpartition(":")[2], str(found.findtext("faultstring"))
    space = f"{{{version}}}"
    code = str(found.findtext(f"{space}Code/{space}Value")).rpartition(":")[2]
    subcode = found.findtext(f"{space}Code/{space}Subcode/{space}Value")
    code += f" {subcode.rpartition(':')[2]}" if subcode else ""
    return code, str(found.findtext(f"{space}Reason/{space}Text"))


def token(user: str, password: str, at: float | None = None, nonce: bytes = b"", *, digest: bool = False) -> str:
    """Return the header wsse:Security with a UsernameToken; ``at`` is POSIX seconds."""
    created = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else ""
    if digest:
        hashed = hashlib.sha1(nonce + created.encode() + password.encode())  # noqa: S324 - the profile says so
        password = base64.b64encode(hashed.digest()).decode()
    how = f"{OASIS}username-token-profile-1.0#Password{'Digest' if digest else 'Text'}"
    told = f'<Password Type="{how}">{password}</Password>'
    told += f"<Nonce>{base64.b64encode(nonce).decode()}</Nonce>" if nonce else ""
    told += f'<Created xmlns="{OASIS}wssecurity-utility-1.0.xsd">{created}</Created>' if created else ""
    return (
        f'<Security xmlns="{WSSE[1:-1]}" s:mustUnderstand="1"><UsernameToken><Username>{user}</Username>{told}'
        "</UsernameToken></Security>"
    )
