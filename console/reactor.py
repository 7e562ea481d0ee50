"""This module makes the one event loop: uvloop, with Twisted's reactor installed on it before anything imports that."""

import asyncio
import sys
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# A thread that waits for Python's lock asks for it after this long. The writer comes back from the disk hundreds of
# times a second; with the default of 5 ms it would queue behind the loop every time.
_SWITCH = 0.0005


def install() -> asyncio.AbstractEventLoop:
    """Make the loop and install the reactor on it; call once, first."""
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        from asyncio import new_event_loop  # noqa: PLC0415
    from twisted.internet import asyncioreactor  # noqa: PLC0415 - must come before the reactor is imported

    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    asyncioreactor.install(loop)
    from twisted.internet import reactor  # noqa: PLC0415

    reactor.seconds = time.monotonic  # type: ignore[attr-defined]  # timers must not follow the wall clock back
    reactor.startRunning(installSignalHandlers=False)  # type: ignore[attr-defined]
    sys.setswitchinterval(_SWITCH)
    return loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the loop of `install`, to its end."""
    loop = install()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
