"""This module takes files that others made apart; what is in their rosters is compared by `tests.conformance`."""

from pathlib import Path
from typing import Final

import pytest

from broker.errors import MessageError
from broker.formats.delimited import CsvSpec
from broker.formats.hl7 import Hl7
from broker.wire.er7 import Message
from tests.conformance.flat_files import rows

DATA: Final = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the files of others in {DATA}")


def test_padded_lists_are_no_delimited_ones() -> None:
    with pytest.raises(MessageError, match="no column is set off"):
        rows(CsvSpec().build(None), DATA / "flat/bcda-app__dev_ZC8.txt")


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
