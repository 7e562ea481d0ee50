"""The shipped engine ends when it is told to, whatever its peers do: also those that it dials, and those that hang."""

import signal
import socket
import time
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


def test_engine_that_dials_ends_whether_its_peers_are_there_or_not(engine: Running, peer: socket.socket) -> None:
    """Looking up the peers' names leaves threads behind that must not keep the process."""
    there, away = peer.getsockname()[1], free_port()
    declare(engine, "there", _DIALS.format(name="there", kind="mllp", endpoint=f"localhost:{there}", more=""))
    framing = ", framing: {line: true}"
    declare(engine, "away", _DIALS.format(name="away", kind="tcp", endpoint=f"127.0.0.1:{away}", more=framing))
    with engine:
        with peer.accept()[0]:
            begun = time.monotonic()
            assert engine.stop() == 0
        assert time.monotonic() - begun < 9


def test_second_signal_cuts_a_stop_short(engine: Running, peer: socket.socket) -> None:
    declare(engine, "lab", _PASSES_ON.format(port=engine.mllp, silent=peer.getsockname()[1]))
    engine.start()
    assert engine.process is not None
    assert engine.run("send", "channels/messages/adt_a08.hl7").returncode == 0
    with peer.accept()[0]:  # the delivery is on the wire, and nothing ever answers it
        engine.process.send_signal(signal.SIGTERM)
        time.sleep(1.2)
        engine.process.send_signal(signal.SIGTERM)
        assert engine.process.wait(5) == 1
    assert 'stop_cut_short: reason="a second signal came"' in engine.log.read_text()
