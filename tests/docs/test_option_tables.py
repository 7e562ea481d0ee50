"""The tables of options and of metrics in the reference are what the Specs and the registry say."""

import re
from pathlib import Path
from typing import Final

from tests.docs.metric_table import table
from tests.docs.option_tables import tables

REFERENCE: Final = Path(__file__).parents[2] / "docs" / "reference"
TABLE: Final = re.compile(r"^<!-- options of ([a-z0-9_.]+) -->\n\n?((?:\|.*\n)+)", re.MULTILINE)


def test_tables_of_options_are_those_that_are_read() -> None:
    found = {name: text for page in REFERENCE.glob("*.md") for name, text in TABLE.findall(page.read_text())}
    assert found == tables(), "run: .venv/bin/python -m tests.docs.option_tables"


def test_table_of_metrics_is_what_the_registry_has() -> None:
    page = (REFERENCE / "metrics.md").read_text()
    assert table() in page, "run: .venv/bin/python -m tests.docs.metric_table"
