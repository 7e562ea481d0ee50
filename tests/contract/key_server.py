"""This module publishes a file of public keys over HTTP, as signers do, and counts who asks."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web


class Published:
    """A file at an address; ``status`` is what it is answered with."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.asked = 0
        self.status = 200
        self.place = ""

    async def answer(self, _request: web.Request) -> web.Response:
        """Answer with the file as it is now."""
        self.asked += 1
        return web.Response(body=self._file.read_bytes(), status=self.status)


@contextlib.asynccontextmanager
async def publishing(file: Path) -> AsyncIterator[Published]:
    """Serve a file on a free port."""
    published = Published(file)
    application = web.Application()
    application.router.add_get("/keys", published.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        published.place = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
        yield published
    finally:
        await runner.cleanup()
