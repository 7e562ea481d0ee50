"""This module puts what a FHIR search found into one Bundle with what an include brought along for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from listeners.fhir_page import Found

_NAME: Final = re.compile(r"(?:^|/)([A-Z][A-Za-z]{1,63}/[A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?$")


def put_together(found: Sequence[Found], base: str) -> list[Found]:
    """Return a Bundle for each match, known by the version of the match.

    With it go the included resources that it refers to, those that refer to it, and what these refer to in turn. Who
    only refers to the same as it does stays out: that may be about somebody else.
    """
    included = {name: each for each in found if not each.is_match and (name := _name(each.resource))}
    referring = {name: list(_references(each.resource, base)) for name, each in included.items()}
    return [_bundle(each, _belonging(each, included, referring, base)) for each in found if each.is_match]


def _belonging(
    match: Found, included: Mapping[str, Found], referring: Mapping[str, Sequence[str]], base: str
) -> list[Found]:
    own = _name(match.resource)
    ahead = [*_references(match.resource, base), *(name for name, others in referring.items() if own in others)]
    reached: dict[str, Found] = {}
    while ahead:
        name = ahead.pop()
        if name in included and name not in reached:
            reached[name] = included[name]
            ahead += referring[name]
    return [each for name, each in included.items() if name in reached]


def _bundle(match: Found, others: Sequence[Found]) -> Found:
    entries = [
        {**({"fullUrl": each.url} if each.url else {}), "resource": orjson.Fragment(each.body)}
        for each in (match, *others)
    ]
    body = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    return replace(match, body=body)


def _name(resource: Mapping[str, Any]) -> str:
    kind, name = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{name}" if isinstance(name, str) and name else ""


def _references(value: Any, base: str) -> Iterator[str]:
    """Give the resources of the server that are referred to within a value, by type and id."""
    if isinstance(value, dict):
        reference = value.get("reference")
        if isinstance(reference, str) and ("://" not in reference or reference.startswith(f"{base}/")):
            found = _NAME.search(reference)
            if found:
                yield found[1]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _references(inner, base)
