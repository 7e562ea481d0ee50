"""This module holds the commands that start, check and change the engine itself."""

import json
from typing import Any

import click

from console.cli.client import Client, print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, Options


@click.command()
@click.option(
    "--log", "lines", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Log lines."
)
@click.option("--verbose", is_flag=True, help="Log every fact, also those that are only counted otherwise.")
@click.pass_context
def run(ctx: click.Context, /, lines: str, *, verbose: bool) -> None:
    """Start the engine with the channels in channels/. SIGTERM and SIGINT stop it; SIGHUP reloads."""
    settings = ctx.obj.settings()
    from console.serve import serve  # noqa: PLC0415 - the engine is not needed by other commands

    ctx.exit(serve(settings, lines=lines, verbose=verbose, ready=tell_next))


def tell_next(console: str, sandbox: str | None, listeners: dict[str, str]) -> None:
    """Say on stderr where everything is, and what a newcomer does next."""
    for channel, endpoint in listeners.items():
        click.echo(f"{channel} listens on {endpoint}", err=True)
    click.echo(f"console http://{console}", err=True)
    if sandbox:
        click.echo(f"sandbox http://{sandbox}", err=True)
    click.echo("next: handoff send channels/messages/adt_a04.hl7", err=True)


@click.command()
@as_json
@click.pass_context
def check(ctx: click.Context, /, *, as_json: bool) -> None:
    """Check the settings and every channel file; all findings at once. Exit code 1 if there are any."""
    settings = ctx.obj.settings()
    from config.check import check as check_channels  # noqa: PLC0415 - costs much, used here only

    checked = check_channels(settings)
    findings: list[Any] = list(checked.findings)
    if as_json:
        print_json({"channels": len(checked.channels), "findings": [finding.to_json() for finding in findings]})
    elif findings:
        click.echo(checked.report())
    else:
        click.echo(f"{len(checked.channels)} channels, nothing to say", err=True)
    if findings:
        ctx.exit(FINDINGS)


@click.command()
@as_json
@click.pass_context
def reload(ctx: click.Context, /, *, as_json: bool) -> None:
    """Let changed channel files take effect. With findings the running revisions stay, and the exit code is 1."""
    found = Client.of(ctx.obj).post("/reload", {})
    if as_json:
        print_json(found)
    else:
        click.echo(f"{found['channels']} channels run" if found["ok"] else found["report"])
    if not found["ok"]:
        ctx.exit(FINDINGS)


@click.command()
def schema() -> None:
    """Print the JSON Schema of channel files, for editors."""
    from config.schema import channel_schema  # noqa: PLC0415 - costs much, used here only

    click.echo(json.dumps(channel_schema(), indent=2, ensure_ascii=False))


@click.command()
@as_json
@click.pass_obj
def version(_options: Options, /, *, as_json: bool) -> None:
    """Print the version."""
    from console.version import product_version  # noqa: PLC0415 - reads the environment

    print_json({"version": product_version()}) if as_json else click.echo(product_version())
