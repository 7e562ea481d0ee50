"""This module keeps what was made of a segment: a hospital sends the same ones again and again."""

from collections.abc import Callable
from functools import lru_cache
from typing import Concatenate, Final, ParamSpec, TypeVar

from transforms.hl7_types import Reader

_MOST: Final = 8192  # of each kind: about the patients that a large hospital has on one day
_LONGEST: Final = 8192  # characters; what is longer is not kept, so that all of it together stays bounded

S = TypeVar("S", bound=str | tuple[str, ...])
P = ParamSpec("P")
R = TypeVar("R")


def kept(function: Callable[Concatenate[Reader, S, P], R]) -> Callable[Concatenate[Reader, S, P], R]:
    """Keep what a pure function gave last for one or several segments as sent, unless they are long."""
    cached = lru_cache(maxsize=_MOST)(function)

    def call(read: Reader, sent: S, /, *rest: P.args, **named: P.kwargs) -> R:
        length = len(sent) if isinstance(sent, str) else sum(map(len, sent))
        if length > _LONGEST:
            return function(read, sent, *rest, **named)
        return cached(read, sent, *rest, **named)  # type: ignore[arg-type] # lru_cache hides what it takes

    return call
