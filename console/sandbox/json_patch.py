"""This module applies a JSON Patch (RFC 6902) to a resource of the practice EHR."""

import copy
from typing import Any, Final

_END: Final = "-"  # after the last item of a list


class PatchError(Exception):
    """An operation cannot be applied; the text names it by number and never by value."""


def apply(resource: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a resource as a patch changes it: all of the patch, or `PatchError`."""
    changed = copy.deepcopy(resource)
    for number, operation in enumerate(patch, 1):
        try:
            _one(changed, operation)
        except (KeyError, IndexError, ValueError, TypeError):
            message = f"operation {number} ({operation['op']}) cannot be applied"
            raise PatchError(message) from None
    return changed


def _one(whole: dict[str, Any], operation: dict[str, Any]) -> None:
    name, place = operation["op"], _parts(operation["path"])
    if name == "add":
        _add(whole, place, copy.deepcopy(operation["value"]))
    elif name == "remove":
        _remove(whole, place)
    elif name == "replace":
        _remove(whole, place)
        _add(whole, place, copy.deepcopy(operation["value"]))
    elif name == "test":
        if _get(whole, place) != operation["value"]:
            raise ValueError(name)
    else:
        source = _parts(operation["from"])
        value = copy.deepcopy(_get(whole, source))
        if name == "move":
            _remove(whole, source)
        _add(whole, place, value)


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _get(value: Any, parts: list[str]) -> Any:
    for part in parts:
        value = value[_index(part)] if isinstance(value, list) else value[part]
    return value


def _add(whole: Any, parts: list[str], value: Any) -> None:
    holder, last = _get(whole, parts[:-1]), parts[-1]
    if isinstance(holder, list):
        position = len(holder) if last == _END else _index(last)
        if position > len(holder):
            raise IndexError(last)
        holder.insert(position, value)
    else:
        holder[last] = value


def _remove(whole: Any, parts: list[str]) -> None:
    holder, last = _get(whole, parts[:-1]), parts[-1]
    del holder[_index(last) if isinstance(holder, list) else last]


def _index(part: str) -> int:
    if not (part.isascii() and part.isdigit()) or (part != "0" and part.startswith("0")):
        raise ValueError(part)
    return int(part)
