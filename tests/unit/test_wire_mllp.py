"""This module checks MLLP framing byte by byte: what is a frame, what is junk, and that work stays linear."""

import base64
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from broker.wire.mllp import CUT_OFF, NOT_A_FRAME, UNFINISHED, Decoder, Empty, Frame, Item, Junk, Oversize, frame
from tests.pace import cpu_seconds
from tests.wire_cases import connections_of, wire_cases

LIMIT = 1 << 20
A, B = b"MSH|^~\\&|A\rPID|1\r", b"MSH|^~\\&|B\rPID|2\r"


def decoded(chunks: Iterable[bytes], limit: int = LIMIT) -> list[Item]:
    """Feed chunks, then the end of the stream."""
    decoder = Decoder(limit)
    items = [item for chunk in chunks for item in decoder.feed(chunk)]
    junk = decoder.close()
    return items if junk is None else [*items, junk]


def both_ways(data: bytes, limit: int = LIMIT) -> list[Item]:
    """Decode all at once and byte by byte; the answer must be the same."""
    at_once = decoded([data], limit)
    assert decoded((data[i : i + 1] for i in range(len(data))), limit) == at_once
    return at_once


@pytest.mark.parametrize(
    ("data", "items"),
    [
        (b"", []),
        (frame(A), [Frame(A)]),
        (frame(A) + frame(B), [Frame(A), Frame(B)]),
        (frame(A) + b"\r\n\0 \t" + frame(B) + b"\r\n", [Frame(A), Frame(B)]),
        (b"HELLO\r\n" + frame(A), [Junk(NOT_A_FRAME, b"HELLO\r\n", 7), Frame(A)]),
        (b"\r\nHELLO" + frame(A), [Junk(NOT_A_FRAME, b"HELLO", 5), Frame(A)]),
        (frame(A) + b"x", [Frame(A), Junk(NOT_A_FRAME, b"x", 1)]),
        (b"\x0b" + A + frame(B), [Junk(UNFINISHED, A, len(A)), Frame(B)]),
        (b"\x0b" + A + b"\x0b" + A + frame(B), [Junk(UNFINISHED, A, len(A)), Junk(UNFINISHED, A, len(A)), Frame(B)]),
        (b"\x0b\x0b\x0b" + frame(A), [Frame(A)]),
        (b"\x0b" + A + b"\x1c" + frame(B), [Frame(A), Frame(B)]),
        (b"\x0b" + A + b"\x1c\n" + frame(B), [Frame(A), Frame(B)]),
        (b"\x0b" + A + b"\x1c", [Junk(CUT_OFF, A + b"\x1c", len(A) + 1)]),
        (b"\x0b" + A + b"\x1cx\x1c\r", [Frame(A + b"\x1cx")]),
        (b"\x0b" + A + b"\x1c\x1c\r", [Frame(A + b"\x1c")]),
        (b"\x0b" + A, [Junk(CUT_OFF, A, len(A))]),
        (b"\x0b", []),
        (b"\x0b\x1c\r", [Empty()]),
        (b"\x0b\r\n \x1c\r" + frame(A), [Empty(), Frame(A)]),
        (A + b"\x1c\r" + frame(B), [Junk(NOT_A_FRAME, A + b"\x1c\r", len(A) + 2), Frame(B)]),
        (frame(b"\0" + A + b"\0"), [Frame(b"\0" + A + b"\0")]),
    ],
)
def test_items_are_as_the_rules_say_when_fed(data: bytes, items: list[Item]) -> None:
    assert _merged(decoded([data])) == _merged(items)
    assert _merged(decoded(data[i : i + 1] for i in range(len(data)))) == _merged(items)


def _merged(items: list[Item]) -> list[Item]:
    """Join junk that lies together: how much of it one report holds depends on what was read at once."""
    merged: list[Item] = []
    for item in items:
        last = merged[-1] if merged else None
        if isinstance(item, Junk) and isinstance(last, Junk) and item.reason == last.reason:
            merged[-1] = Junk(item.reason, last.data + item.data, last.size + item.size)
        else:
            merged.append(item)
    return merged


def test_frame_is_taken_when_exactly_as_large_as_allowed() -> None:
    assert both_ways(frame(b"x" * 100), 100) == [Frame(b"x" * 100)]


