"""This module holds `handoff send`: it puts HL7 messages on an MLLP connection and shows the acknowledgments."""

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from broker.errors import MessageError
from broker.wire.header import Header, read_header
from broker.wire.mllp import Decoder, Frame, frame
from console.cli.client import Client, print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, UNREACHABLE, USAGE, Failure, Options

_ACCEPTED: Final = frozenset({"AA", "CA"})
_LARGEST: Final = 64 << 20
_READ: Final = 65536
_LOOKED_UP: Final = 20  # messages whose id is asked for


@dataclass(frozen=True, slots=True)
class Answer:
    """The acknowledgment of one message."""

    file: str
    control_id: str
    code: str
    text: str
    errors: tuple[dict[str, str], ...]
    milliseconds: float
    message_id: str | None = None


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", metavar="HOST:PORT", help="Where to; without it, to the running engine's listener.")
@click.option("--channel", help="To the running engine's listener of this channel.")
@click.option(
    "--count", type=click.IntRange(1), default=1, show_default=True, help="Times; repetitions get new control ids."
)
@click.option("--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, help="Seconds for each answer.")
@as_json
@click.pass_obj
def send(
    options: Options,
    /,
    files: tuple[Path, ...],
    to: str | None,
    channel: str | None,
    count: int,
    timeout: float,
    *,
    as_json: bool,
) -> None:
    """Send HL7 messages over MLLP and show the acknowledgments.

    Each FILE holds one message; line ends become those of HL7. Exit code 1 if one is not accepted, 4 if nobody answers.
    """
    messages = [(path.name, *_message(path)) for path in files]
    place = to or _listener(options, channel)
    answers = []
    with _connected(place, timeout) as connection:
        for turn in range(count):
            for name, header, body in messages:
                answers.append(_exchange(connection, name, *(_renamed(header, body, turn) if turn else (header, body))))
                if not as_json and count == 1:
                    click.echo(_line(answers[-1]))
    accepted = sum(answer.code in _ACCEPTED for answer in answers)
    answers = _identified(options, answers)
    if as_json:
        shown = [{name: getattr(answer, name) for name in Answer.__slots__} for answer in answers]
        print_json({"to": place, "sent": len(answers), "accepted": accepted, "answers": shown})
    elif count > 1:
        click.echo(f"{accepted} of {len(answers)} accepted")
    _hint(answers)
    if accepted < len(answers):
        message = f"{len(answers) - accepted} of {len(answers)} not accepted"
        raise Failure(message, FINDINGS)


def _message(path: Path) -> tuple[Header, bytes]:
    body = path.read_bytes().strip(b"\r\n\x0b\x1c\0 ")
    if b"\n" in body:
        body = body.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    body += b"\r"
    try:
        return read_header(body), body
    except MessageError as error:
        message = f"{path}: {error}"
        raise Failure(message, USAGE) from None


def _renamed(header: Header, body: bytes, turn: int) -> tuple[Header, bytes]:
    """Return the message with a control id of its own: the same id and content again would be a duplicate."""
    bar = header.definition[:1]
    fields = body.split(bar, 10)  # MSH-10 is the tenth: MSH-1 is the separator itself
    control_id = header.control_id[:12] + b"-%d" % turn
    fields[9] = control_id
    return header._replace(control_id=control_id), bar.join(fields)


def _listener(options: Options, channel: str | None) -> str:
    """Return where the running engine takes messages of a channel, or of the only one."""
    channels = Client.of(options).get("/status")["channels"]
    found = {
        row["channel"]: row["endpoints"][0] for row in channels if row["endpoints"] and _is_port(row["endpoints"][0])
    }
    if channel is None and len(found) == 1:
        return str(next(iter(found.values())))
    if channel in found:
        return str(found[channel])
    names = ", ".join(found) or "none listens"
    message = f"say where: --to host:port, or --channel with one of the running channels ({names})"
    raise click.UsageError(message)


def _is_port(endpoint: str) -> bool:
    return endpoint.rpartition(":")[2].isdigit()


@contextlib.contextmanager
def _connected(place: str, timeout: float) -> Iterator[socket.socket]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        message = f"{place!r} is not host:port, such as 127.0.0.1:2575"
        raise click.BadParameter(message, param_hint="--to")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection
    except OSError as error:
        message = f"{place}: {error.strerror or 'no answer in time'}; is the engine running? Start it with: handoff run"
        raise Failure(message, UNREACHABLE) from error


def _exchange(connection: socket.socket, name: str, header: Header, body: bytes) -> Answer:
    begun = time.perf_counter()
    connection.sendall(frame(body))
    decoder, control_id = Decoder(_LARGEST), header.control_id.decode("latin-1")
    while data := connection.recv(_READ):
        for item in decoder.feed(data):
            if isinstance(item, Frame):
                return _answer(name, control_id, item.payload, round((time.perf_counter() - begun) * 1000, 3))
    message = "the connection was closed without an acknowledgment; the engine's log and `handoff quarantine` say why"
    raise Failure(message, UNREACHABLE)


def _answer(name: str, control_id: str, payload: bytes, took: float) -> Answer:
    from broker.wire.er7 import Message  # noqa: PLC0415 - costs more than sending

    try:
        answer = Message.parse(payload)
    except MessageError as error:
        return Answer(name, control_id, "", f"the answer cannot be read: {error}", (), took)
    code, text = answer.get("MSA-1") or "", answer.get("MSA-3") or ""
    if (answer.get("MSA-2") or "") != control_id:
        return Answer(name, control_id, "", f"the answer ({code}) is for another message", (), took)
    return Answer(name, control_id, code, text, tuple(_errors(answer)), took)


def _errors(answer: Any) -> Iterator[dict[str, str]]:
    if not answer.segments("ERR"):
        return
    location = "-".join(part for part in (answer.get("ERR-2.1"), answer.get("ERR-2.3")) if part)
    code = f"{answer.get('ERR-3.1') or ''} {answer.get('ERR-3.2') or ''}".strip()
    yield {"location": location, "code": code, "text": answer.get("ERR-8") or ""}


def _line(answer: Answer) -> str:
    told = [answer.text] if answer.text else []
    told += [" ".join(part for part in error.values() if part) for error in answer.errors]
    line = f"{answer.code or '??'}  {answer.file}  control id {answer.control_id}  {answer.milliseconds:.1f} ms"
    return "\n    ".join([line, *told])


def _identified(options: Options, answers: list[Answer]) -> list[Answer]:
    """Return the answers with our ids, as far as the console can be asked."""
    found: list[Answer] = []
    try:
        client = Client.of(options)
        for answer in answers[:_LOOKED_UP]:
            rows = client.get("/messages", control_id=answer.control_id, limit=1)["messages"]
            fields = {name: getattr(answer, name) for name in Answer.__slots__}
            found.append(Answer(**(fields | {"message_id": rows[0]["id"] if rows else None})))
    except (Failure, click.ClickException) as error:
        click.echo(f"message ids are not known: {error.format_message()}", err=True)
    return found + answers[len(found) :]


def _hint(answers: list[Answer]) -> None:
    for answer in answers[:_LOOKED_UP]:
        if answer.message_id:
            click.echo(f"next: handoff trace {answer.message_id}", err=True)
