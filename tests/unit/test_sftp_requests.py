"""Requests to an SFTP server that go out together: whatever the order of the answers, and however little each gives."""

import struct
from collections.abc import Iterator
from typing import Final

import pytest
from paramiko import SFTPError
from paramiko.sftp import (
    CMD_ATTRS,
    CMD_CLOSE,
    CMD_DATA,
    CMD_FSTAT,
    CMD_HANDLE,
    CMD_INIT,
    CMD_LSTAT,
    CMD_NAME,
    CMD_OPEN,
    CMD_READ,
    CMD_STATUS,
    CMD_VERSION,
)

from broker.sftp_requests import Files

OK, EOF, NO_SUCH_FILE, FAILURE = 0, 1, 2, 4
MODIFIED: Final = 1_700_000_000
CONTENT: Final = bytes(range(256)) * 9_000  # more than the requests of one go ask for


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def status(code: int) -> tuple[int, bytes]:
    return CMD_STATUS, struct.pack(">I", code) + string(b"as asked for") + string(b"")


class Backwards:
    """A channel to a server of one file, ``a``, which answers what came together from the last request to the first."""

    def __init__(self, gives: int = 1 << 20, breaks_at: int | None = None) -> None:
        self._gives = gives
        self._breaks_at = breaks_at
        self._asked: list[bytes] = []
        self._answers = b""
        self.kinds: list[int] = []

    def get_name(self) -> str:
        return "test"

    def send(self, data: bytes) -> int:
        self._asked.append(data[4:])
        self.kinds.append(data[4])
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self._answers:
            asked, self._asked = self._asked, []
            for answer in [answer for packet in asked for answer in self._answer(packet)][::-1]:
                self._answers += string(answer)
        data, self._answers = self._answers[:size], self._answers[size:]
        return data

    def _answer(self, packet: bytes) -> Iterator[bytes]:
        kind, number, rest = packet[0], packet[1:5], packet[5:]
        if kind == CMD_INIT:
            yield bytes([CMD_VERSION]) + struct.pack(">I", 3)
            return
        found, text = self._found(kind, rest)
        yield bytes([found]) + number + text

    def _found(self, kind: int, rest: bytes) -> tuple[int, bytes]:
        name = rest[4:5]
        if kind == CMD_READ:
            return self._read(*struct.unpack(">QI", rest[5:]))
        if kind in {CMD_LSTAT, CMD_OPEN} and name == b"x":
            return status(NO_SUCH_FILE)
        attributes = CMD_ATTRS, struct.pack(">IQII", 1 | 8, len(CONTENT), MODIFIED, MODIFIED)
        known = {CMD_FSTAT: attributes, CMD_OPEN: (CMD_HANDLE, string(b"h")), CMD_CLOSE: status(OK)}
        return known.get(kind, (CMD_NAME, b"") if name == b"?" else attributes)

    def _read(self, at: int, size: int) -> tuple[int, bytes]:
        if self._breaks_at is not None and at >= self._breaks_at:
            return status(FAILURE)
        data = CONTENT[at : at + min(size, self._gives)]
        return (CMD_DATA, string(data)) if data else status(EOF)


def test_answers_are_told_apart_when_they_come_in_another_order() -> None:
    missing, there = Files(Backwards()).look_at("x", "a")
    assert missing is None
    assert there is not None
    assert (there.st_size, there.st_mtime) == (len(CONTENT), MODIFIED)


@pytest.mark.parametrize("gives", [1 << 20, 10_000, 5_000])
@pytest.mark.parametrize("size", [0, 1, 10_000, len(CONTENT), len(CONTENT) + 10])
def test_file_is_copied_whole_however_little_an_answer_gives(size: int, gives: int) -> None:
    channel, copied = Backwards(gives), bytearray()
    got, found = Files(channel).copy("a", size, copied.extend)
    assert (got, found.st_size) == (min(size, len(CONTENT)), len(CONTENT))
    assert copied == CONTENT[:size]
    assert channel.kinds[-2:] == [CMD_FSTAT, CMD_CLOSE]


def test_requests_go_out_together() -> None:
    channel = Backwards()
    Files(channel).copy("a", len(CONTENT), lambda _: None)
    assert channel.kinds.count(CMD_READ) == -(-len(CONTENT) // 32_768)


def test_file_that_is_not_there_is_told_as_such() -> None:
    with pytest.raises(FileNotFoundError):
        Files(Backwards()).copy("x", 10, lambda _: None)


def test_file_is_closed_when_it_cannot_be_read_or_written_any_further() -> None:
    def write(_data: bytes) -> None:
        raise ValueError("full")

    for channel, sink, error in ((Backwards(breaks_at=40_000), bytes, OSError), (Backwards(), write, ValueError)):
        with pytest.raises(error):
            Files(channel).copy("a", len(CONTENT), sink)
        assert channel.kinds[-1] == CMD_CLOSE


def test_answer_of_another_kind_is_an_error() -> None:
    with pytest.raises(SFTPError, match="kind 104 where one of kind 105"):
        Files(Backwards()).look_at("?")
