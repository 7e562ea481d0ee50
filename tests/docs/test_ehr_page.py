"""The pages on EHRs and on authentication say what the profiles and the Specs say."""

import re
from pathlib import Path
from typing import Final

from config.auth import AuthSpec, TokenSpec
from tests.docs.ehr_page import PAGE, page

AUTHENTICATE: Final = Path(__file__).parents[2] / "docs/howto/authenticate.md"


def test_page_on_ehrs_is_as_the_profiles_are() -> None:
    assert PAGE.read_text() == page(), "write it again: python -m tests.docs.ehr_page"


def test_every_way_of_authenticating_is_told_with_its_options() -> None:
    text = AUTHENTICATE.read_text()
    rows = {row[0].strip("`"): set(re.findall(r"`([a-z_]+)`", row[2])) for row in _rows(text)}
    shared = set(TokenSpec.model_fields)
    assert shared <= set(re.findall(r"`([a-z_]+)`", text.partition("Those that fetch a token")[2]))
    assert set(rows) == set(AuthSpec.model_fields)
    for way, options in rows.items():
        spec = next(part for part in AuthSpec.model_fields[way].annotation.__args__ if part is not type(None))  # type: ignore[union-attr]  # X | None
        assert options - {"basic", "body"} == set(spec.model_fields) - shared, way


def _rows(text: str) -> list[list[str]]:
    table = text.partition("| way | for | options |\n|---|---|---|\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
