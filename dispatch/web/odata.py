"""This module writes and reads $batch of OData 4.0: several requests in one multipart/mixed body (OData 4.0, 11.7).

Each request stands alone and not in a change set, which would make all of them succeed or fail together; the other
side is asked to go on after one that failed.
"""

import re
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Final

from dispatch.http import Answer
from dispatch.web.rendering import Frozen

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?\n|\Z)")
_HEADERS: Final = BytesHeaderParser()


def batch(rows: Sequence[Frozen], boundary: str, root: str) -> bytes:
    """Return the body of a $batch; ``root`` is the path of the service, below which each request's path is."""
    parts = []
    for number, row in enumerate(rows, 1):
        headers = {"Content-Type": "application/json", **row.headers}
        lines = [
            f"--{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {number}",
            "",
            f"{row.method} {root}/{row.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in headers.items()),
            "",
            "",
        ]
        parts.append("\r\n".join(lines).encode("ascii") + row.body + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode("ascii")


def answers(answer: Answer) -> list[Answer]:
    """Return the answers in a $batch's answer, in the order of the requests, up to the first that cannot be read."""
    boundary = _boundary(answer.headers.get("content-type", ""))
    return list(_parts(answer.body, boundary)) if boundary else []


def _boundary(content_type: str) -> bytes:
    head = Message()
    head["Content-Type"] = content_type
    found = head.get_param("boundary")
    return found.encode("latin-1", "replace") if isinstance(found, str) else b""


def _parts(body: bytes, boundary: bytes) -> Iterator[Answer]:
    for part in re.split(rb"(?:\A|\r?\n)--" + re.escape(boundary), body)[1:]:
        if part.startswith(b"--"):
            return  # the end
        _, _, inner = _halves(part.lstrip(b" \t\r\n"))
        status = _STATUS.match(inner)
        if status is None:
            return
        _, _, rest = inner.partition(b"\n")
        head, _, content = _halves(rest)
        headers = {name.lower(): str(value) for name, value in _HEADERS.parsebytes(head + b"\r\n\r\n").items()}
        yield Answer(int(status[1]), headers, content)


def _halves(part: bytes) -> tuple[bytes, bytes, bytes]:
    """Return head and content around the first empty line, which is at the beginning where there is no head."""
    if part.startswith((b"\r\n", b"\n")):
        return b"", b"", part.lstrip(b"\r\n")
    for gap in (b"\r\n\r\n", b"\n\n"):
        if gap in part:
            return part.partition(gap)
    return part, b"", b""
