"""This module writes the search that finds a FHIR resource again: by its first identifier."""

from typing import Any
from urllib.parse import quote


def search_of(resource: dict[str, Any]) -> str:
    """Return ``identifier=system%7Cvalue``, encoded as it goes into an address; empty where there is no identifier."""
    found = resource.get("identifier") or [{}]
    first = found[0] if isinstance(found, list) else found
    value = first.get("value", "")
    return f"identifier={_encoded(first.get('system', ''))}%7C{_encoded(value)}" if value else ""


def _encoded(text: str) -> str:
    for letter in "\\|,$":
        text = text.replace(letter, f"\\{letter}")
    return quote(text, safe="")
