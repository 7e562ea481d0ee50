"""This module holds the addresses that settings may name."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from broker.hosts import is_loopback


def _address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        text = "needs an address such as https://host.example/path, without user name, query or fragment"
        raise ValueError(text)
    return value.rstrip("/")


def _secret_address(value: str) -> str:
    parts = urlsplit(_address(value))
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        text = "needs https, because secrets go there; plain http is for this machine only"
        raise ValueError(text)
    return value


Address = Annotated[str, AfterValidator(_address)]
SecretAddress = Annotated[str, AfterValidator(_secret_address)]  # where secrets are sent to
