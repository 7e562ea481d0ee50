"""The shipped engine says when a peer that it dials is away, and ends when it is told to, whatever its peers do."""

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.functional.running import Running
from tests.ports import free_port

_DIALS: Final = """\
channel: {name}
listen:
  {kind}: {{endpoint: "{endpoint}", role: client{more}}}
deliver:
  patient-store:
    prm: {{}}
"""
_PASSES_ON: Final = """\
channel: lab
listen:
  mllp: {{endpoint: "127.0.0.1:{port}"}}
deliver:
  other:
    mllp: {{endpoint: "127.0.0.1:{silent}"}}
  next:
    channel: next
"""
_NEXT: Final = """\
channel: next
listen: {channel: {}}
deliver:
  patient-store:
    prm: {}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Running:
    """An engine without channels and sandbox, not started."""
    running = Running(tmp_path)
    (tmp_path / "channels" / "mercy-adt.yaml").unlink()
    running.environment["HANDOFF_SET"] = "sandbox.enabled=false"
    del running.environment["HANDOFF_MLLP"]  # it would be the place of every channel
    return running


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    """A port that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


def declare(engine: Running, name: str, text: str) -> None:
    (engine.folder / "channels" / f"{name}.yaml").write_text(text)


def ask(engine: Running, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{engine.console}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_for(engine: Running, line: str) -> None:
    until = time.monotonic() + 30
    while line not in engine.log.read_text():
        assert time.monotonic() < until, engine.log.read_text()
        time.sleep(0.05)


def test_engine_tells_of_peers_that_are_away_and_ends_at_once(engine: Running, peer: socket.socket) -> None:
    """One partner is no reason for the engine not to be ready. The threads that look up names do not keep it."""
    there, away = peer.getsockname()[1], free_port()
    declare(engine, "there", _DIALS.format(name="there", kind="mllp", endpoint=f"localhost:{there}", more=""))
    framing = ", framing: {line: true}"
    declare(engine, "away", _DIALS.format(name="away", kind="tcp", endpoint=f"127.0.0.1:{away}", more=framing))
    with engine, peer.accept()[0]:
        wait_for(engine, f'peer_away: channel=away peer=127.0.0.1:{away} reason="the connection was refused"')
        assert f"away listens on 127.0.0.1:{away} (dialled)" in engine.log.read_text()
        found = engine.run("status")
        assert found.returncode == 0
        assert f"away: 127.0.0.1:{away} is dialled: the connection was refused" in found.stdout
        states = {row["channel"]: row["state"] for row in engine.read("status")["channels"]}
        assert states == {"there": "running", "away": "away"}
        status, ready = ask(engine, "/health/ready")
        assert (status, json.loads(ready)["channels"]) == (200, states)
        assert 'handoff_source_away{channel="away"} 1.0' in ask(engine, "/metrics")[1]
        with socket.create_server(("127.0.0.1", away)) as back, back.accept()[0]:
            wait_for(engine, f"peer_reached: channel=away peer=127.0.0.1:{away}")
            assert 'handoff_source_away{channel="away"} 0.0' in ask(engine, "/metrics")[1]
            assert engine.log.read_text().count("peer_away") == 1
        begun = time.monotonic()
        assert engine.stop() == 0
        assert time.monotonic() - begun < 9


def test_second_signal_cuts_a_stop_short(engine: Running, peer: socket.socket) -> None:
    declare(engine, "lab", _PASSES_ON.format(port=engine.mllp, silent=peer.getsockname()[1]))
    declare(engine, "next", _NEXT)
    engine.start()
    assert engine.process is not None
    assert engine.run("send", "channels/messages/adt_a08.hl7").returncode == 0
    while len(found := engine.read("messages")["messages"]) < 2:
        time.sleep(0.05)
    [own] = [each["id"] for each in found if each["channel"] == "lab"]  # and not what was passed on under its name
    assert f"next: handoff trace {own}" in engine.run("send", "channels/messages/adt_a08.hl7").stderr
    with peer.accept()[0]:  # the delivery is on the wire, and nothing ever answers it
        engine.process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(5) == 1
    assert 'stop_cut_short: reason="a second signal came"' in engine.log.read_text()
