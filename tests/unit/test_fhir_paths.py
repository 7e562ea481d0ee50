"""Values are looked up in FHIR resources by path, and a path that is none says where."""

from typing import Any

import pytest

from broker.fhir.paths import at, outline
from tests.fhir_resources import KINDS, bundle, resource


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Patient", "Patient.name[1].family", "Testwood"),
        ("Patient", "name[1].given[1]", "B"),
        ("Patient", "Patient.birthDate", "1962-09-10"),
        ("Patient", "Patient.name.given", "Addie"),
        ("Patient", "name[use=official].family", "Testwood"),
        ("Patient", "telecom[system = 'email'].value", "ada@example.org"),
        ("Patient", "identifier[type.coding.code=MR].value", "OLD-1"),
        ("Patient", "identifier[use=usual].value", "MR-1"),
        ("Patient", "communication[preferred=true].language.coding.code", "en"),
        ("Patient", "identifier[type=MR].value", None),
        ("Patient", "multipleBirth", 2),
        ("Patient", "Observation.status", None),
        ("Patient", "name[9].family", None),
        ("Patient", "birthDate[1]", None),
        ("Patient", "birthDate.year", None),
        ("Patient", "active", True),
        ("Observation", "Observation.component[0].value.value", 128),
        ("Observation", "Observation.component[code.coding.code=8480-6].valueQuantity.unit", "mmHg"),
        ("Observation", "effective", "2026-11-20T10:00:00Z"),
    ],
)
def test_values_are_found(kind: str, path: str, value: Any) -> None:
    assert at(resource(kind), path) == value


def test_bundles_are_walked_into() -> None:
    both = bundle("collection", resource("Patient"), resource("Encounter"))
    assert at(both, "Bundle.entry[1].resource.status") == "finished"
    assert at(both, "Bundle.entry[1].resource")["resourceType"] == "Encounter"
    assert at(both, "Patient.birthDate") is None
    assert at([], "Patient.name") is None


@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("", 1),
        (".name", 1),
        ("Patient..name", 9),
        ("Patient.name[", 13),
        ("Patient.name[x]", 14),
        ("Patient.name[0]family", 16),
        ("Patient.name.", 14),
        ("name[a..b=1]", 3),
        ("PID-3.1", 4),
    ],
)
def test_what_is_no_path_is_refused_with_its_column(path: str, column: int) -> None:
    with pytest.raises(ValueError, match=f"column {column}: "):
        at(resource("Patient"), path)


def test_a_path_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 500 characters"):
        at({}, "a." * 400)


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_of_an_outline_is_found_at_its_path(kind: str) -> None:
    made = resource(kind)
    listed = list(outline(made))
    assert len(listed) > 5
    assert [(path, at(made, path)) for path, _ in listed] == listed


def test_outline_keeps_the_order_of_what_was_sent() -> None:
    assert [path for path, _ in outline({"resourceType": "Patient", "name": [{"given": ["A", "B"]}], "id": "1"})] == [
        "Patient.resourceType",
        "Patient.name[0].given[0]",
        "Patient.name[0].given[1]",
        "Patient.id",
    ]
