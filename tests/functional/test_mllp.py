"""The shipped engine speaks MLLP over real sockets: pipelined, cut anywhere, in batches, in enhanced mode."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from broker.wire.mllp import Decoder, Frame, frame
from tests.functional.running import ROOT, Running

BODY = (ROOT / "channels" / "messages" / "adt_a08.hl7").read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A running engine, shared by the tests of this module."""
    with Running(tmp_path_factory.mktemp("mllp")) as running:
        yield running


def named(name: str, wishes: bytes = b"|") -> bytes:
    """Return the sample message under a control id of its own, with MSH-15 and MSH-16 as wished."""
    fields = BODY.partition(b"\r")[0].split(b"|")
    fields[9] = name.encode()
    fields = [*fields[:12], b"", b"", *wishes.split(b"|")]
    return b"|".join(fields) + b"\r" + BODY.partition(b"\r")[2]


class Peer:
    """One connection to the engine."""

    def __init__(self, engine: Running) -> None:
        self._socket = socket.create_connection(("127.0.0.1", engine.mllp), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = Decoder(1 << 20)
        self._payloads: list[bytes] = []

    def __enter__(self) -> Self:
        """Stay connected."""
        return self

    def __exit__(self, *_: object) -> None:
        """Go."""
        self._socket.close()

    def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self._socket.sendall(chunk)

    def answer(self) -> list[tuple[str, str]]:
        """Return MSA-1 and MSA-2 of every acknowledgment in the next frame."""
        while not self._payloads:
            data = self._socket.recv(65536)
            assert data, "the engine closed the connection"
            self._payloads += [item.payload for item in self._decoder.feed(data) if isinstance(item, Frame)]
        found = re.findall(rb"\rMSA\|(\w+)\|([^|\r]*)", self._payloads.pop(0))
        return [(code.decode(), name.decode()) for code, name in found]


def stored(engine: Running, name: str) -> int:
    """Return how many messages are in the store under a control id."""
    return len(engine.read("messages", "--control-id", name)["messages"])


def test_frames_are_answered_once_when_cut_at_every_byte(engine: Running) -> None:
    """Cut inside start block, header, segments and end block: the same bytes again are duplicates, answered alike."""
    data = frame(named("CUT"))
    with Peer(engine) as peer:
        for cut in range(1, len(data), 5):
            peer.send(data[:cut], data[cut:])
            assert peer.answer() == [("AA", "CUT")]
        peer.send(*(data[i : i + 1] for i in range(len(data))))
        assert peer.answer() == [("AA", "CUT")]
    assert stored(engine, "CUT") == 1


def test_frames_are_answered_in_order_when_pipelined(engine: Running) -> None:
    """Two hundred at once, with what lies between frames in real streams."""
    names = [f"PIPE{number}" for number in range(200)]
    with Peer(engine) as peer:
        peer.send(b"\r\n".join(frame(named(name)) for name in names))
        assert [peer.answer() for _ in names] == [[("AA", name)] for name in names]


def test_commit_and_application_are_acknowledged_when_both_are_asked_for(engine: Running) -> None:
    """Enhanced mode: two messages; the duplicate gets both again."""
    with Peer(engine) as peer:
        for _ in range(2):
            peer.send(frame(named("BOTH", b"AL|AL")))
            assert [peer.answer(), peer.answer()] == [[("CA", "BOTH")], [("AA", "BOTH")]]


def test_messages_of_a_batch_are_stored_one_by_one(engine: Running) -> None:
    """The broken one is refused alone; sent again, what is known already has no second effect."""
    head, bad = b"FHS|^~\\&|A|B\rBHS|^~\\&|A|B|C|D|||||B1\r", named("BAD").replace(b"|2.5", b"|9.9", 1)
    payload = head + named("ONE") + bad + named("TWO") + b"BTS|3\rFTS|1\r"
    with Peer(engine) as peer:
        for _ in range(2):
            peer.send(frame(payload))
            assert peer.answer() == [("AA", "ONE"), ("AR", "BAD"), ("AA", "TWO")]
        peer.send(frame(named("ONE")))
        assert peer.answer() == [("AA", "ONE")]
    assert stored(engine, "ONE") == 1


def test_command_line_shows_a_batch(engine: Running, tmp_path: Path) -> None:
    """`handoff send` takes a batch as a file, and says what is wrong with it."""
    file = tmp_path / "batch.hl7"
    file.write_bytes(b"BHS|^~\\&|A|B|C|D|||||B1\r" + named("CLI1") + named("CLI2", b"NE|NE") + b"BTS|3\r")
    done = engine.run("send", str(file), "--json")
    assert done.returncode == 1, done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)["answers"]
    assert [(answer["control_id"], answer["codes"]) for answer in answers] == [
        ("CLI1", ["AA"]),
        ("CLI2", []),
        ("B1", ["AE"]),
    ]
    assert "batch_faulty" in engine.log.read_text()
