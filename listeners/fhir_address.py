"""This module says of addresses that a FHIR server gives whether they are still its own."""

from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from broker.hosts import PORTS


def address_within(base: str, link: str) -> str:
    """Return the whole address of a link of a server; empty where it leads out of ``base``, and so to somebody else."""
    try:
        address = urljoin(f"{base}/", link)
        ours, theirs = urlsplit(base), urlsplit(address)
    except ValueError:
        return ""
    inside = theirs.path.rstrip("/") == ours.path or theirs.path.startswith(f"{ours.path}/")
    climbs = any(unquote(step) in {".", ".."} for step in theirs.path.split("/"))
    return address if inside and not climbs and same_origin(base, address) and _is_plain(theirs) else ""


def same_origin(one: str, other: str) -> bool:
    """Say whether two addresses have the same scheme, host and port, so that one may have the other's credentials."""
    try:
        return _origin(urlsplit(one)) == _origin(urlsplit(other))
    except ValueError:
        return False


def is_address(text: str) -> bool:
    """Say whether a text is an address of the web that can be asked."""
    try:
        parts = urlsplit(text)
        return parts.scheme in PORTS and bool(parts.hostname) and _is_plain(parts)
    except ValueError:
        return False


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def _is_plain(parts: SplitResult) -> bool:
    """Say whether it goes into a request as it is, and holds no user name."""
    text = parts.geturl()
    return parts.username is None and text.isascii() and text.isprintable() and " " not in text
