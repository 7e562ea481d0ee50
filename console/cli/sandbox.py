"""This module holds `handoff sandbox`: the practice SMS gateway and EHR, served alone, and what arrived there."""

from pathlib import Path
from typing import Any

import click

from console.cli.client import fetch, print_json
from console.cli.look import as_json
from console.cli.main import UNREACHABLE, Failure, Options
from console.cli.show import clock, outline, table


@click.group()
def sandbox() -> None:
    """Practise with an SMS gateway and an EHR that keep what arrives."""


@sandbox.command()
@click.option("--endpoint", help="host:port instead of sandbox.endpoint of the settings.")
@click.pass_obj
def serve(options: Options, /, endpoint: str | None) -> None:
    """Serve the sandbox alone, until it is interrupted."""
    from config.serving import sandbox_accounts  # noqa: PLC0415 - settings are read only where they are needed
    from console.sandbox.app import serve as serve_sandbox  # noqa: PLC0415 - costs much, used here only

    settings = options.settings()
    serve_sandbox(
        endpoint or settings.sandbox.endpoint,
        Path(settings.data),
        ready=lambda address: click.echo(f"sandbox at {address}", err=True),
        accounts=sandbox_accounts(settings.sandbox, settings.gateways),
    )


@sandbox.command()
@click.option("--endpoint", help="host:port instead of sandbox.endpoint of the settings.")
@as_json
@click.pass_obj
def log(options: Options, /, endpoint: str | None, *, as_json: bool) -> None:
    """Show the texts and write-backs that arrived."""
    place = endpoint or options.settings().sandbox.endpoint
    status, found = fetch(place, "GET", "/log", None, {})
    if status != 200 or not isinstance(found, dict):  # noqa: PLR2004 - OK
        message = f"what answers at {place} is not the sandbox ({status}); look at sandbox.endpoint"
        raise Failure(message, UNREACHABLE)
    print_json(found) if as_json else click.echo(_shown(found))


def _shown(found: dict[str, Any]) -> str:
    texts = [(clock(each["at"]), each["to"], each["body"]) for each in found["texts"]]
    writes = [(clock(each["at"]), each["verb"], f"{each['type']}/{each['id']}") for each in found["write_backs"]]
    parts = [table(("at", "to", "text"), texts), table(("at", "verb", "resource"), writes)]
    parts += [outline(each["body"], 1) for each in found["write_backs"][-1:]]
    return "\n\n".join(parts)
