"""This module holds the commands about the engine's signing keys; a running engine sees what they change by itself."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from console.cli.client import print_json
from console.cli.look import as_json
from console.cli.main import FINDINGS, Failure, Options
from console.cli.show import clock, table


@click.group()
def keys() -> None:
    """Make, list and retire the keys that sign for EHRs and CRMs.

    Their public halves are what `handoff keys jwks` prints and the console serves at /.well-known/jwks.json.
    """


@keys.command()
@click.option(
    "--algorithm",
    type=click.Choice(["RS384", "ES384", "RS256", "ES256"]),
    default="RS384",
    show_default=True,
    help="What it signs with; SMART Backend Services takes the first two.",
)
@click.option("--now", "at_once", is_flag=True, help="Sign with it now, without a day in which others can fetch it.")
@as_json
@click.pass_obj
def make(options: Options, /, *, algorithm: str, at_once: bool, as_json: bool) -> None:
    """Make a key. The first signs from now on, a further one from tomorrow on: until then it is only published."""
    from dispatch import key_folder  # noqa: PLC0415 - costs much, used here only

    now = time.time()
    made = key_folder.make(_data(options), algorithm, now, at_once=at_once)
    if as_json:
        print_json(_told(made, now))
    else:
        click.echo(made.key.name)


@keys.command("list")
@as_json
@click.pass_obj
def list_(options: Options, /, *, as_json: bool) -> None:
    """List the keys, the newest first."""
    from dispatch import key_folder  # noqa: PLC0415 - costs much, used here only

    now = time.time()
    found = [_told(live, now) for live in key_folder.live_keys(_data(options))]
    if as_json:
        print_json({"keys": found})
        return
    rows = [(one["name"], one["algorithm"], clock(one["made_at"]), one["state"]) for one in found]
    click.echo(table(("key", "algorithm", "made", "state"), rows))


@keys.command()
@click.argument("name", metavar="KEY")
@click.pass_obj
def retire(options: Options, /, name: str) -> None:
    """Delete a key and take it out of the published set. The only key that signs with its algorithm stays."""
    from broker.errors import ConfigError  # noqa: PLC0415 - as the next
    from dispatch import key_folder  # noqa: PLC0415 - costs much, used here only

    try:
        key_folder.retire(_data(options), name, time.time())
    except ConfigError as error:
        raise Failure(str(error), FINDINGS) from None


@keys.command()
@click.pass_obj
def jwks(options: Options, /) -> None:
    """Print the public halves as a JSON Web Key Set, for a web server of your own."""
    from dispatch import key_folder  # noqa: PLC0415 - costs much, used here only

    print_json(key_folder.jwks(_data(options)))


def _data(options: Options) -> Path:
    return Path(options.settings().data)


def _told(live: Any, now: float) -> dict[str, Any]:
    signs_from = _iso(live.signs_from)
    return {
        "name": live.key.name,
        "algorithm": live.key.algorithm,
        "made_at": _iso(live.made_at),
        "signs_from": signs_from,
        "state": "signs" if live.signs(now) else f"published, signs from {clock(signs_from)}",
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
