"""This module keeps what was made of a segment: a hospital sends the same ones again and again."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, ParamSpec, TypeVar

_MOST: Final = 8192  # of each kind: about the patients that a large hospital has on one day
_LONGEST: Final = 8192  # characters; what is longer is not kept, so that all of it together stays bounded

P = ParamSpec("P")
R = TypeVar("R")


def kept(function: Callable[P, R]) -> Callable[P, R]:
    """Keep what a pure function gave last, unless its texts (or tuples of them) are long."""
    cached = lru_cache(maxsize=_MOST)(function)

    def call(*args: P.args, **named: P.kwargs) -> R:
        length = 0
        for arg in args:
            if isinstance(arg, str):
                length += len(arg)
            elif isinstance(arg, tuple):
                length += sum(map(len, arg))
        return (cached if length <= _LONGEST else function)(*args, **named)  # type: ignore[arg-type]

    return call
