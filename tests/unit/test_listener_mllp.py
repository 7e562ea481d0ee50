"""This module checks an MLLP connection without sockets: what is handed in, what is answered, and in which order."""

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import connectionDone

from broker.errors import NotAccepted, NotReady, StoreError
from broker.notices import Bug, ConnectionClosed, ConnectionOpened, ConnectionRefused, MessageRefused
from broker.wire.er7 import Message
from broker.wire.mllp import Decoder, Frame, frame
from listeners.mllp import MllpSpec
from tests.mllp_bench import PEER, Bench, answers, message, turn


async def test_answer_comes_after_the_promise_when_a_message_arrives() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    await turn()
    assert wire.value() == b""
    (inbound,) = bench.inbound
    assert (inbound.channel, inbound.body, inbound.peer) == ("adt", message(1), "192.0.2.7:40000")
    assert inbound.received_at > 1_700_000_000
    assert inbound.header is not None
    assert inbound.header.control_id == b"M1"
    await bench.keep(0)
    assert answers(wire) == [("AA", "M1")]
    assert isinstance(bench.notices[0], ConnectionOpened)
    assert wire.options == {"no delay": True, "keep alive": True}


async def test_answers_keep_the_order_when_commits_do_not() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(b"".join(frame(message(number)) for number in range(4)))
    await bench.keep(2, 1)
    assert wire.value() == b""
    await bench.keep(0)
    assert answers(wire) == [("AA", "M0"), ("AA", "M1"), ("AA", "M2")]
    assert len(wire.writes) == 1
    await bench.keep(3)
    assert answers(wire)[3] == ("AA", "M3")


async def test_control_ids_of_answers_differ_when_many_are_written() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) * 3)
    await bench.keep(0, 1, 2)
    items = Decoder(1 << 20).feed(wire.value())
    ids = {Message.parse(item.payload).get("MSH-10") for item in items if isinstance(item, Frame)}
    assert len(ids) == 3
    assert all(identifier and len(identifier) <= 20 for identifier in ids)


@pytest.mark.parametrize(("wishes", "code"), [("AL|NE", "CA"), ("|", "AA"), ("NE|AL", "AA")])
async def test_code_is_the_one_asked_for_when_stored(wishes: str, code: str) -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes=wishes)))
    await bench.keep(0)
    assert answers(wire) == [(code, "M1")]


async def test_nothing_is_written_when_no_answer_is_wanted() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1, wishes="NE|NE")) + frame(message(2)))
    await bench.keep(0, 1)
    assert answers(wire) == [("AA", "M2")]


async def test_refusal_is_answered_and_kept_when_not_accepted() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(message(2)))
    await bench.keep(1)
    await bench.refuse(0, NotAccepted("MSH-12: unknown", code="AR", condition=203, location="MSH-12"))
    assert answers(wire) == [("AR", "M1"), ("AA", "M2")]
    error = b"\rERR||MSH^1^12|203^Unsupported version id^HL70357|E|||channel adt: what was refused is in quarantine|"
    assert error + b"MSH-12: unknown\r" in wire.value()
    assert bench.kept == [("MSH-12: unknown", message(1))]
    (notice,) = bench.of(MessageRefused)
    assert (notice.code, notice.condition) == ("AR", 203)


async def test_failure_is_answered_ae_when_the_store_breaks() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    await bench.refuse(0, StoreError("0012 secret"))
    assert answers(wire) == [("AE", "M1")]
    assert b"secret" not in wire.value()
    assert bench.of(Bug)[0].error == "StoreError"


async def test_connection_closes_unanswered_when_the_promise_is_cancelled() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    bench.promises[0].cancel()
    await turn()
    assert wire.value() == b""
    assert wire.is_closing()


async def test_frame_is_kept_and_the_connection_closed_when_not_hl7() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + frame(b"INVALID") + frame(message(2)))
    assert not wire.is_half_closed()  # the first message is still to be answered
    await bench.keep(0)
    assert answers(wire) == [("AA", "M1")]
    assert wire.is_half_closed()
    assert len(bench.inbound) == 1
    assert [data for _, data in bench.kept] == [b"INVALID"]
    connection.dataReceived(frame(message(3)))
    assert len(bench.inbound) == 1
    bench.clock.advance(10)
    assert wire.aborted


