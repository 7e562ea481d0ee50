"""This module looks values up in a FHIR resource by path: ``Patient.name[0].family``, ``Bundle.entry[2].resource``."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

_PART: Final = re.compile(r"(?P<name>_?[A-Za-z][A-Za-z0-9]*)(?:\[(?P<which>[^\[\]]*)\])?")
_CONDITION: Final = re.compile(r"\s*(?P<path>[A-Za-z][A-Za-z0-9.]*)\s*=\s*(?P<value>.*?)\s*")
_LONGEST: Final = 500
_SHORTEST_QUOTED: Final = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One step down: an element, and which of several."""

    name: str
    index: int = 0
    condition: tuple[str, str] | None = None  # a path below, and what must be there


@dataclass(frozen=True, slots=True)
class Path:
    """A place in a resource, ready to be looked up."""

    kind: str  # the resource's type, or nothing where the path does not say
    steps: tuple[Step, ...]

    @staticmethod
    def parse(text: str) -> "Path":
        """Read a path; raise ValueError with a sentence for an analyst and the column of what is wrong."""
        return _parse(text.strip())

    def of(self, resource: Any) -> Any:
        """Return the value at this place: None when nothing is there, or when the resource is of another type."""
        if self.kind and (type(resource) is not dict or resource.get("resourceType") != self.kind):
            return None
        value = resource
        for step in self.steps:
            value = _down(value, step)
            if value is None:
                return None
        return value


def at(resource: Any, path: str) -> Any:
    """Return the value at a path, or None when nothing is there.

    A path begins with the resource's type or with an element. Of several the first is meant, unless a number from 0
    (``name[1]``) or a condition (``telecom[system=phone]``) chooses; ``value`` stands for ``valueQuantity`` and its
    like. Raises ValueError for what is no path.
    """
    return Path.parse(path).of(resource)


def outline(resource: Any) -> Iterator[tuple[str, Any]]:
    """Give every single value of a resource with its path, in the order in which it was sent."""
    kind = resource.get("resourceType") if type(resource) is dict else None
    waiting: list[tuple[str, Any]] = [(str(kind or ""), resource)]
    while waiting:
        path, value = waiting.pop()
        if type(value) is dict:
            below = [(f"{path}.{name}" if path else name, item) for name, item in value.items()]
            waiting.extend(reversed(below))
        elif type(value) is list:
            waiting.extend(reversed([(f"{path}[{index}]", item) for index, item in enumerate(value)]))
        else:
            yield path, value


def _down(value: Any, step: Step) -> Any:
    if type(value) is list:  # no number was given: the first
        value = value[0] if value else None
    if type(value) is not dict:
        return None
    found = value.get(step.name)
    if found is None:
        found = _chosen(value, step.name)
    if step.condition is not None:
        return _where(found, *step.condition)
    if type(found) is list:
        return found[step.index] if step.index < len(found) else None
    return found if not step.index else None


def _chosen(value: dict[str, Any], name: str) -> Any:
    """Return the element that ``value[x]`` is spelled as here: the one whose name goes on with a type."""
    begin = len(name)
    spelled = [key for key in value if key.startswith(name) and key[begin : begin + 1].isupper()]
    return value[spelled[0]] if len(spelled) == 1 else None


def _where(found: Any, path: str, wanted: str) -> Any:
    items = found if type(found) is list else [found]
    return next((item for item in items if _said(Path.parse(path).of(item)) == wanted), None)


def _said(value: Any) -> str | None:
    """Return a single value as it is written in JSON, without quotes."""
    if value is None or type(value) is dict or type(value) is list:
        return None
    return str(value).lower() if type(value) is bool else str(value)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Path:
    if len(text) > _LONGEST:
        raise ValueError(f"a path of more than {_LONGEST} characters leads nowhere")
    steps, position, kind = [], 0, ""
    while True:
        found = _PART.match(text, position)
        if found is None:
            raise _mistake(text, position, "a name was expected, such as name or birthDate")
        if not position and found["name"][0].isupper() and found["which"] is None:
            kind = found["name"]
        else:
            steps.append(_step(text, found))
        position = found.end()
        if position == len(text):
            return Path(kind, tuple(steps))
        if text[position] != ".":
            raise _mistake(text, position, "a dot was expected, or a number or condition in brackets")
        position += 1


def _step(text: str, found: re.Match[str]) -> Step:
    name, which = found["name"], found["which"]
    if which is None:
        return Step(name)
    if which.strip().isdecimal():
        return Step(name, index=int(which[:9]))
    condition = _CONDITION.fullmatch(which)
    if condition is None:
        wanted = "a number from 0 or a condition was expected, such as [0] or [system=phone]"
        raise _mistake(text, found.start("which"), wanted)
    value = condition["value"]
    if len(value) >= _SHORTEST_QUOTED and value[0] in "'\"" and value[-1] == value[0]:
        value = value[1:-1]
    _parse(condition["path"])
    return Step(name, condition=(condition["path"], value))


def _mistake(text: str, position: int, what: str) -> ValueError:
    return ValueError(f"{text!r} is no FHIR path: column {position + 1}: {what}")
