"""Over HTTP, too, nothing is read while too much waits for the store, and all is refused while its disk is full."""

import asyncio
import json
import time

from broker.notices import MessageRefused
from listeners.http import HttpSpec
from tests.http_peer import World, serving

SIZE = 12_000_000
HEAD = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n".encode()


def busy(world: World) -> int:
    """Let more wait for the store than may; return how much."""
    size = world.tools.pressure.limits.waiting + 1
    world.tools.pressure.take(size)
    return size


async def test_nothing_is_read_while_too_much_waits_and_it_goes_on_afterwards() -> None:
    async with serving(HttpSpec) as world:
        size = busy(world)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.listener.port)
        writer.write(HEAD + b'"' + b"x" * (SIZE - 2) + b'"')
        await asyncio.sleep(0.3)
        left = writer.transport.get_write_buffer_size()
        await asyncio.sleep(0.2)
        assert writer.transport.get_write_buffer_size() == left  # the rest is in the buffers of both kernels
        assert left > SIZE // 4
        assert not world.kept.messages
        world.tools.pressure.give(size)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 202 "), answer
        assert [len(body) for body in world.kept.bodies] == [SIZE]
        writer.close()


async def test_who_waits_too_long_is_told_to_come_again() -> None:
    async with serving(HttpSpec, body_deadline="0.2s") as world:
        size = busy(world)
        status, body, headers = await world.ask("POST", "/", data=b"1")
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(body)["detail"] == "too much waits for the store; send it again later"
        world.tools.pressure.give(size)
        assert (await world.ask("POST", "/", data=b"1"))[0] == 202


async def test_body_is_refused_before_it_is_sent_while_the_disk_is_nearly_full() -> None:
    async with serving(HttpSpec) as world:
        world.tools.pressure.look(0)
        began = time.monotonic()
        answer = await world.raw(HEAD)  # and no body
        assert time.monotonic() - began < 5
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5\r\n" in answer.lower()
        assert b"the disk is nearly full; send it again later" in answer
        (notice,) = (one for one in world.kept.notices if isinstance(one, MessageRefused))
        assert notice.code == "AE"
        assert not world.kept.quarantined
        world.tools.pressure.look(1 << 40)
        assert (await world.ask("POST", "/", data=b"1"))[0] == 202