@pytest.mark.parametrize(
    "body", [b"MSH|^~\\&|||||||ACK^A01|9|P|2.5\rMSA|AA|1\r", b"MSH|^~\\&|||||||RSP^K11|9|P|2.5\rMSA|AA|1\r"]
)
async def test_acknowledgment_is_kept_and_not_answered_when_it_arrives(body: bytes) -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(body))
    await turn()
    assert (wire.value(), bench.inbound, bench.kept[0][1]) == (b"", [], body)
    assert not wire.is_closing()


async def test_noise_is_kept_and_traffic_goes_on_when_bytes_come_between_frames() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(b"\r\nHELLO" + frame(b"") + frame(message(1)))
    await bench.keep(0)
    assert answers(wire) == [("AA", "M1")]
    assert [data for _, data in bench.kept] == [b"HELLO"]
    assert "empty frame" in bench.of(MessageRefused)[0].reason


async def test_connection_closes_when_the_peer_speaks_something_else() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(b"GET / HTTP/1.1\r\n" * 5000)
    assert wire.is_half_closed()
    assert bench.kept[0][0] == "bytes outside a frame"


async def test_message_is_rejected_when_too_large() -> None:
    bench = Bench(max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    connection.dataReceived(b"\x0b" + message(2) + b"x" * 2000)
    connection.dataReceived(b"x" * 5000)
    assert wire.value() == b""
    await bench.keep(0)
    assert answers(wire) == [("AA", "M1"), ("AR", "M2")]
    assert b"|207^Application error^HL70357|E|" in wire.value()
    assert wire.is_half_closed()
    assert bench.kept[0][1].startswith(message(2))


async def test_connection_closes_unanswered_when_too_large_and_unreadable() -> None:
    bench = Bench(max_message="1KiB")
    connection, wire = bench.connect()
    connection.dataReceived(b"\x0b" + b"x" * 5000)
    assert wire.is_half_closed()
    assert wire.value() == b""
    assert len(bench.kept) == 1


async def test_open_frame_is_kept_when_the_peer_goes() -> None:
    bench = Bench()
    connection, _ = bench.connect()
    connection.dataReceived(frame(message(1)) + b"\x0bMSH|half")
    connection.connectionLost(connectionDone)
    assert bench.kept == [("the connection ended inside a frame", b"MSH|half")]
    await bench.keep(0)  # what was accepted stays accepted, though nobody hears of it
    assert bench.of(ConnectionClosed)[0].reason.startswith("the peer closed it")
    assert bench.clock.getDelayedCalls() == []


async def test_refusal_is_kept_when_the_peer_has_gone() -> None:
    bench = Bench()
    connection, _ = bench.connect()
    connection.dataReceived(frame(message(1)))
    connection.connectionLost(connectionDone)
    await bench.refuse(0, NotAccepted("no", code="AR", condition=200))
    assert bench.kept == [("no", message(1))]


async def test_connection_closes_when_a_frame_takes_too_long() -> None:
    bench = Bench(frame_deadline="30s")
    connection, wire = bench.connect()
    connection.dataReceived(b"\x0bMSH|")
    bench.clock.advance(20)
    connection.dataReceived(b"more")
    bench.clock.advance(9)
    assert not wire.is_closing()
    bench.clock.advance(2)
    assert wire.is_closing()
    assert bench.kept == [("a frame did not end in time", b"MSH|more")]


async def test_deadline_begins_anew_when_a_frame_ended() -> None:
    bench = Bench(frame_deadline="30s")
    connection, wire = bench.connect()
    connection.dataReceived(b"\x0bMSH|")
    bench.clock.advance(20)
    connection.dataReceived(b"^~\\&|||||||ADT|1|P|2.5\r\x1c\r\x0bMSH|")
    await bench.keep(0)
    bench.clock.advance(25)
    assert not wire.is_closing()
    bench.clock.advance(6)
    assert wire.is_closing()


async def test_no_timer_exists_when_frames_come_whole() -> None:
    bench = Bench()
    connection, _ = bench.connect()
    connection.dataReceived(frame(message(1)))
    assert bench.clock.getDelayedCalls() == []


async def test_connection_closes_when_idle_too_long() -> None:
    bench = Bench(idle="60s", frame_deadline="10s")
    connection, wire = bench.connect()
    bench.clock.advance(50)
    connection.dataReceived(frame(message(1)))
    bench.clock.advance(59)
    await bench.keep(0)
    assert not wire.is_closing()
    connection.dataReceived(b"\r")
    bench.clock.advance(59)
    assert not wire.is_closing()
    bench.clock.advance(2)
    assert wire.is_closing()
    assert bench.kept == []


async def test_frame_deadline_holds_when_an_idle_limit_is_longer() -> None:
    bench = Bench(idle="1h", frame_deadline="10s")
    connection, wire = bench.connect()
    connection.dataReceived(b"\x0bMSH|")
    bench.clock.advance(11)
    assert wire.is_closing()


async def test_reading_stops_when_too_much_is_open() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    for number in range(64):
        assert not wire.is_paused()
        connection.dataReceived(frame(message(number)))
    assert wire.is_paused()
    await bench.keep(*range(31))
    assert wire.is_paused()
    await bench.keep(31)
    assert not wire.is_paused()


async def test_reading_stops_when_much_memory_is_open() -> None:
    bench = Bench(max_message="20MiB")
    connection, wire = bench.connect()
    large = frame(message(1, body="x" * (17 << 20)))
    connection.dataReceived(large)
    assert not wire.is_paused()
    connection.dataReceived(large)
    assert wire.is_paused()
    await bench.keep(0, 1)
    assert not wire.is_paused()


async def test_reading_stops_when_the_peer_does_not_read() -> None:
    bench = Bench(frame_deadline="30s")
    connection, wire = bench.connect()
    connection.dataReceived(b"\x0bMSH|")
    connection.pauseProducing()
    assert wire.is_paused()
    bench.clock.advance(100)
    assert not wire.is_closing()  # the frame could not go on, for we did not read
    connection.resumeProducing()
    assert not wire.is_paused()
    bench.clock.advance(29)
    assert not wire.is_closing()
    bench.clock.advance(100)
    assert wire.is_closing()


async def test_connection_is_turned_away_when_there_are_too_many() -> None:
    bench = Bench(connections=1)
    connection, _ = bench.connect()
    assert bench.listener.buildProtocol(PEER) is None
    assert bench.of(ConnectionRefused)[0].limit == 1
    assert bench.listener.connections == 1
    connection.connectionLost(connectionDone)
    assert bench.listener.connections == 0
    assert bench.listener.buildProtocol(PEER) is not None


async def test_open_messages_are_answered_when_the_listener_stops() -> None:
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)) + b"\x0bhalf")
    stopping = asyncio.ensure_future(bench.listener.stop())
    await turn()
    assert wire.is_paused()
    assert not wire.is_closing()
    assert bench.listener.buildProtocol(PEER) is None
    await bench.keep(0)
    assert answers(wire) == [("AA", "M1")]
    assert wire.is_closing()
    assert bench.kept == [("the listener stops", b"half")]
    connection.connectionLost(connectionDone)
    await stopping


