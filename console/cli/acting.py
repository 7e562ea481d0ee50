"""This module holds what the commands that change something share: who does it, and asking before."""

import getpass
import os
import sys

import click

from console.cli.main import USAGE, Failure


def actor() -> str:
    """Return who runs this command, as the audit trail names them."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):  # a user without a name, as in some containers
        return f"{os.getuid()} (command line)"


def confirm(question: str) -> None:
    """Ask, and stop unless the answer is yes. Raises `Failure` where nobody can answer."""
    if not sys.stdin.isatty():
        message = "this asks first; add --yes where nobody can answer"
        raise Failure(message, USAGE)
    click.confirm(question, abort=True, err=True)
