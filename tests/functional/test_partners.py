"""This module shows messages that go on to partners over MLLP: other people's servers, and an engine of our own."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import hl7
import pytest
from hl7.mllp import start_hl7_server
from hl7apy.core import Message as Hl7apyMessage
from hl7apy.mllp import AbstractHandler, MLLPServer
from hl7apy.parser import parse_message

from broker.wire.er7 import Message
from tests.functional.running import Running
from tests.ports import free_port

CHANNEL: Final = """\
channel: mercy-adt
listen:
  mllp: {{endpoint: 127.0.0.1:2575}}
order: PID-3[5=MR].1
steps:
  - canonical: {{}}
deliver:
  partner:
    mllp: {{endpoint: 127.0.0.1:{port}, connect: 1s, timeout: 5s, {options}}}
    retry: {{first: 200ms, max: 1s}}
"""
NAMES: Final = ("adt_a04", "adt_a01", "adt_a08")


@contextmanager
def python_hl7(port: int, got: list[str]) -> Iterator[None]:
    """Serve with python-hl7: parse each message, and answer as it does."""

    async def serve(reader: Any, writer: Any) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while message := await reader.readmessage():
                got.append(str(message))
                writer.writemessage(message.create_ack(message_id=f"P{len(got)}"))
                await writer.drain()

    loop = asyncio.new_event_loop()

    async def main() -> None:
        async with await start_hl7_server(serve, "127.0.0.1", port, encoding="utf-8"):
            await stopped.wait()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.sleep(0)  # closed connections let go of their sockets

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()


class Hl7apyHandler(AbstractHandler):  # type: ignore[misc] # it has no types
    """Parses with hl7apy, and answers with a message that hl7apy built."""

    def __init__(self, message: str, got: list[str]) -> None:
        super().__init__(message)
        self.got = got

    def reply(self) -> str:
        """Return the acknowledgment."""
        self.got.append(self.incoming_message)
        read = parse_message(self.incoming_message, find_groups=False)
        answer = Hl7apyMessage("ACK", version=read.version)
        answer.msh.msh_9 = "ACK"
        answer.msh.msh_10 = f"A{len(self.got)}"
        answer.msa.msa_1 = "AA"
        answer.msa.msa_2 = read.msh.msh_10.value
        return str(answer.to_mllp())


@contextmanager
def hl7apy(port: int, got: list[str]) -> Iterator[None]:
    """Serve with hl7apy, which closes the connection after each answer."""
    kinds = [f"ADT^{event}^ADT_A01" for event in ("A01", "A04", "A08")]
    server = MLLPServer("127.0.0.1", port, dict.fromkeys(kinds, (Hl7apyHandler, got)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def engine(folder: Path, port: int, options: str) -> Running:
    running = Running(folder)
    (folder / "channels" / "mercy-adt.yaml").write_text(CHANNEL.format(port=port, options=options))
    return running


def sent(name: str) -> bytes:
    return (Path(__file__).parents[2] / "channels" / "messages" / f"{name}.hl7").read_bytes()


def control_id(name: str) -> str:
    return Message.parse(sent(name)).get("MSH-10") or ""


@pytest.mark.parametrize("serve", [python_hl7, hl7apy], ids=["python-hl7", "hl7apy"])
def test_foreign_server_gets_every_message_as_it_came(tmp_path: Path, serve: Any) -> None:
    port, got = free_port(), list[str]()
    with serve(port, got), engine(tmp_path, port, "message: original") as running:
        running.send(*NAMES)
        for name in NAMES:
            (delivery,) = running.settled(control_id(name))["deliveries"]
            assert delivery["state"] == "delivered", delivery
    assert sorted(got) == sorted(sent(name).decode().replace("\r\n", "\r") for name in NAMES)


def test_event_written_for_the_partner_arrives_when_the_partner_is_up_again(tmp_path: Path) -> None:
    port, got = free_port(), list[str]()
    template = """message: "{{ event | hl7('ADT^A08', version='2.4') }}", receiving: "EHR|MERCY", connections: 2"""
    with engine(tmp_path, port, template) as running:
        running.send(*NAMES)
        time.sleep(1.0)  # refused meanwhile
        with python_hl7(port, got):
            for name in NAMES:
                (delivery,) = running.settled(control_id(name))["deliveries"]
                assert delivery["state"] == "delivered", delivery
    assert len(got) == len(NAMES)
    for text in got:
        read = hl7.parse(text)
        assert [str(read[0][place]) for place in (5, 6, 9, 12)] == ["EHR", "MERCY", "ADT^A08^ADT_A01", "2.4"]


def test_engine_of_our_own_gets_what_another_passes_on(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with Running(tmp_path / "other") as partner:
        options = 'accept_ack: AL, application_ack: NE, sending: "HANDOFF|MERCY"'
        with engine(tmp_path / "one", partner.mllp, options) as running:
            running.send(*NAMES)
            for name in NAMES:
                (delivery,) = running.settled(control_id(name))["deliveries"]
                assert delivery["state"] == "delivered", delivery
        for name in NAMES:
            journey = partner.settled(control_id(name))
            assert journey["deliveries"][0]["state"] == "delivered"
