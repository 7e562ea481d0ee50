"""This module holds `handoff send`: it puts HL7 messages on an MLLP connection and shows the acknowledgments."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import click

from broker.wire.charset import mark_of
from console.cli.client import Client, print_json
from console.cli.exchange import Answer, Letter, Unanswered, exchange, letter_of, unanswered
from console.cli.look import as_json
from console.cli.main import FINDINGS, UNREACHABLE, USAGE, Failure, Options

_LOOKED_UP: Final = 20  # messages whose id is asked for
_FRAMING: Final = b"\r\n\x0b\x1c\0"
_CONTROL_ID: Final = 9  # MSH-10, where MSH-1 is the separator itself


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
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

    Each FILE holds one message or one batch, which is sent whatever is wrong with it; line ends become those of HL7.
    What a message asks for in MSH-15 and MSH-16 is waited for. Exit code 1 if one is not accepted, 4 if one is not
    answered, 2 if a file cannot be read; the others are sent.
    """
    letters, unread = _letters(files, count)
    place = to or _listener(options, channel)
    answers: list[Answer] = []
    turns = (_renamed(letter, turn) if turn else letter for turn in range(count) for letter in letters)
    for got in _exchanges(place, turns, timeout):
        answers += got
        if not as_json and count == 1:
            click.echo("\n".join(map(_line, got)))
    accepted = sum(answer.accepted for answer in answers)
    _identify(options, answers, place)
    if as_json:
        told = list(map(asdict, [*answers, *unread]))
        print_json({"to": place, "sent": len(answers), "accepted": accepted, "answers": told})
    elif count > 1:
        click.echo(f"{accepted} of {len(answers)} accepted")
    _hint(answers)
    _judge(answers, accepted, len(unread))


def _judge(answers: list[Answer], accepted: int, unread: int) -> None:
    """Raise `Failure` where not everything was sent, answered and accepted; the worst of these decides."""
    if unread:
        message = f"{unread} of the files cannot be read"
        raise Failure(message, USAGE)
    silent = [answer for answer in answers if not answer.codes and not answer.accepted]
    if silent:
        message = silent[0].text if len(answers) == 1 else f"{len(silent)} of {len(answers)} not answered"
        raise Failure(message, UNREACHABLE)
    if accepted < len(answers):
        message = f"{len(answers) - accepted} of {len(answers)} not accepted"
        raise Failure(message, FINDINGS)


def _letters(files: tuple[Path, ...], count: int) -> tuple[list[Letter], list[Answer]]:
    """Return what is to be sent, and what is reported of files that cannot be read."""
    letters, unread = [], []
    for path in files:
        try:
            letters.append(_letter(path, count))
        except OSError as error:
            text = f"the file cannot be read: {error.strerror}"
            click.echo(f"{path}: {text}", err=True)
            unread.append(Answer(path.name, "", text=text))
    return letters, unread


def _letter(path: Path, count: int) -> Letter:
    body = path.read_bytes()
    if mark_of(body.lstrip(_FRAMING)[:8]) in {"", "utf-8-sig"}:  # the line ends of others are not single bytes
        body = body.strip(_FRAMING).replace(b"\r\n", b"\r").replace(b"\n", b"\r") + b"\r"
    letter = letter_of(path.name, body)
    if letter.batch and count > 1:
        message = f"{path} is a batch, and --count is for single messages: a batch sent again is one of duplicates"
        raise click.UsageError(message)
    return letter


def _renamed(letter: Letter, turn: int) -> Letter:
    """Return the message with a control id of its own: the same id and content again would be a duplicate."""
    (header,) = letter.headers
    bar = header.definition[:1]
    fields = letter.body.split(bar, _CONTROL_ID + 1) if bar else []
    if len(fields) <= _CONTROL_ID:
        return letter  # it has no MSH, or half of one, and is refused as often as it comes
    control_id = header.control_id[:12] + b"-%d" % turn
    fields[_CONTROL_ID] = control_id
    return replace(letter, body=bar.join(fields), headers=(header._replace(control_id=control_id),))


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


def _exchanges(place: str, letters: Iterator[Letter], timeout: float) -> Iterator[list[Answer]]:
    """Send letters one after the other; behind one that is not answered the next goes over a connection of its own."""
    waiting = next(letters, None)
    while waiting is not None:
        with _connected(place, timeout) as connection:
            while waiting is not None:
                letter, waiting = waiting, next(letters, None)
                try:
                    answers = exchange(connection, letter, timeout)
                except Unanswered as error:
                    yield unanswered(letter, str(error))
                    break
                yield answers


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


def _line(answer: Answer) -> str:
    told = [answer.text] if answer.text else []
    told += [" ".join(part for part in error.values() if part) for error in answer.errors]
    codes = " ".join(code or "??" for code in answer.codes) or ("--" if answer.accepted else "??")
    line = f"{codes}  {answer.file}  control id {answer.control_id}  {answer.milliseconds:.1f} ms"
    return "\n    ".join([line, *told])


def _identify(options: Options, answers: list[Answer], place: str) -> None:
    """Note our ids with the answers, as far as the console can be asked; of the channel at that place, if it is ours.

    A channel may have passed the message on, and then there is another under its control id.
    """
    try:
        client = Client.of(options)
        channels = client.get("/status")["channels"]
        channel = next((row["channel"] for row in channels if place in row["endpoints"]), None)
        for answer in answers[:_LOOKED_UP]:
            rows = client.get("/messages", control_id=answer.control_id, channel=channel, limit=1)["messages"]
            answer.message_id = rows[0]["id"] if rows else None
    except (Failure, click.ClickException) as error:
        click.echo(f"message ids are not known: {error.format_message()}", err=True)


def _hint(answers: list[Answer]) -> None:
    for answer in answers[:_LOOKED_UP]:
        if answer.message_id:
            click.echo(f"next: handoff trace {answer.message_id}", err=True)
