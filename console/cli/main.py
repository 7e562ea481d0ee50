"""This module is the entry of `handoff`: its global options, its commands (imported when used), and its exit codes."""

import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from broker.errors import ConfigError, HandoffError

FINDINGS: Final = 1
USAGE: Final = 2
NOT_READY: Final = 3
UNREACHABLE: Final = 4
NOT_ALLOWED: Final = 5
INTERRUPTED: Final = 130

_EPILOG: Final = """\b
Exit codes:
  0  done                      3  not ready (port, key, database, disk)
  1  findings, or not accepted 4  the engine cannot be reached
  2  usage, or configuration   5  not allowed (the console's token)
\b
Results go to stdout, everything else to stderr; --json prints one JSON document.
Settings are in handoff.yaml. Variables (HANDOFF_DATA, HANDOFF_STORE, HANDOFF_CONSOLE,
HANDOFF_SANDBOX, HANDOFF_MLLP, HANDOFF_SET …) go before it, and --set before those.
"""

# Name -> where the command is, and one line about it, so that help and start need no import.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("console.cli.engine:run", "Start the engine with the channels in channels/."),
    "check": ("console.cli.engine:check", "Check the settings and every channel file; all findings at once."),
    "send": ("console.cli.send:send", "Send HL7 messages over MLLP and show the acknowledgments."),
    "messages": ("console.cli.look:messages", "List messages, the newest first."),
    "trace": ("console.cli.look:trace", "Show one message's journey: steps, deliveries, attempts."),
    "disclosures": ("console.cli.look:disclosures", "List what left about a patient: when, for whom, why."),
    "patients": ("console.cli.look:patients", "Look at the patient store."),
    "dead": ("console.cli.dead:dead", "List, replay and discard what waits for an operator."),
    "deliveries": ("console.cli.sending:deliveries", "List what is on its way, and cancel what waits."),
    "pause": ("console.cli.sending:pause", "Stop what goes to a destination, or what comes into a channel."),
    "resume": ("console.cli.sending:resume", "Let go on what was paused."),
    "quarantine": ("console.cli.look:quarantine", "List what arrived but never became a message."),
    "sandbox": ("console.cli.sandbox:sandbox", "The practice SMS gateway and EHR."),
    "status": ("console.cli.look:status", "Show the running engine and its channels."),
    "reload": ("console.cli.engine:reload", "Let changed channel files take effect."),
    "show": ("console.cli.files:show", "Show what files of messages hold, and what the engine makes of them."),
    "explain": ("console.cli.explain:explain", "Explain a location, segment, structure or code table of HL7 v2."),
    "keys": ("console.cli.keys:keys", "Make, list and retire the keys that sign for EHRs and CRMs."),
    "list": ("console.cli.listing:list_parts", "Show the parts that channels can use, and the presets of systems."),
    "schema": ("console.cli.engine:schema", "Print the JSON Schema of channel files, for editors."),
    "version": ("console.cli.engine:version", "Print the version."),
}


class Failure(click.ClickException):
    """Ends a command with one sentence on stderr and an exit code of ours."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code  # type: ignore[misc]  # a default of the class for click, ours per failure


@dataclass(slots=True)
class Options:
    """The global options; settings are read when a command asks for them."""

    config: Path | None = None
    sets: tuple[str, ...] = ()
    data: Path | None = None

    def settings(self) -> Any:
        """Return the `config.settings.Settings` in force. Raises `ConfigError` with everything that is wrong."""
        from config.settings import load  # noqa: PLC0415 - help and version need no settings

        return load(self.config, sets=self.sets, data=self.data)

    def read(self) -> Any:
        """Return the settings (None when they cannot be used) and all findings on them."""
        from config.settings import read_settings  # noqa: PLC0415 - help and version need no settings

        return read_settings(self.config, sets=self.sets, data=self.data)


class Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(cls=Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", type=click.Path(path_type=Path), help="The settings file (handoff.yaml).")
@click.option(
    "--set", "sets", multiple=True, metavar="A.B=C", help="Set one setting, also of a channel; may be given again."
)
@click.option("--data", type=click.Path(path_type=Path), help="The data folder (var).")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, sets: tuple[str, ...], data: Path | None) -> None:
    """Handoff takes messages from hospital systems and delivers them, and loses none."""
    ctx.obj = Options(config, sets, data)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit."""
    # Loading makes a hundred thousand objects that stay: looking through them for garbage takes a tenth of a start.
    # A command has ended before there is any worth mentioning; the engine sets its own pace once it runs.
    gc.disable()
    sys.exit(invoke(arguments))


def invoke(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        code = cli.main(arguments, prog_name="handoff", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except ConfigError as error:
        click.echo(str(error), err=True)
        return USAGE
    except HandoffError as error:
        click.echo(str(error), err=True)
        return NOT_READY
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our results has gone
        return 0
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    main()
