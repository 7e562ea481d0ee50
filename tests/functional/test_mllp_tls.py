"""The shipped engine knows its peers by their certificates: a stranger's sender gets AR, and operators are told."""

import re
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from broker.wire.mllp import Decoder, Frame, frame
from console.cli.client import Client
from tests.certificates import Authority, Files
from tests.functional.running import Running

_CHANNEL: Final = """\
channel: orders
listen:
  mllp:
    endpoint: 127.0.0.1:0
    tls:
      certificate: tls/engine.test.pem
      key: tls/engine.test.key
      ca: tls/Test-CA.pem
      senders: {lab.test: [LAB|MERCY], pharmacy.test: [RX|MERCY]}
deliver:
  patient-store:
    prm: {}
"""


class Hospital:
    """A running engine, and the authority of those who may speak with it."""

    def __init__(self, engine: Running, ca: Authority) -> None:
        self.engine = engine
        self.ca = ca

    def ask(self, name: str, own: Files | None, sender: str = "LAB") -> str:
        """Send a message over a connection of its own; return MSA-1."""
        context = ssl.create_default_context(cafile=str(self.ca.file))
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        body = f"MSH|^~\\&|{sender}|MERCY|H|P|20261128||ADT^A08|{name}|P|2.5.1\rPID|1||7^^^M^MR||Okafor^Ada\r"
        with (
            socket.create_connection(("127.0.0.1", self.engine.mllp), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            secure.sendall(frame(body.encode()))
            decoder, items = Decoder(1 << 20), list[Any]()
            while not items:
                data = secure.recv(65536)
                assert data, "the engine closed the connection"
                items = [item for item in decoder.feed(data) if isinstance(item, Frame)]
        found = re.search(rb"\rMSA\|(\w+)\|", items[0].payload)
        assert found is not None
        return found[1].decode()

    def get(self, path: str, **query: str) -> Any:
        """Ask the console."""
        token = (self.engine.folder / "var" / "console.token").read_text().strip()
        return Client(f"127.0.0.1:{self.engine.console}", token).get(path, **query)

    def told(self, notice: str) -> list[dict[str, Any]]:
        """Return the notices of a kind that the console shows."""
        return [one for one in self.get("/status")["notices"] if one["notice"] == notice]

    def told_of(self, notice: str, reason: str) -> dict[str, Any]:
        """Wait for a notice."""
        until = time.monotonic() + 10
        while not (found := [one for one in self.told(notice) if reason in one["reason"]]):
            assert time.monotonic() < until, self.engine.log.read_text()[-2000:]
        return found[0]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("tls")
    running = Running(folder)
    ca = Authority.below(folder / "tls")
    ca.issue("engine.test")
    (folder / "channels" / "mercy-adt.yaml").unlink()
    (folder / "channels" / "orders.yaml").write_text(_CHANNEL)
    with running:
        yield Hospital(running, ca)


def test_certificate_speaks_for_its_own_senders_and_for_no_others(hospital: Hospital) -> None:
    assert hospital.ask("T1", hospital.ca.issue("lab.test")) == "AA"
    assert hospital.ask("T2", hospital.ca.issue("pharmacy.test"), "RX") == "AA"
    assert hospital.ask("T3", hospital.ca.issue("pharmacy.test"), "LAB") == "AR"
    assert hospital.ask("T4", hospital.ca.issue("stranger.test"), "LAB") == "AR"
    for name in ("pharmacy.test", "stranger.test"):
        alert = hospital.told_of("peer_refused", f"the certificate of {name} does not speak for this sender")
        assert (alert["level"], alert["channel"], alert["peer"].partition(":")[0]) == ("warning", "orders", "127.0.0.1")
    assert len(hospital.get("/messages", channel="orders")["messages"]) == 2
    assert len(hospital.get("/quarantine")["quarantine"]) == 2


def test_who_shows_no_certificate_of_the_authority_is_not_heard_and_told(hospital: Hospital, tmp_path: Path) -> None:
    other = Authority(tmp_path, "Another CA")
    for number, (own, why) in enumerate(
        (
            (None, "it showed no certificate"),
            (hospital.ca.issue("lab.test", days=-1, file="late"), "its certificate has ended"),
            (other.issue("lab.test"), "nobody whom we trust vouches for its certificate"),
        )
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            hospital.ask(f"U{number}", own)
        alert = hospital.told_of("handshake_failed", why)
        assert (alert["channel"], alert["peer"].partition(":")[0]) == ("orders", "127.0.0.1")
        assert not hospital.get("/messages", control_id=f"U{number}")["messages"]
