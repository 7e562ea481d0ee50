"""What is kept of segments, and what is not."""

from broker.wire.header import Separators
from transforms.hl7_types import Reader
from transforms.kept import kept

READ = Reader(Separators(), "utf-8")


def test_same_segments_are_read_once_and_long_ones_each_time() -> None:
    calls: list[int] = []

    @kept
    def length(read: Reader, sent: tuple[str, ...], more: int) -> int:
        calls.append(more)
        return len(read.repetitions(sent[0])) + more

    assert [length(READ, ("a~b",), 1), length(READ, ("a~b",), 1), length(READ, ("a~b",), 2)] == [3, 3, 4]
    assert calls == [1, 2]
    long = ("a" * 5000, "b" * 5000)
    assert length(READ, long, 3) == length(READ, long, 3)
    assert calls == [1, 2, 3, 3]
