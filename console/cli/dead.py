"""This module holds `handoff dead`: what waits for an operator, and what the operator can do about it."""

from typing import Any

import click

from console.cli.acting import actor, confirm
from console.cli.client import Client, print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, Failure, Options
from console.cli.show import clock, table


@click.group()
def dead() -> None:
    """List, replay and discard what waits for an operator."""


@dead.command("list")
@click.option("--channel", help="Of this channel only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="At most so many.")
@click.option("--before", metavar="ID", help="Older than this one; for the next page.")
@as_json
@click.pass_obj
def list_(options: Options, /, *, as_json: bool, **asked: Any) -> None:
    """List dead and held deliveries and failed messages, the newest first."""
    found = Client.of(options).get("/dead", **asked)
    if as_json:
        print_json(found)
        return
    heads = ("id", "failed", "channel", "where", "state", "class", "attempts", "location", "reason")
    click.echo(table(heads, [_row(letter) for letter in found["dead"]]))


def _row(letter: dict[str, Any]) -> tuple[Any, ...]:
    where = letter["destination"] or f"step {letter['step']}"
    rest = (letter[name] for name in ("state", "class", "attempts", "location", "reason"))
    return (letter["id"], clock(letter["failed_at"]), letter["channel"], where, *rest)


def _acting(command: Any) -> Any:
    decorators: tuple[Any, ...] = (
        as_json,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--reason", default="", help="Why; kept in the audit trail."),
        click.option("--channel", help="With --all: of this channel only."),
        click.option("--all", "everything", is_flag=True, help="All that waits."),
        click.argument("ids", nargs=-1, metavar="[ID]…"),
    )
    for decorate in decorators:
        command = decorate(command)
    return command


@dead.command()
@_acting
@click.pass_obj
def replay(options: Options, /, **asked: Any) -> None:
    """Run dead letters again: the same bytes, the same idempotency key, the same place in the lane."""
    _act(options, "replay", "run again", **asked)


@dead.command()
@_acting
@click.pass_obj
def discard(options: Options, /, **asked: Any) -> None:
    """Give dead letters up for good. Needs a --reason."""
    if not asked["reason"].strip():
        message = "discarding gives up a delivery for good; say why with --reason"
        raise click.UsageError(message)
    _act(options, "discard", "discarded", **asked)


def _act(
    options: Options,
    act: str,
    done: str,
    *,
    ids: tuple[str, ...],
    everything: bool,
    channel: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    if bool(ids) == everything:
        message = "say which: ids, or --all"
        raise click.UsageError(message)
    what = f"all that waits{f' in {channel}' if channel else ''}" if everything else f"{len(ids)}"
    if not yes:
        confirm(f"{act} {what}?")
    asked = {
        "ids": list(ids),
        "all": everything,
        "channel": channel,
        "actor": actor(),
        "reason": reason,
    }
    found = Client.of(options).post(f"/dead/{act}", asked)
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['count']} of {found['asked']} {done}")
    if found["asked"] and not found["count"]:
        message = "nothing changed: none of these waits for an operator"
        raise Failure(message, FINDINGS)
