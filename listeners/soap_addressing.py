"""This module is what we do of WS-Addressing 1.0: an answer names what it answers, and goes back the way it came."""

from typing import Final

from broker.wire.write_xml import escaped
from listeners.soap_envelope import Envelope, SoapRefusal

WSA: Final = "http://www.w3.org/2005/08/addressing"
_NAMES: Final = ("Action", "To", "MessageID", "From", "ReplyTo", "FaultTo", "RelatesTo")
UNDERSTOOD: Final = frozenset(f"{{{WSA}}}{name}" for name in _NAMES)
FAULT: Final = f"{WSA}/soap/fault"  # WS-Addressing SOAP Binding, 6
_HERE: Final = frozenset({f"{WSA}/anonymous", f"{WSA}/none"})


def see_replies_come_back(envelope: Envelope) -> None:
    """Raise `SoapRefusal` where an answer shall go elsewhere than back (SOAP Binding, 6.4.1.6)."""
    for name in ("ReplyTo", "FaultTo"):
        found = envelope.header(f"{{{WSA}}}{name}")
        if found is not None and (found.findtext(f"{{{WSA}}}Address") or "").strip() not in _HERE:
            text = f"wsa:{name}: answers go back on the same connection; send the anonymous address"
            raise SoapRefusal(text, subcode=(WSA, "OnlyAnonymousAddressSupported"))


def addressed(envelope: Envelope, action: str) -> str:
    """Return the headers of an answer, as XML: none where the request had none."""
    if envelope.header(f"{{{WSA}}}Action") is None:
        return ""
    told = _header("Action", action)
    asked = envelope.header(f"{{{WSA}}}MessageID")
    return told if asked is None else told + _header("RelatesTo", (asked.text or "").strip())


def _header(name: str, text: str) -> str:
    return f'<wsa:{name} xmlns:wsa="{WSA}">{escaped(text)}</wsa:{name}>'
