"""This module lets tests share one loop between Twisted and asyncio, as the engine does."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reactor() -> AsyncIterator[Any]:
    """Install Twisted's reactor on the session's loop, and let it run as long as the tests do.

    Tests that use it must run on that loop: ``pytestmark = pytest.mark.asyncio(loop_scope="session")``.
    """
    if "twisted.internet.reactor" in sys.modules:  # several modules may have imported this fixture
        yield sys.modules["twisted.internet.reactor"]
        return
    from twisted.internet import asyncioreactor  # noqa: PLC0415 - importing the reactor would install another

    install: Any = asyncioreactor.install
    install(asyncio.get_running_loop())
    from twisted.internet import reactor as installed  # noqa: PLC0415 - exists from here on

    running: Any = installed
    running.startRunning(installSignalHandlers=False)
    yield running
    running.fireSystemEvent("shutdown")
