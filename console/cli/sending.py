"""This module holds the commands for what is on its way: pause, resume, and the deliveries that wait."""

from typing import Any

import click

from console.cli.acting import actor, confirm
from console.cli.client import Client, print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, Failure, Options
from console.cli.show import clock, table


@click.command()
@click.argument("place", metavar="CHANNEL[/DESTINATION]")
@click.option("--reason", required=True, help="Why; shown to whoever wonders, and kept in the audit trail.")
@as_json
@click.pass_obj
def pause(options: Options, /, place: str, reason: str, *, as_json: bool) -> None:
    """Stop what goes to a destination, or what comes into a channel, until it is resumed.

    What is on the wire ends; everything else waits in the store, also over a restart.
    """
    _turn(options, "pause", place, reason, as_json=as_json)


@click.command()
@click.argument("place", metavar="CHANNEL[/DESTINATION]")
@click.option("--reason", default="", help="Why; kept in the audit trail.")
@as_json
@click.pass_obj
def resume(options: Options, /, place: str, reason: str, *, as_json: bool) -> None:
    """Let go on what was paused."""
    _turn(options, "resume", place, reason, as_json=as_json)


def _turn(options: Options, verb: str, place: str, reason: str, *, as_json: bool) -> None:
    channel, _, destination = place.partition("/")
    asked = {"channel": channel, "destination": destination or None, "actor": actor(), "reason": reason}
    found = Client.of(options).post(f"/{verb}", asked)
    done = {"pause": "paused", "resume": "resumed"}[verb]
    already = {"pause": "was paused already", "resume": "was not paused"}[verb]
    if as_json:
        print_json(found)
    else:
        click.echo(f"{place} {done if found['changed'] else already}")


@click.group()
def deliveries() -> None:
    """List deliveries that have not ended, and cancel those that wait."""


@deliveries.command("list")
@click.option("--channel", help="Of this channel only.")
@click.option("--destination", help="For this destination only.")
@click.option("--limit", type=click.IntRange(1, 1000), default=200, show_default=True, help="At most so many.")
@click.option("--before", metavar="ID", help="Older than this one; for the next page.")
@as_json
@click.pass_obj
def list_(options: Options, /, *, as_json: bool, **asked: Any) -> None:
    """List what waits or is being sent, the newest first."""
    found = Client.of(options).get("/deliveries", **asked)
    if as_json:
        print_json(found)
        return
    heads = ("id", "channel", "destination", "type", "state", "next attempt", "attempts", "reason")
    click.echo(table(heads, [_row(each) for each in found["deliveries"]]))


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    names = ("id", "channel", "destination", "type", "state")
    return (*(each[name] for name in names), clock(each["due_at"]), each["attempts"], each["reason"])


@deliveries.command()
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="All that waits.")
@click.option("--channel", help="With --all: of this channel only.")
@click.option("--destination", help="With --all: for this destination only.")
@click.option("--reason", required=True, help="Why; kept in the audit trail.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
@click.pass_obj
def cancel(
    options: Options, /, ids: tuple[str, ...], *, everything: bool, yes: bool, as_json: bool, **asked: Any
) -> None:
    """End deliveries that wait, for good: they are never sent."""
    if bool(ids) == everything:
        message = "say which: ids, or --all"
        raise click.UsageError(message)
    if not yes:
        confirm(f"cancel {'all that waits' if everything else len(ids)}?")
    found = Client.of(options).post(
        "/deliveries/cancel", {"ids": list(ids), "all": everything, "actor": actor(), **asked}
    )
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['count']} of {found['asked']} cancelled")
    if found["asked"] and not found["count"]:
        message = "nothing changed: none of these waits"
        raise Failure(message, FINDINGS)
