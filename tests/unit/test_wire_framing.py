"""Streams are cut into messages the same way however they are chunked, and nothing is lost or joined."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.wire.framing import Counted, Cutter, Delimited, Piece, Sized, Stray, Whole
from tests.pace import cpu_seconds

LIMIT = 64
MAKERS: dict[str, Callable[[], Cutter]] = {
    "between": lambda: Delimited(b"\x02", b"\x03", LIMIT),
    "until": lambda: Delimited(b"", b"##", LIMIT),
    "line": lambda: Delimited(b"", b"\n", LIMIT, trim=b"\r"),
    "length": lambda: Counted(2, "big", LIMIT),
    "own length": lambda: Counted(4, "little", LIMIT, inclusive=True),
    "size": lambda: Sized(5),
}


def cut(maker: Callable[[], Cutter], *chunks: bytes) -> list[Piece]:
    cutter = maker()
    pieces = [piece for chunk in chunks for piece in cutter.feed(chunk)]
    rest = cutter.close()
    assert cutter.pending == 0
    return pieces if rest is None else [*pieces, rest]


@pytest.mark.parametrize(
    ("name", "data", "bodies"),
    [
        ("between", b"\x02one\x03\r\n\x02two\x03", [b"one", b"two"]),
        ("until", b"one##two##", [b"one", b"two"]),
        ("until", b"o#ne##\r\n##", [b"o#ne"]),
        ("line", b"one\r\ntwo\n\nthree\n", [b"one", b"two", b"three"]),
        ("length", b"\0\x03one\0\0\0\x03two", [b"one", b"two"]),
        ("own length", b"\x07\0\0\0one\x04\0\0\0", [b"one"]),
        ("size", b"first2ndly", [b"first", b"2ndly"]),
    ],
)
def test_messages_are_whole_in_whatever_chunks_they_come(name: str, data: bytes, bodies: list[bytes]) -> None:
    wanted = [Whole(body) for body in bodies]
    assert cut(MAKERS[name], data) == wanted
    for place in range(1, len(data)):
        assert cut(MAKERS[name], data[:place], data[place:]) == wanted
    assert cut(MAKERS[name], *(data[place : place + 1] for place in range(len(data)))) == wanted


@pytest.mark.parametrize(
    ("name", "data", "reason", "kept"),
    [
        ("between", b"noise\x02one\x03", "what came before a message began", b"noise"),
        ("between", b"\x02cut off\x02one\x03", "what came before a message began", b"\x02cut off"),
        ("between", b"no start\x03\x02one\x03", "bytes outside a message", b"no start"),
        ("until", b"one##rest", "the connection ended inside a message", b"rest"),
        ("size", b"fives1", "the connection ended inside a message", b"1"),
    ],
)
def test_what_is_no_message_is_told(name: str, data: bytes, reason: str, kept: bytes) -> None:
    pieces = cut(MAKERS[name], data)
    assert [piece for piece in pieces if isinstance(piece, Stray)] == [Stray(reason, kept)]
    assert sum(isinstance(piece, Whole) for piece in pieces) == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("between", b"\x02" + b"x" * 100),
        ("between", b"\x02" + b"x" * 65 + b"\x03\x02two\x03"),
        ("line", b"x" * 100),
        ("length", b"\xff\xff" + b"x" * 10),
        ("own length", b"\x03\0\0\0xyz"),
    ],
)
def test_a_stream_is_over_where_nothing_can_be_trusted_any_more(name: str, data: bytes) -> None:
    (stray,) = cut(MAKERS[name], data)
    assert isinstance(stray, Stray)
    assert stray.ends
    assert cut(MAKERS[name], data, b"more")[:1] == [stray]


@given(st.sampled_from(sorted(MAKERS)), st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_chunks_never_matter_and_what_comes_out_went_in(name: str, data: bytes, places: list[int]) -> None:
    cuts = sorted({0, len(data), *(place for place in places if place < len(data))})
    chunks = [data[begin:end] for begin, end in itertools.pairwise(cuts)]
    pieces = cut(MAKERS[name], *chunks)
    whole = [piece.body for piece in pieces if isinstance(piece, Whole)]
    assert whole == [piece.body for piece in cut(MAKERS[name], data) if isinstance(piece, Whole)]
    at = 0
    for body in whole:
        at = data.index(body, at) + len(body)
        assert len(body) <= LIMIT


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_work_is_linear_when_much_comes_in_small_pieces(name: str) -> None:
    makers: dict[str, Callable[[], Cutter]] = {
        "between": lambda: Delimited(b"\x02", b"\x03", 1 << 22),
        "until": lambda: Delimited(b"", b"##", 1 << 22),
        "line": lambda: Delimited(b"", b"\n", 1 << 22, trim=b"\r"),
        "length": lambda: Counted(4, "big", 1 << 22),
        "own length": lambda: Counted(4, "little", 1 << 22, inclusive=True),
        "size": lambda: Sized(1 << 21),
    }
    head = {"between": b"\x02", "length": (1 << 21).to_bytes(4), "own length": (1 << 21).to_bytes(4, "little")}

    def spent(size: int) -> float:
        data = head.get(name, b"") + b"x" * size

        def work() -> None:
            cutter = makers[name]()
            for place in range(0, len(data), 1024):
                cutter.feed(data[place : place + 1024])

        return cpu_seconds(work)

    assert spent(1 << 20) < 30 * spent(1 << 17) + 0.05
