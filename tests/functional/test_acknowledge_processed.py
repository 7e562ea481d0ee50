"""With `acknowledge: processed` the sender learns what the steps made of a message, whenever it asks."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broker.wire.mllp import Decoder, Frame, frame
from tests.functional.running import ROOT, Running

BODY: Final = (ROOT / "channels" / "messages" / "adt_a08.hl7").read_bytes()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    """A running engine that answers after the steps."""
    with Running(tmp_path) as running:
        path = running.folder / "channels" / "mercy-adt.yaml"
        path.write_text(path.read_text().replace("acknowledge: stored", "acknowledge: processed"))
        done = running.run("reload")
        assert done.returncode == 0, done.stdout
        yield running


def named(name: str, *edits: tuple[bytes, bytes]) -> bytes:
    """Return the sample message under a control id, with replacements."""
    body = BODY.replace(b"MERCY0000308", name.encode())
    for old, new in edits:
        assert old in body
        body = body.replace(old, new)
    return body


def exchange(engine: Running, *bodies: bytes, count: int = 0) -> list[bytes]:
    """Send messages over one connection without waiting; return so many answers (0: one for each)."""
    decoder = Decoder(1 << 20)
    found: list[bytes] = []
    with socket.create_connection(("127.0.0.1", engine.mllp), 30) as peer:
        peer.sendall(b"".join(map(frame, bodies)))
        while len(found) < (count or len(bodies)):
            data = peer.recv(65536)
            assert data, "the engine closed the connection"
            found += [item.payload for item in decoder.feed(data) if isinstance(item, Frame)]
    return found


def codes(answers: list[bytes]) -> list[tuple[str, str]]:
    """Return MSA-1 and MSA-2 of each."""
    return [
        (match[1].decode(), match[2].decode())
        for answer in answers
        if (match := re.search(rb"\rMSA\|(\w+)\|([^|\r]*)", answer))
    ]


def test_answer_says_what_the_steps_made_of_it(engine: Running) -> None:
    """Taken and filtered are AA, failed is AE with its place; in order, again for duplicates, and after a kill."""
    good = named("GOOD")
    filtered = named("FILTERED", (b"ADT^A08^ADT_A01", b"ORU^R01^ORU_R01"))
    bad = named("BAD", (b"\rPID|", b"\rZID|"))
    expected = [("AA", "GOOD"), ("AE", "BAD"), ("AA", "FILTERED")]
    answers = exchange(engine, good, bad, filtered)
    assert codes(answers) == expected
    assert re.search(
        rb"\rERR\|\|PID\^1\|100\^[^|]*\|E\|\|\|channel mercy-adt: [^|]*canonical\|PID is missing", answers[1]
    )
    assert b"Okafor" not in b"".join(answers)
    assert codes(exchange(engine, bad, good, bad, filtered)) == [expected[1], expected[0], expected[1], expected[2]]
    assert len(engine.read("messages")["messages"]) == 3
    assert engine.stop(signal.SIGKILL) == -9
    engine.start()
    assert codes(exchange(engine, bad, good)) == [expected[1], expected[0]]
    (letter,) = engine.read("dead", "list")["dead"]
    assert engine.run("dead", "discard", letter["id"], "--reason", "sent in error", "--yes").returncode == 0
    assert codes(exchange(engine, bad)) == [expected[1]]


STRICT: Final = """
channel: mercy-adt
listen:
  mllp: {endpoint: 127.0.0.1:2575, acknowledge: processed}
steps:
  - validate: {level: strict, profile: profiles/strict.yaml}
  - canonical: {}
deliver:
  patient-store:
    prm: {}
"""
PROFILE: Final = """
fields:
  PID-7: {length: 4}
  PID-8: {table: SEX}
tables:
  SEX: {codes: [F, M]}
"""
WRONG: Final = (
    b"MSH|^~\\&|A|B|||20240501103000||ADT^A08^ADT_A01|S1|P|2.5.1\rEVN||20240501103000\r"
    b"PID|1||1^^^M^MR||||19620910|Q\rPV1|1|I\r"
)


def test_every_error_of_the_steps_reaches_the_sender(engine: Running) -> None:
    """A missing field, an excess length and a bad code, each by its own; what nobody maps is rejected."""
    folder = engine.folder / "channels"
    (folder / "profiles").mkdir()
    (folder / "profiles" / "strict.yaml").write_text(PROFILE)
    (folder / "mercy-adt.yaml").write_text(STRICT)
    assert engine.run("reload").returncode == 0
    unknown = WRONG.replace(b"ADT^A08^ADT_A01|S1", b"ZZZ^Z99|S2").replace(b"||||19620910|Q", b"||Okafor||1962|F")
    answers = exchange(engine, WRONG, unknown, WRONG)
    assert codes(answers) == [("AE", "S1"), ("AR", "S2"), ("AE", "S1")]
    errors = [re.findall(rb"\rERR\|\|([^|]*)\|(\d+)", answer) for answer in answers]
    assert sorted(errors[0]) == [(b"PID^1^5", b"101"), (b"PID^1^7", b"104"), (b"PID^1^8", b"103")]
    assert errors[1] == [(b"MSH^1^9", b"200")]
    assert errors[2] in ([(errors[0][0][0], b"207")], errors[0])  # the store keeps the first place, and no codes
    assert b"Okafor" not in b"".join(answers)


def test_many_at_once_are_answered_in_order(engine: Running) -> None:
    """More than may be open on a connection; each twice."""
    bodies = [named(f"N{number}") for number in range(150)]
    assert codes(exchange(engine, *bodies, *bodies)) == [("AA", f"N{number}") for number in range(150)] * 2
    both = [named(f"E{number}", (b"|P|2.5.1|||||", b"|P|2.5.1|||AL|AL|")) for number in range(100)]
    found = codes(exchange(engine, *both, count=200))
    for code in ("CA", "AA"):
        assert [one for one in found if one[0] == code] == [(code, f"E{number}") for number in range(100)]
    assert found[:2] == [("CA", "E0"), ("CA", "E1")]  # the commit is told before the steps have ended
    assert engine.stop() == 0
