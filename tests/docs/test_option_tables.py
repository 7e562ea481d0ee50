"""The tables of options in the reference are what the Specs say."""

import re
from pathlib import Path
from typing import Final

from tests.docs.option_tables import tables

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
TABLE: Final = re.compile(r"^<!-- options of ([a-z0-9_.]+) -->\n\n?((?:\|.*\n)+)", re.MULTILINE)


def test_tables_of_options_are_those_that_are_read() -> None:
    found = {name: text for page in REFERENCE.glob("*.md") for name, text in TABLE.findall(page.read_text())}
    assert found == tables(), "run: .venv/bin/python -m tests.docs.option_tables"
