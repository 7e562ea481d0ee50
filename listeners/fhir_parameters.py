"""This module is what channels say of what a FHIR server is asked for: types of resources, and parameters."""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from broker.fhir.elements import is_resource


def _known(kind: str) -> str:
    if not is_resource(kind):
        raise ValueError("is no resource of FHIR R4; one is Patient, Observation or Encounter")
    return kind


ResourceType = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z]{1,63}$"), AfterValidator(_known)]
Parameters = dict[str, str | tuple[str, ...]]


def refuse_ours(parameters: Parameters, ours: frozenset[str]) -> None:
    """Raise `ValueError` where parameters that a channel declares are those that the engine sets itself."""
    for name in parameters:
        if name.partition(":")[0] in ours:
            raise ValueError(f"{name} is the engine's own, or would leave parts of resources out; remove it")


def pairs_of(parameters: Parameters) -> list[tuple[str, str]]:
    """Return parameters as they go into an address: one that has several values is there as often."""
    return [
        (name, value) for name, given in parameters.items() for value in ((given,) if isinstance(given, str) else given)
    ]
