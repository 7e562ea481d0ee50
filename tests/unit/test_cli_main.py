"""The command's frame: help, exit codes, and a start that imports next to nothing."""

import json
import subprocess
import sys
from importlib import import_module

import click
import pytest

from broker.errors import ConfigError, NotReady
from console.cli import main


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever scripts this needs the codes."""
    assert main.invoke(["--help"]) == 0
    out = capsys.readouterr().out
    for name in main.COMMANDS:
        assert f"  {name} " in out
    for code in ("0  done", "1  findings", "2  usage", "3  not ready", "4  the engine", "5  not allowed"):
        assert code in out


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_exists_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The lazy table points at real commands."""
    module, _, attribute = main.COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.help
    assert main.invoke([name, "--help"]) == 0
    assert "Usage: handoff" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("two things are wrong"), 2),
        (NotReady("the port is taken"), 3),
        (main.Failure("nobody answers", 4), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_exit_codes_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    """Never a traceback."""

    def raising(_options: main.Options) -> None:
        raise error

    monkeypatch.setattr(main.Options, "settings", raising)
    assert main.invoke(["messages"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert str(error) in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["messages", "--nonsense"], ["trace"], ["messages", "--limit", "0"]]
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    """As every command line tool does."""
    assert main.invoke(arguments) == 2


def test_version_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs, too."""
    assert main.invoke(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version"}


def test_help_imports_nothing_heavy() -> None:
    """The start must stay well below a third of a second."""
    heavy = "pydantic,yaml,starlette,uvicorn,aiohttp,twisted,sqlalchemy,cryptography,hl7apy,jinja2,prometheus_client"
    code = (
        "import sys; from console.cli import main; main.invoke(['--help']); main.invoke(['trace', '--help']); "
        f"print([name for name in {heavy.split(',')!r} if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stderr.strip() == "[]"
