"""This module is the one place where Twisted's Deferreds and asyncio's Futures cross."""

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

T = TypeVar("T")


def as_future(deferred: "Deferred[T]") -> "asyncio.Future[T]":
    """Return a future for a Deferred, on the running loop."""
    return deferred.asFuture(asyncio.get_running_loop())
