"""A peer that sends nonsense all day costs a few lines a minute, and every one of its mistakes is counted."""

import asyncio
import io

import pytest

from broker.notices import CircuitClosed, ConnectionOpened, MessageRefused, PeerRefused, Quarantined
from console import quota, report
from console.quota import MINUTE, MOST, Quota, host_of
from console.report import Report
from tests.unit.test_console_report import sample


def refused(peer: str, channel: str = "adt") -> MessageRefused:
    return MessageRefused(channel=channel, peer=peer, code="", condition=0, reason="an empty frame came")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_kind_about_each_peer_and_channel_has_its_own_minute() -> None:
    clock = Clock()
    kept = Quota(clock)
    assert [kept.admits(refused(f"10.0.0.1:{port}")) for port in range(MOST + 5)] == [True] * MOST + [False] * 5
    assert kept.admits(refused("10.0.0.2:1"))
    assert kept.admits(refused("10.0.0.1:1", "lab"))
    assert kept.admits(Quarantined(channel="adt", peer="10.0.0.1:1", reason="junk", size=1))
    assert all(kept.admits(CircuitClosed(channel="adt", destination="ehr")) for _ in range(2 * MOST))
    clock.now += MINUTE - 1
    assert kept.settle() == []
    clock.now += 1
    ((about, count),) = kept.settle()
    assert (about.kind, about.channel, about.host, count) == (MessageRefused, "adt", "10.0.0.1", 5)
    assert kept.admits(refused("10.0.0.1:1"))
    assert kept.settle(all_of_it=True) == []


def test_very_many_peers_share_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "_PEERS", 3)
    kept = Quota(Clock())
    told = [kept.admits(refused(f"10.0.0.{number}:1")) for number in range(3 + MOST + 7)]
    assert told == [True] * (3 + MOST) + [False] * 7
    assert [(about.host, count) for about, count in kept.settle(all_of_it=True)] == [("others", 7)]


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.0.0.1:80", "10.0.0.1"),
        ("2001:db8::1:2575", "2001:db8::1"),
        ("a.csv:17", "a.csv"),
        ("a:b.csv", "a:b.csv"),
        ("", ""),
        (":7", ":7"),
    ],
)
def test_host_is_what_stays_the_same(peer: str, host: str) -> None:
    assert host_of(peer) == host


def test_what_is_left_out_is_one_line_and_counted_all_the_same() -> None:
    stream = io.StringIO()
    told = Report(stream=stream)
    for port in range(500):
        told(PeerRefused(channel="adt", peer=f"10.0.0.1:{port}", reason="it has no certificate"))
        told(ConnectionOpened(channel="adt", peer=f"10.0.0.1:{port}"))
    assert sample(told, "handoff_connections_refused_total", channel="adt") == 500
    assert len(stream.getvalue().splitlines()) == len(told.hub.recent) == MOST
    told.settle(all_of_it=True)
    line = stream.getvalue().splitlines()[MOST]
    assert line.endswith(" warning notices_left_out: channel=adt peer=10.0.0.1 kind=peer_refused count=480")
    assert told.hub.recent[-1]["count"] == 480


def test_who_asks_for_every_fact_gets_every_fact() -> None:
    stream = io.StringIO()
    told = Report(stream=stream, verbose=True)
    for port in range(100):
        told(refused(f"10.0.0.1:{port}"))
    assert len(stream.getvalue().splitlines()) == 100


async def test_watch_tells_when_a_minute_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_EVERY", 0.0)
    monkeypatch.setattr(quota, "MINUTE", 0.0)
    stream = io.StringIO()
    told = Report(stream=stream)
    for _ in range(MOST + 1):
        told(refused("10.0.0.1:1"))
    watching = asyncio.create_task(told.watch())
    async with asyncio.timeout(5):
        while "notices_left_out" not in stream.getvalue():  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0)
    watching.cancel()