async def test_connections_are_cut_when_stopping_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("listeners.port._STOP_WITHIN", 0.0)
    bench = Bench()
    connection, wire = bench.connect()
    connection.dataReceived(frame(message(1)))
    await bench.listener.stop()
    assert wire.aborted


async def test_start_says_who_and_where_when_the_port_is_taken() -> None:
    bench = Bench()

    def refuse(*_: object) -> None:
        error: Any = CannotListenError
        raise error("127.0.0.1", 2575, OSError(98, "Address already in use"))

    bench.clock.listenTCP = refuse  # type: ignore[attr-defined]
    with pytest.raises(NotReady, match=r"channel adt: cannot listen on 127\.0\.0\.1:2575 \(address already in use\)"):
        await bench.listener.start()
    assert bench.listener.port == 0


@pytest.mark.parametrize(
    "option",
    [
        {"charset": "nonsense"},
        {"default_charset": "nonsense"},
        {"default_charset": "MSH-18"},
        {"undecodable": "ignore"},
        {"acknowledge": "delivered"},
        {"connections": 0},
        {"max_message": 0},
        {"frame_deadline": 0},
        {"endpoint": "2575"},
        {"tls": True},
    ],
)
def test_spec_is_refused_when_it_cannot_be_meant(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MllpSpec.model_validate({"endpoint": "127.0.0.1:2575", **option})


async def test_peer_is_not_probed_when_keepalive_is_off() -> None:
    _, wire = Bench(keepalive=0).connect()
    assert wire.options == {"no delay": True}


def test_spec_describes_every_field() -> None:
    assert all(field.description for field in MllpSpec.model_fields.values())
    spec = MllpSpec.model_validate({"endpoint": "127.0.0.1:2575", "charset": "8859/1", "max_message": "1MiB"})
    assert MllpSpec.model_validate({"endpoint": "127.0.0.1:0", "charset": "MSH-18"}).charset == "MSH-18"
    assert (spec.max_message, spec.frame_deadline, spec.keepalive) == (1 << 20, 30.0, 60.0)
