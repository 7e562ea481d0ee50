"""The page on FHIR and CDA names every resource, kind and release that the code knows."""

import re
from pathlib import Path

from broker.canonical.model import KINDS
from broker.fhir.releases import CHANGED, ONLY_R4
from transforms.map_cda_sections import _BY_CODE
from transforms.map_fhir_events import PARTS

PAGE = (Path(__file__).parents[2] / "docs/reference/fhir-and-cda.md").read_text()


def test_every_resource_that_is_mapped_has_its_row() -> None:
    rows = set(re.findall(r"^\| ([A-Z][A-Za-z]+) \|", PAGE, re.MULTILINE))
    assert rows >= set(PARTS)
    assert rows - set(PARTS) <= {"Patient", "Bundle"}


def test_kinds_are_kinds() -> None:
    for cell in re.findall(r"^\| [A-Z][A-Za-z]+ \| (`.*?) \|", PAGE, re.MULTILINE):
        group = ""
        for name in re.findall(r"`([a-z_.]+)`", cell):
            group = name.partition(".")[0] or group
            assert (group + name if name.startswith(".") else name) in KINDS


def test_resources_of_one_release_are_named() -> None:
    assert not [name for name in ONLY_R4 | CHANGED if name not in PAGE and not name.startswith("MedicinalProduct")]
    assert sum(name.startswith("MedicinalProduct") for name in ONLY_R4) == 10


def test_sections_are_listed_by_their_codes() -> None:
    assert not [code for code in _BY_CODE if code not in PAGE]
