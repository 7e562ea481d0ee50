"""This module reads mail addresses, and refuses what could end a header or a command early."""

import re
from dataclasses import dataclass
from email.headerregistry import Address
from typing import Final

_LONGEST: Final = 254  # octets of an address, RFC 5321 4.5.3.1.3
_NAMED: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address with the name that is shown for it."""

    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        """Return what follows the @."""
        return self.address.rpartition("@")[2]

    def header(self) -> Address:
        """Return it as a header takes it."""
        return Address(self.name, addr_spec=self.address)


def read_address(text: str) -> str | None:
    """Return an addr-spec of RFC 5322 in ASCII as it is, or None for anything else."""
    text = text.strip()
    if not text.isascii() or not text.isprintable() or len(text) > _LONGEST:
        return None
    if not _DOMAIN.fullmatch(text.rpartition("@")[2]):
        return None
    try:
        found = Address(addr_spec=text)
    except Exception:  # noqa: BLE001 - it raises whatever its parser stumbles over (HeaderParseError, IndexError …)
        return None
    return text if found.addr_spec == text and found.username else None


def read_mailbox(text: str) -> Mailbox | None:
    """Return what ``clinic@example.org`` or ``Clinic <clinic@example.org>`` says, or None for anything else."""
    found = _NAMED.fullmatch(text.strip())
    address = read_address(found["address"] if found else text)
    name = found["name"].strip().strip('"') if found else ""
    return Mailbox(address, name) if address and name.isprintable() else None