@pytest.mark.parametrize("tail", [b"\x1c\r", b"", b"\x0b" + A, b"x" * 500 + b"\x1c\r"])
def test_nothing_follows_when_a_frame_is_too_large(tail: bytes) -> None:
    data = frame(A) + b"\x0b" + b"x" * 102 + tail + frame(B)
    for items in (decoded([data], 100), decoded((data[i : i + 1] for i in range(len(data))), 100)):
        assert items[0] == Frame(A)
        assert isinstance(items[1], Oversize)
        assert items[1].head.startswith(b"x" * 100)
        assert len(items) == 2


def test_head_is_bounded_when_a_frame_is_too_large() -> None:
    decoder = Decoder(1 << 20)
    (item,) = decoder.feed(b"\x0b" + bytes(3 << 20))
    assert isinstance(item, Oversize)
    assert len(item.head) == 65536
    assert decoder.pending == 0
    assert decoder.feed(frame(A)) == []
    assert decoder.close() is None


def test_noise_is_kept_in_part_but_counted_whole_when_long() -> None:
    decoder = Decoder(LIMIT)
    for _ in range(100):
        assert decoder.feed(b"x" * 1000) == []
    assert decoder.noise == 100_000
    assert decoder.feed(frame(A)) == [Junk(NOT_A_FRAME, b"x" * 4096, 100_000), Frame(A)]
    assert decoder.noise == 0


def test_reports_are_few_when_every_byte_begins_a_frame() -> None:
    (junk, whole) = Decoder(LIMIT).feed(b"\x0bx" * 10_000 + frame(A))
    assert junk == Junk(UNFINISHED, b"x" * 10_000, 10_000)
    assert whole == Frame(A)


def test_pending_counts_what_is_held_when_a_frame_is_open() -> None:
    decoder = Decoder(LIMIT)
    assert decoder.pending == 0
    decoder.feed(b"\x0b")
    assert decoder.pending == 1
    decoder.feed(b"MSH")
    assert decoder.pending == 4
    decoder.feed(b"\x1c\r")
    assert decoder.pending == 0


def test_work_is_linear_when_a_large_frame_comes_in_small_pieces() -> None:
    def spent(size: int) -> float:
        data = frame(b"x" * size)

        def work() -> None:
            decoder = Decoder(1 << 25)
            for position in range(0, len(data), 1024):
                decoder.feed(data[position : position + 1024])

        return cpu_seconds(work)

    # Eight times the bytes may cost eight times the work, not sixty-four times.
    assert spent(8 << 20) < 30 * spent(1 << 20) + 0.05


def test_bytes_do_not_show_when_printed() -> None:
    assert "Okafor" not in repr([Frame(b"Okafor"), Junk("why", b"Okafor", 6), Oversize(b"Okafor")])


# The corpus of wire cases.
# Every `must` holds, and every `should`: frames whose FS lacks its CR are recognised by the VT that follows (13, 15), a
# frame that another cuts off is reported and never merged (12). Of the `may` cases, FS at the end of the stream (14) is
# reported and not delivered, and FS in a payload (24) is data.
NOT_DELIVERED = {"14-fs-no-cr-eof"}


@pytest.mark.parametrize("path", wire_cases() or [None], ids=lambda path: path.stem if path else "absent")
def test_wire_case_gives_its_frames(path: Path | None) -> None:
    if path is None:
        pytest.skip("the wire cases (shared/data/mllp) are not here")
    case = json.loads(path.read_text())
    if case["id"] in NOT_DELIVERED:
        return
    expected = case["expect"]
    limit = 16 << 20
    frames: list[bytes] = []
    for connection in connections_of(case):
        frames += [item.payload for item in decoded(connection, limit) if isinstance(item, Frame)]
    if "frames_sha256" in expected:
        assert [hashlib.sha256(payload).hexdigest() for payload in frames] == expected["frames_sha256"]
    elif case["id"] == "24-fs-inside":
        assert len(frames) == 1
    elif expected.get("frames_b64") is None:
        assert frames == []
    else:
        assert frames == [base64.b64decode(payload) for payload in expected["frames_b64"]]
