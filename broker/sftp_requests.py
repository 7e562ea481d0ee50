"""This module is paramiko's SFTP client, with requests that go out together where none needs what another gives.

Each wait for an answer is a way to the server and back and two changes of threads, and reading a small file is little
else. A server may answer in any order (draft-ietf-secsh-filexfer-02, section 3), for which paramiko has no public way:
here its requests and answers are used as its own `SFTPFile` uses them.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final

from paramiko import SFTPAttributes, SFTPClient, SFTPError
from paramiko.sftp import (
    CMD_ATTRS,
    CMD_CLOSE,
    CMD_DATA,
    CMD_FSTAT,
    CMD_HANDLE,
    CMD_LSTAT,
    CMD_OPEN,
    CMD_READ,
    CMD_STATUS,
    SFTP_FLAG_READ,
    int64,
)

_CHUNK: Final = 32_768  # bytes of one request: what every server gives
_LEAST: Final = 4096  # bytes of one request to a server that gives less
_REQUESTS: Final = 64  # requests under way


class _Answers:
    """The answers that came, by the number of the request: each its kind, and the rest of it."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, Any]] = {}

    def _async_response(self, kind: int, rest: Any, number: int) -> None:
        self.known[number] = kind, rest


class Files(SFTPClient):  # type: ignore[misc] # it has no type hints
    """The files of a server. What it refuses is raised as `OSError`, as by `SFTPClient`."""

    def look_at(self, *paths: str) -> list[SFTPAttributes | None]:
        """Return what is at each path, where a link counts as itself; None where nothing is."""
        return [self._found(answer) for answer in self._ask(*((CMD_LSTAT, self._adjust_cwd(path)) for path in paths))]

    def copy(self, path: str, size: int, write: Callable[[bytes], object]) -> tuple[int, SFTPAttributes]:
        """Write the first ``size`` bytes of a file; return how many there were, and what the file is after that."""
        (opened,) = self._ask((CMD_OPEN, self._adjust_cwd(path), SFTP_FLAG_READ, SFTPAttributes()))
        handle = self._rest(opened, CMD_HANDLE).get_binary()
        try:
            got = self._copy(handle, size, write)
        except BaseException:
            with contextlib.suppress(Exception):  # the connection may have ended, and nobody waits for this answer
                self._async_request(type(None), CMD_CLOSE, handle)
            raise
        # Not with what is read: some servers read and look at the same time, and a change in between would be missed.
        status, _ = self._ask((CMD_FSTAT, handle), (CMD_CLOSE, handle))
        return got, SFTPAttributes._from_msg(self._rest(status, CMD_ATTRS))  # noqa: SLF001 - as `SFTPFile` reads it

    def _copy(self, handle: bytes, size: int, write: Callable[[bytes], object]) -> int:
        got, chunk = 0, _CHUNK
        while got < size:
            parts = [(at, min(chunk, size - at)) for at in range(got, min(size, got + chunk * _REQUESTS), chunk)]
            answers = self._ask(*((CMD_READ, handle, int64(at), count) for at, count in parts))
            for answer, (_, asked) in zip(answers, parts, strict=True):
                data = self._data(answer)
                write(data)
                got += len(data)
                if not data:
                    return got
                if len(data) < asked:  # what is behind it is asked for again, in parts that this server gives
                    chunk = max(len(data), _LEAST)
                    break
        return got

    def _ask(self, *requests: tuple[Any, ...]) -> list[tuple[int, Any]]:
        """Send requests, wait for all answers, and return them in the order of the requests."""
        answers = _Answers()
        numbers = [self._async_request(answers, *request) for request in requests]
        while len(answers.known) < len(numbers):
            self._read_response()
        return [answers.known[number] for number in numbers]

    def _rest(self, answer: tuple[int, Any], expected: int) -> Any:
        kind, rest = answer
        if kind == CMD_STATUS:
            self._convert_status(rest)
        if kind != expected:
            raise SFTPError(f"the server gave an answer of kind {kind} where one of kind {expected} was expected")
        return rest

    def _found(self, answer: tuple[int, Any]) -> SFTPAttributes | None:
        try:
            return SFTPAttributes._from_msg(self._rest(answer, CMD_ATTRS))  # noqa: SLF001 - as `lstat` reads it
        except FileNotFoundError:
            return None

    def _data(self, answer: tuple[int, Any]) -> bytes:
        try:
            return bytes(self._rest(answer, CMD_DATA).get_string())
        except EOFError:
            return b""
