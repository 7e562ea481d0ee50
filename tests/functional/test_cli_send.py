"""`handoff send` puts messages on the wire as they are, and says plainly what came back."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.wire.ack import acknowledge
from broker.wire.header import read_header
from broker.wire.mllp import Decoder, Frame, frame
from console.cli import main

MESSAGE = b"MSH|^~\\&|A|B|C|D|20260101||ADT^A04|C1|P|2.5.1\nPID|||1\n"
Reply = Callable[[bytes], bytes | None]


def accept(body: bytes) -> bytes:
    """Answer AA."""
    header = read_header(body)
    return frame(acknowledge(header, "AA", "X1", 0.0))


def reject(body: bytes) -> bytes:
    """Answer AR with an ERR segment."""
    header = read_header(body)
    return frame(acknowledge(header, "AR", "X1", 0.0, text="no such version", condition=203, location="MSH-12"))


@contextmanager
def listening(reply: Reply) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one connection; a reply of None closes it."""
    received: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            decoder = Decoder(1 << 20)
            while data := connection.recv(65536):
                for item in decoder.feed(data):
                    assert isinstance(item, Frame)
                    received.append(item.payload)
                    answer = reply(item.payload)
                    if answer is None:
                        return
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}", received
    finally:
        thread.join(10)
        server.close()


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine runs here: ids of messages cannot be asked for."""
    settings = SimpleNamespace(data=tmp_path, console=SimpleNamespace(endpoint="127.0.0.1:0"))
    monkeypatch.setattr(main.Options, "settings", lambda _options: settings)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A message as editors save it, with line feeds."""
    path = tmp_path / "a04.hl7"
    path.write_bytes(MESSAGE)
    return str(path)


def test_accepted_message_ends_with_0_and_went_out_with_hl7_line_ends(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result is on stdout, everything else on stderr."""
    with listening(accept) as (place, received):
        assert main.invoke(["send", file, "--to", place]) == 0
    told = capsys.readouterr()
    assert received == [MESSAGE.replace(b"\n", b"\r")]
    assert told.out.startswith("AA  a04.hl7  control id C1  ")
    assert "message ids are not known" in told.err


def test_rejected_message_ends_with_1_and_shows_why(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The ERR segment is shown in words."""
    with listening(reject) as (place, _):
        assert main.invoke(["send", file, "--to", place, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (answer,) = found["answers"]
    assert (found["sent"], found["accepted"], answer["code"]) == (1, 0, "AR")
    assert answer["errors"][0]["code"].startswith("203")
    assert answer["errors"][0]["text"] == "no such version"
    assert answer["message_id"] is None


def test_repetitions_get_control_ids_of_their_own(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the second would be a duplicate of the first."""
    with listening(accept) as (place, received):
        assert main.invoke(["send", file, file, "--count", "3", "--to", place]) == 0
    assert [read_header(body).control_id for body in received] == [b"C1", b"C1", b"C1-1", b"C1-1", b"C1-2", b"C1-2"]
    assert capsys.readouterr().out == "6 of 6 accepted\n"


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (lambda _: None, 4, "closed without an acknowledgment"),
        (lambda _: frame(b"nonsense"), 1, "not accepted"),
        (lambda body: accept(body.replace(b"C1", b"C9")), 1, "not accepted"),
        (lambda _: b"\x0b", 4, "no answer in time"),
    ],
)
def test_no_or_wrong_answer_is_not_success(
    file: str, capsys: pytest.CaptureFixture[str], reply: Any, code: int, told: str
) -> None:
    """Closed, unreadable, another message's, or none in time."""
    with listening(reply) as (place, _):
        assert main.invoke(["send", file, "--to", place, "--timeout", "0.5"]) == code
    assert told in capsys.readouterr().err


def test_nobody_listening_ends_with_4(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says what to do."""
    assert main.invoke(["send", file, "--to", "127.0.0.1:1"]) == 4
    assert "handoff run" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "to"), [(b"nonsense", "127.0.0.1:1"), (MESSAGE, "nowhere")])
def test_usage_errors_end_with_2(tmp_path: Path, content: bytes, to: str) -> None:
    """A file that is no message, and a place that is none."""
    path = tmp_path / "x.hl7"
    path.write_bytes(content)
    assert main.invoke(["send", str(path), "--to", to]) == 2
