"""This module holds the commands that start, check and change the engine itself."""

import json
import os
import sys
from shutil import which
from typing import Any

import click

from console.cli.client import Client, print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, USAGE, Options


@click.command()
@click.option(
    "--log", "lines", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of log lines."
)
@click.option("--verbose", is_flag=True, help="Log every fact, also those that are only counted otherwise.")
@click.pass_context
def run(ctx: click.Context, /, lines: str, *, verbose: bool) -> None:
    """Start the engine with the channels in channels/. SIGTERM and SIGINT stop it; SIGHUP reloads.

    With errors in the channel files it does not start: they go to stderr, all at once, and the exit code is 2.
    """
    settings = ctx.obj.settings()
    channels, told, errors = _recheck(settings)
    if told:
        click.echo(told, err=True)
    if errors:
        ctx.exit(USAGE)
    from console.reactor import run as run_loop  # noqa: PLC0415 - costs much, used here only
    from console.report import Report  # noqa: PLC0415 - costs much, used here only
    from console.serve import serve  # noqa: PLC0415 - costs much, used here only

    report = Report(lines=lines, verbose=verbose)
    ctx.exit(run_loop(serve(settings, channels, lambda: _recheck(settings), report, tell_next)))


def tell_next(started: Any) -> None:
    """Say on stderr where everything is, and what a newcomer does next; ``started`` is a `console.serve.Started`."""
    for channel, endpoints in started.endpoints.items():
        click.echo(f"{channel} listens on {' '.join(endpoints)}", err=True)
    click.echo(f"console   {started.console}", err=True)
    if started.sandbox:
        click.echo(f"sandbox   {started.sandbox}/", err=True)
    click.echo(f"next      {_ourselves()} send channels/messages/adt_a04.hl7", err=True)


def _ourselves() -> str:
    """Return what to type for this command: its name where the shell finds it, else the way to it."""
    return "handoff" if which("handoff") else os.path.relpath(sys.argv[0])


@click.command()
@as_json
@click.pass_context
def check(ctx: click.Context, /, *, as_json: bool) -> None:
    """Check the settings and every channel file; all findings at once.

    Exit code 1 if one of them is an error, 2 if the settings themselves cannot be used.
    """
    from config.findings import counted, has_errors, in_order, report  # noqa: PLC0415 - costs much, used here only

    settings, findings = ctx.obj.read()
    channels: Any = ()
    if settings is not None:
        channels, findings = _checked(settings)
    else:
        findings = [*findings, *_unsettled(ctx.obj.config)]
    if as_json:
        names = [channel.name for channel in channels]
        print_json({"channels": names, "findings": [found.as_json() for found in in_order(findings)]})
    elif findings:
        click.echo(report(findings))
    else:
        click.echo(f"{counted(len(channels), 'channel')}, no findings", err=True)
    if has_errors(findings):
        ctx.exit(USAGE if settings is None else FINDINGS)


def _unsettled(config: Any) -> Any:
    """Return what is wrong with the channel files by themselves, so that nobody has to mend the settings first."""
    from config.check import check_without_settings  # noqa: PLC0415 - costs much, used here only
    from config.settings import channels_folder  # noqa: PLC0415 - as above

    return check_without_settings(*channels_folder(config))


def _recheck(settings: Any) -> tuple[Any, str, int]:
    """Return the channels, the report of what was found in their files, and how many of that are errors."""
    from config.findings import report  # noqa: PLC0415 - costs much, used here only

    channels, findings = _checked(settings)
    return channels, report(findings), sum(found.severity == "error" for found in findings)


def _checked(settings: Any) -> tuple[Any, Any]:
    """Return the channels of the channel files as they are now, and every finding, those of the settings too."""
    from config.check import check as check_files  # noqa: PLC0415 - costs much, used here only

    checked = check_files(settings)
    return checked.channels, checked.findings


@click.command()
@as_json
@click.pass_context
def reload(ctx: click.Context, /, *, as_json: bool) -> None:
    """Let changed channel files take effect. With findings the running revisions stay, and the exit code is 1."""
    found = Client.of(ctx.obj).post("/reload", {})
    if as_json:
        print_json(found)
    else:
        click.echo(f"channels running: {found['channels']}" if found["ok"] else found["report"])
    if not found["ok"]:
        ctx.exit(FINDINGS)


@click.command()
@click.option("--profile", is_flag=True, help="Of profiles of validation instead.")
@click.option("--preset", is_flag=True, help="Of presets of systems instead.")
def schema(*, profile: bool, preset: bool) -> None:
    """Print the JSON Schema of channel files, for editors."""
    from config.schema import channel_schema, preset_schema, profile_schema  # noqa: PLC0415 - costs much, used here only

    written = profile_schema() if profile else preset_schema() if preset else channel_schema()
    click.echo(json.dumps(written, indent=2, ensure_ascii=False))


@click.command()
@as_json
@click.pass_obj
def version(_options: Options, /, *, as_json: bool) -> None:
    """Print the version."""
    from console.version import product_version  # noqa: PLC0415 - costs much, used here only

    print_json({"version": product_version()}) if as_json else click.echo(product_version())
