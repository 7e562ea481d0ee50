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
from broker.wire.batch import answer_batch, split_batch
from broker.wire.header import read_header
from broker.wire.mllp import COMMITTED, NOT_COMMITTED, Decoder, Frame, frame
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
def listening(reply: Reply, connections: int = 1) -> Iterator[tuple[str, list[bytes]]]:
    """Serve connections one after the other; a reply of None closes one."""
    received: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)

    def serve() -> None:
        for _ in range(connections):
            connection, _peer = server.accept()
            with connection:
                answer_on(connection)

    def answer_on(connection: socket.socket) -> None:
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


@pytest.mark.parametrize("name", [b"C\\X0D\\OBX", b"D\\F\\x", b"\xe4\xf6"])
def test_control_id_is_compared_as_it_was_sent(file: str, capsys: pytest.CaptureFixture[str], name: bytes) -> None:
    """MSA-2 is MSH-10 verbatim, also where it looks like an escape sequence."""
    Path(file).write_bytes(MESSAGE.replace(b"|C1|", b"|" + name + b"|"))
    with listening(accept) as (place, _):
        assert main.invoke(["send", file, "--to", place]) == 0
    assert capsys.readouterr().out.startswith("AA  a04.hl7  control id " + name.decode("latin-1"))


def test_nobody_listening_ends_with_4(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says what to do."""
    assert main.invoke(["send", file, "--to", "127.0.0.1:1"]) == 4
    assert "handoff run" in capsys.readouterr().err


def test_place_that_is_none_is_a_mistake_of_usage(file: str) -> None:
    """The file is read, and nothing is sent."""
    assert main.invoke(["send", file, "--to", "nowhere"]) == 2


@pytest.mark.parametrize(
    ("broken", "control_id"),
    [
        (MESSAGE.replace(b"^~\\&", b"ABCDEFGH"), "C1"),
        (b"PID|||1\n", ""),
        (b"MSH", ""),
        ("MSH|^~\\&|\n".encode("utf-16"), ""),
        ("BHS|^~\\&|\n".encode("utf-16"), ""),
    ],
)
def test_what_is_broken_is_sent_as_it_is_and_the_next_over_a_connection_of_its_own(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str], broken: bytes, control_id: str
) -> None:
    """That is how one sees how it is refused; who closes the connection is asked again for the others."""
    path = tmp_path / "broken.hl7"
    path.write_bytes(broken)
    whole = MESSAGE.replace(b"\n", b"\r")
    with listening(lambda body: accept(body) if body == whole else None, 2) as (place, received):
        assert main.invoke(["send", str(path), file, "--to", place, "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert len(received) == 2
    assert received[0] == (broken if b"\0" in broken else broken.strip(b"\n").replace(b"\n", b"\r") + b"\r")
    assert [(answer["control_id"], answer["code"]) for answer in told["answers"]] == [(control_id, ""), ("C1", "AA")]
    assert "closed without an acknowledgment" in told["answers"][0]["text"]


def test_file_that_cannot_be_read_is_told_and_the_others_are_sent(
    tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code says so at the end."""
    with listening(accept) as (place, received):
        assert main.invoke(["send", file, str(tmp_path / "none.hl7"), str(tmp_path), "--to", place, "--json"]) == 2
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["sent"], told["accepted"], len(received)) == (1, 1, 1)
    assert [answer["text"] for answer in told["answers"][1:]] == [
        "the file cannot be read: No such file or directory",
        "the file cannot be read: Is a directory",
    ]
    assert "2 of the files cannot be read" in said.err


def enhanced(wishes: str) -> bytes:
    """Return a message that asks for this in MSH-15 and MSH-16."""
    return MESSAGE.replace(b"|2.5.1", b"|2.5.1|||" + wishes.encode())


def accept_twice(body: bytes) -> bytes:
    """Answer CA, then AA."""
    header = read_header(body)
    return b"".join(frame(acknowledge(header, code, f"X{code}", 0.0)) for code in ("CA", "AA"))


def accept_batch(body: bytes) -> bytes:
    """Answer every message of a batch but the second."""
    batch = split_batch(body, 9)
    answers = [
        [acknowledge(read_header(one), "AR" if number == 1 else "AA", "X", 0.0) for number, one in enumerate(group)]
        for group in (group.messages for group in batch.groups)
    ]
    return frame(answer_batch(batch, answers, lambda: "Y", 0.0))


@pytest.mark.parametrize(
    ("wishes", "reply", "shown"),
    [
        ("AL|AL", accept_twice, "CA AA  a04.hl7"),
        ("NE|NE", lambda _: b"", "--  a04.hl7"),
        ("ER|NE", lambda _: b"", "--  a04.hl7"),
        ("AL|AL", lambda body: frame(acknowledge(read_header(body), "CA", "X", 0.0)), "CA  a04.hl7"),
    ],
)
def test_what_a_message_asks_for_is_waited_for(
    file: str, capsys: pytest.CaptureFixture[str], wishes: str, reply: Reply, shown: str
) -> None:
    """Both acknowledgments, or none; a commit without the rest is still a commit."""
    Path(file).write_bytes(enhanced(wishes))
    with listening(reply) as (place, received):
        assert main.invoke(["send", file, "--to", place, "--timeout", "0.5"]) == 0
    assert len(received) == 1
    assert capsys.readouterr().out.startswith(shown)


def test_error_that_alone_is_asked_for_is_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It comes at once, and the version before 2.5 has it in ERR-1."""
    Path(file).write_bytes(enhanced("ER|NE").replace(b"2.5.1", b"2.3"))
    with listening(reject) as (place, _):
        assert main.invoke(["send", file, "--to", place, "--json"]) == 1
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["errors"] == [{"location": "MSH-12", "code": "203 Unsupported version id", "text": ""}]


def test_every_message_of_a_batch_is_shown(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also what is wrong with the batch itself; one refused message makes exit code 1."""
    second = MESSAGE.replace(b"|C1|", b"|C2|")
    Path(file).write_bytes(b"BHS|^~\\&|A|B|C|D|||||B1\n" + MESSAGE + second + b"BTS|3\n")
    with listening(accept_batch) as (place, received):
        assert main.invoke(["send", file, "--to", place]) == 1
    assert len(received) == 1
    out = [line for line in capsys.readouterr().out.splitlines() if "control id" in line]
    assert [line.split("  ")[:3:2] for line in out] == [
        ["AA", "control id C1"],
        ["AR", "control id C2"],
        ["AE", "control id B1"],
    ]


def test_batch_is_not_sent_several_times(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be the same messages again."""
    Path(file).write_bytes(MESSAGE + MESSAGE)
    assert main.invoke(["send", file, "--to", "127.0.0.1:1", "--count", "2"]) == 2
    assert "batch" in capsys.readouterr().err


def test_commit_blocks_are_taken_and_given(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A receiver of MLLP release 2 is understood without being asked."""
    with listening(lambda body: b"" if body == COMMITTED else frame(COMMITTED) + accept(body)) as (place, received):
        assert main.invoke(["send", file, "--to", place]) == 0
    assert received[1:] == [COMMITTED]
    with listening(lambda _: frame(NOT_COMMITTED)) as (place, _):
        assert main.invoke(["send", file, "--to", place]) == 4
    assert "NAK" in capsys.readouterr().err
