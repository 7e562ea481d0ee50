"""This module says what host names and addresses mean: whether they are this machine's own, and in which network."""

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

HOST: Final = r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])"  # a pattern of what stands before a port: a name or an address
PORTS: Final = {"http": 80, "https": 443}  # that schemes imply

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_SITE: Final = 64  # bits of an IPv6 address that its owner cannot choose (RFC 4291, section 2.5.4)


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's loopback."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Tell whether a host stands for all addresses of this machine, so that nobody can call it by that."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def networks(texts: Sequence[str]) -> tuple[IpNetwork, ...]:
    """Return networks, which may be single addresses. Raises `ValueError` where one is neither."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def is_within(host: str, allowed: Sequence[IpNetwork]) -> bool:
    """Tell whether an address is in one of the networks; IPv4 that came over IPv6 counts as IPv4."""
    address = _address(host)
    if address is None:
        return False
    return any(address.version == network.version and address in network for network in allowed)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, as IPv4 where it is that within IPv6; None for what is no address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def source_of(host: str) -> str:
    """Return what one machine cannot change of its address: all of it, of IPv6 the network; "" for what is none."""
    address = _address(host.strip("[]"))
    if address is None:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _SITE), strict=False))


def _network(value: str) -> str:
    try:
        networks([value])
    except ValueError:
        text = "needs an address or a network, such as 10.1.2.3 or 10.1.0.0/16"
        raise ValueError(text) from None
    return value


Network = Annotated[str, AfterValidator(_network)]


def safe_place(value: str) -> str:
    """Return the file or address of public keys. Raises `ValueError` where somebody else could answer in its place."""
    parts = urlsplit(value)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("needs https: whoever answers in its place could sign anything")
    return value
