"""Who may connect, how fast, and by what name: what a listener declares, and what it makes of it without sockets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.address import IPv4Address

from broker.hosts import is_loopback, is_unspecified, is_within, networks
from broker.notices import ConnectionClosed, PeerRefused
from broker.wire.header import read_header
from broker.wire.mllp import frame
from listeners.mllp import MllpSpec
from listeners.pace import Pace
from listeners.tls import Certificates, Peer, TlsFactory, TlsSpec
from tests.mllp_bench import PEER, Bench, message, turn


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"endpoint": "0.0.0.0:2575"}, "without TLS"),
        ({"endpoint": "[::]:2575"}, "without TLS"),
        ({"endpoint": "10.0.0.5:2575", "tls": {"ca": "x"}}, "needs certificate and key"),
        ({"endpoint": "127.0.0.1:1", "tls": {"certificate": "x"}}, "need each other"),
        ({"endpoint": "127.0.0.1:1", "tls": {"certificate": "x", "key": "y", "senders": {"a": ["b|c"]}}}, "needs ca"),
        ({"endpoint": "127.0.0.1:1", "tls": {"ca": "x", "senders": {"a": ["EPIC"]}}}, r"MSH-3\|MSH-4"),
        ({"endpoint": "127.0.0.1:1", "allow": ["10.0.0.0/33"]}, "needs an address or a network"),
    ],
)
def test_declarations_that_protect_nothing_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MllpSpec.model_validate(options)


def test_a_written_reason_opens_a_port_to_others() -> None:
    options = {"endpoint": "0.0.0.0:2575", "unprotected": "a VPN ends on this host"}
    assert MllpSpec.model_validate(options).unprotected
    assert MllpSpec.model_validate({"endpoint": "peer.example:2575", "role": "client"}).role == "client"


def test_addresses_are_told_apart() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]")))
    assert not any(map(is_loopback, ("example.org", "10.0.0.1", "198.51.100.1")))
    allowed = networks(["10.1.0.0/16", "2001:db8::7"])
    assert is_within("10.1.2.3", allowed)
    assert is_within("::ffff:10.1.2.3", allowed)
    assert is_within("2001:db8::7", allowed)
    assert not any(is_within(host, allowed) for host in ("10.2.0.1", "2001:db8::8", "?", ""))


def test_a_peer_is_kept_to_its_pace_and_others_are_not() -> None:
    now = [1000.0]
    pace = Pace(10.0, lambda: now[0])
    assert pace.spend("a", 10) == 0.0  # a second's worth may come at once
    assert pace.spend("a", 5) == pytest.approx(0.5)
    assert pace.spend("b", 1) == 0.0
    now[0] += 2.0
    assert pace.spend("a", 10) == 0.0


def test_peers_that_went_away_are_forgotten() -> None:
    now = [0.0]
    pace = Pace(1000.0, lambda: now[0])
    for number in range(10_000):
        pace.spend(str(number), 1)
    now[0] = 10.0
    pace.spend("new", 1)
    assert list(pace._paid_until) == ["new"]


async def test_reading_pauses_while_a_peer_is_ahead() -> None:
    bench = Bench(rate=1)
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    assert not wire.is_paused()
    connection.dataReceived(frame(message(2)) * 2)
    assert wire.is_paused()
    await bench.keep(0, 1, 2)
    bench.clock.advance(1.9)
    assert wire.is_paused()
    bench.clock.advance(0.2)
    assert not wire.is_paused()


def test_a_peer_from_elsewhere_is_turned_away_with_a_notice() -> None:
    bench = Bench(allow=["10.0.0.0/8"])
    assert bench.listener.buildProtocol(PEER) is None
    assert bench.of(PeerRefused)[0].peer == "192.0.2.7:40000"
    assert bench.listener.buildProtocol(IPv4Address("TCP", "10.1.1.1", 1)) is not None


async def test_a_handshake_that_does_not_come_ends_the_connection() -> None:
    bench = Bench()
    bench.listener.certificates = SimpleNamespace(peer=lambda _: Peer(("lab.test",), None))  # type: ignore[assignment]
    for agreed in (False, True):
        connection, wire = bench.connect()
        bench.clock.advance(5.0)
        if agreed:
            connection.handshakeCompleted()
        bench.clock.advance(6.0)
        assert wire.is_closing() is not agreed
        assert not wire.is_half_closed()
        connection.connectionLost()
    assert bench.of(ConnectionClosed)[0].reason == "TLS was not agreed on in time"


async def test_a_sender_that_a_certificate_does_not_speak_for_is_refused() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection._exchanges.speaker = Peer((), frozenset({(b"LAB", b"MERCY")}))
    connection.dataReceived(frame(message(1)))
    await turn()
    assert b"MSA|AR|M1" in wire.value()
    assert "without a name" in bench.of(PeerRefused)[0].reason
    assert Peer((), None).may_speak_for(read_header(message(1)))


def test_tls_wraps_nothing_for_a_peer_that_is_turned_away() -> None:
    bench = Bench(allow=["10.0.0.0/8"])
    certificates = Certificates(TlsSpec(), "here", lambda _: None)
    factory = TlsFactory(certificates, isClient=False, wrappedFactory=bench.listener, clock=bench.clock)
    assert factory.buildProtocol(PEER) is None


def test_paths_of_certificates_start_at_a_folder() -> None:
    spec = TlsSpec(certificate="tls/own.pem", key="/etc/own.key").below(Path("/srv/handoff"))
    assert (spec.certificate, spec.key, spec.ca) == ("/srv/handoff/tls/own.pem", "/etc/own.key", None)


def test_addresses_that_nobody_can_call_are_known() -> None:
    everywhere = ["0.0.0.0", "[::]"]  # noqa: S104 - compared with, not bound to
    assert [host for host in (*everywhere, "127.0.0.1", "localhost") if is_unspecified(host)] == everywhere
