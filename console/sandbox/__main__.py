"""This module runs the sandbox as a process of its own: ``python -m console.sandbox HOST:PORT DATA_FOLDER``.

One line with its address goes to stdout once it can be reached. It stops at the end of stdin, so that whoever
started it need only let go. Exit code 3: it could not start, and stderr says why. The variable
`console.sandbox.ACCOUNTS` holds the accounts that may send texts, with their tokens, in JSON.
"""

import json
import os
import sys
from pathlib import Path

from broker.errors import NotReady
from console.sandbox import ACCOUNTS
from console.sandbox.app import serve


def tell(address: str) -> None:
    """Say on stdout where the sandbox is."""
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        serve(
            sys.argv[1],
            Path(sys.argv[2]),
            ready=tell,
            while_open=sys.stdin.fileno(),
            accounts=json.loads(os.environ.pop(ACCOUNTS, "{}")),
        )
    except NotReady as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(3)
