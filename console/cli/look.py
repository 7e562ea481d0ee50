"""This module holds the commands that look at the running engine and change nothing."""

import re
import time
import urllib.parse
from typing import Any

import click

from console.cli.client import Client, print_json
from console.cli.main import NOT_READY, Options
from console.cli.show import clock, journey, outline, table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
limited = click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")


@click.command()
@click.option("--control-id", help="MSH-10, exactly.")
@click.option("--state", help="Of the message (received, processed, filtered, failed) or of one of its deliveries.")
@click.option("--channel", help="Of this channel only.")
@click.option("--mrn", help="Short for --index mrn=…")
@click.option("--index", multiple=True, metavar="NAME=VALUE", help="A value that the channel indexes, exactly.")
@click.option("--since", metavar="2h", help="Received in the last 30s, 10m, 2h, 7d.")
@click.option("--before", metavar="ID", help="Older than this message; for the next page.")
@limited
@as_json
@click.pass_obj
def messages(options: Options, /, *, as_json: bool, since: str | None, **asked: Any) -> None:
    """List messages, the newest first."""
    asked["since"] = _since(since)
    found = Client.of(options).get("/messages", **asked)
    if as_json:
        print_json(found)
        return
    heads = ("id", "received", "channel", "type", "control id", "state", "deliveries")
    click.echo(table(heads, [_message(row) for row in found["messages"]]))


def _message(row: dict[str, Any]) -> tuple[Any, ...]:
    deliveries = ", ".join(f"{each['destination']} {each['state']}" for each in row["deliveries"])
    shown = deliveries or row["reason"]
    return (row["id"], clock(row["received_at"]), row["channel"], row["type"], row["control_id"], row["state"], shown)


def _since(text: str | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not found:
        message = f"{text!r} is not a time; write 30s, 10m, 2h or 7d"
        raise click.BadParameter(message, param_hint="--since")
    return time.time() - int(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("identifier", metavar="ID")
@as_json
@click.pass_obj
def trace(options: Options, /, identifier: str, *, as_json: bool) -> None:
    """Show one message's journey: steps, deliveries, attempts.

    ID is the id of a message or a delivery, or a control id (MSH-10).
    """
    found = Client.of(options).get(f"/trace/{urllib.parse.quote(identifier, safe='')}")
    print_json(found) if as_json else click.echo(journey(found))


@click.command()
@click.option("--mrn", help="The patient's record number: short for --index mrn=…")
@click.option("--index", metavar="NAME=VALUE", help="A value that the channels index, exactly.")
@click.option("--since", metavar="90d", help="Left in the last 30s, 10m, 2h, 7d.")
@as_json
@click.pass_obj
def disclosures(options: Options, /, mrn: str | None, index: str | None, since: str | None, *, as_json: bool) -> None:
    """List what left about a patient: when, for whom, what and why (45 CFR 164.528). No bodies."""
    if bool(mrn) == bool(index):
        message = "say whose: --mrn, or --index NAME=VALUE"
        raise click.UsageError(message)
    found = Client.of(options).get("/disclosures", mrn=mrn, index=index, since=_since(since))
    if as_json:
        print_json(found)
        return
    heads = ("date", "recipient", "address", "description", "purpose", "outcome", "delivery")
    rows = [
        (clock(d["at"]), d["recipient"], d["address"], d["description"], d["purpose"], d["outcome"], d["delivery_id"])
        for d in found["disclosures"]
    ]
    click.echo(table(heads, rows))


@click.group()
def patients() -> None:
    """Look at the patient store."""


@patients.command("show")
@click.option("--mrn", required=True, help="The identifier.")
@click.option("--system", help="Its assigning authority.")
@as_json
@click.pass_obj
def show_patients(options: Options, /, mrn: str, system: str | None, *, as_json: bool) -> None:
    """Show the patients that have an identifier, with what is known of them."""
    found = Client.of(options).get("/patients", mrn=mrn, system=system)
    print_json(found) if as_json else click.echo(outline(found["patients"]) or "no patient has this identifier")


@click.command()
@limited
@as_json
@click.pass_obj
def quarantine(options: Options, /, limit: int, *, as_json: bool) -> None:
    """List what arrived but never became a message."""
    found = Client.of(options).get("/quarantine", limit=limit)
    if as_json:
        print_json(found)
        return
    heads = ("id", "received", "channel", "peer", "bytes", "reason")
    rows = [
        (q["id"], clock(q["received_at"]), q["channel"], q["peer"], q["size"], q["reason"]) for q in found["quarantine"]
    ]
    click.echo(table(heads, rows))


@click.command()
@as_json
@click.pass_context
def status(ctx: click.Context, /, *, as_json: bool) -> None:
    """Show the running engine and its channels, with counts since midnight.

    Exit code 3 if a channel does not run, or nothing is taken in; one that is paused, or whose source is away, runs.
    """
    found = Client.of(ctx.obj).get("/status")
    if as_json:
        print_json(found)
    else:
        heads = ("channel", "state", "endpoints", "received", "filtered", "failed", "queued", "delivered", "dead")
        click.echo(table(heads, [_channel(row) for row in found["channels"]]))
        if found["intake"]["reason"]:
            click.echo(f"nothing is taken in: {found['intake']['reason']}")
        for line in _not_running(found):
            click.echo(line)
        click.echo(f"version {found['version']}, running since {clock(found['started_at'])}", err=True)
    if found["intake"]["reason"] or any(row["state"] not in _RUNS for row in found["channels"]):
        ctx.exit(NOT_READY)


_RUNS = frozenset({"running", "paused", "away"})
_STATES = {
    "paused": "paused",
    "held": "held by its channel file",
    "quiet": "quiet hours",
    "open": "fails; left alone for a while",
    "half_open": "fails; one delivery tries",
    "busy": "asked for time",
    "stopped": "does not run",
}


def _not_running(found: dict[str, Any]) -> list[str]:
    """Return a line for each channel that is away, each destination that nothing is sent to, and who paused what."""
    places = {row["channel"]: row["reason"] for row in found["channels"] if row["reason"]}
    places |= {
        f"{row['channel']}/{each['destination']}": _STATES.get(each["state"], each["state"])
        for row in found["channels"]
        if row["state"] != "stopped"
        for each in row["destinations"]
        if each["state"] != "running"
    }
    for each in found["pauses"]:
        place = f"{each['channel']}/{each['destination']}" if each["destination"] else each["channel"]
        places[place] = f"paused since {clock(each['asked_at'])} by {each['actor']}: {each['reason']}"
    return [f"{place}: {what}" for place, what in places.items()]


def _channel(row: dict[str, Any]) -> tuple[Any, ...]:
    today = row["today"]
    counts = (today["received"], today["filtered"], today["failed"], row["queued"], today["delivered"], row["dead"])
    return (row["channel"], row["state"], " ".join(row["endpoints"]), *counts)
