"""This module knows what each EHR takes: the profiles of ``dispatch/ehr``, and what a CapabilityStatement says.

A profile is data: which resources a server lets others create, update or patch, what it finds them by, which headers it
needs, what its own error codes mean, and what works instead where it takes nothing over FHIR.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import yaml
from pydantic import Field, ValidationError

from broker.errors import ConfigError
from broker.spec import Seconds, Spec

Interaction = Literal["create", "update", "patch"]
BundleKind = Literal["transaction", "batch"]

INTERACTIONS: Final = ("create", "update", "patch")
ANY: Final = "*"  # in place of a resource type: all of them

_FOLDER: Final = "ehr"
_LARGEST_STATEMENT: Final = 16 * 1024 * 1024  # bytes
_FREE: Final = frozenset({"_format", "_count", "_sort", "_summary", "_elements", "_id"})  # whatever a server declares


class KnownError(Spec):
    """What one of a system's own error codes means for a delivery."""

    outcome: Literal["delivered", "retry", "rejected"] = Field(
        description="What became of it: the effect is there already, nothing happened yet, or never will."
    )
    means: str = Field(min_length=1, description="What it means, in our words.")
    after: Seconds | None = Field(default=None, description="How long to wait, for `retry`.")


class EhrProfile(Spec):
    """What one kind of EHR takes, and how it wants it."""

    system: str = Field(min_length=1, description="What people call it.")
    source: str = Field(min_length=1, description="Where this is known from.")
    captured: str = Field(default="", description="The day on which the source was read, YYYY-MM-DD.")
    auth: list[str] = Field(default=[], description="The ways of `auth:` that it knows, the usual first.")
    headers: dict[str, str] = Field(default={}, description="Headers that every request needs.")
    versions: Literal["required", "used", "none"] = Field(
        default="used",
        description="Whether an update has to name the version (If-Match), may, or there are no versions.",
    )
    concurrency: int | None = Field(default=None, ge=1, le=100, description="How many requests it likes at a time.")
    writes: dict[str, list[Interaction]] = Field(description="What may be done with each resource type.")
    searches: dict[str, list[str]] = Field(default={}, description="What each type that can be written is found by.")
    bundles: list[BundleKind] = Field(default=[], description="The kinds of Bundle that it takes.")
    conditional_create: list[str] = Field(default=[], description="Types of which it heeds If-None-Exist.")
    errors: dict[str, KnownError] = Field(default={}, description="What its own error codes mean.")
    instead: dict[str, str] = Field(default={}, description="What works where a write does not; * is for all the rest.")
    notes: list[str] = Field(default=[], description="What else one has to know.")

    def allows(self, kind: str, interaction: str) -> bool:
        """Say whether it takes this; a Bundle's interaction is its type."""
        if kind == "Bundle":
            return interaction in self.bundles
        return interaction in self.writes.get(kind, self.writes.get(ANY, []))

    def finds(self, kind: str, parameter: str) -> bool:
        """Say whether resources of a type are found by a search parameter (modifiers and chains are left out)."""
        name = parameter.partition(":")[0].partition(".")[0]
        return ANY in self.writes or name in _FREE or name in self.searches.get(kind, ())

    def advice(self, kind: str) -> str:
        """Say what works instead of a write that is not taken."""
        if kind == "Bundle":
            kinds = f", or as a {' or '.join(self.bundles)}" if self.bundles else ""
            return f"write each resource in a destination of its own{kinds}"
        taken = self.writes.get(kind)
        there = f"it takes {kind} by {', '.join(taken)}" if taken else ""
        other = self.instead.get(kind, self.instead.get(ANY, ""))
        return (
            "; ".join(part for part in (there, other) if part) or f"it takes {', '.join(sorted(self.writes)) or 'none'}"
        )

    def refusal(self, kind: str, interaction: str) -> str:
        """Return why a write is not taken; empty where it is."""
        if self.allows(kind, interaction):
            return ""
        what = f"Bundle of type {interaction}" if kind == "Bundle" else f"{interaction} of {kind}"
        return f"{self.system} takes no {what} over FHIR"


def profile_names() -> list[str]:
    """Return the names of the profiles that there are."""
    folder = files("dispatch") / _FOLDER
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


@cache
def find_profile(name: str) -> EhrProfile:
    """Return the profile of a name; raise `ConfigError` when there is none or it is written wrongly."""
    if name not in profile_names():
        message = f"there is no EHR profile {name!r} (there: {', '.join(profile_names())})"
        raise ConfigError(message)
    text = (files("dispatch") / _FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return EhrProfile.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        message = f"dispatch/ehr/{name}.yaml cannot be used: {error}"
        raise ConfigError(message) from None


def with_statement(profile: EhrProfile, path: Path) -> EhrProfile:
    """Return a profile with what a saved CapabilityStatement says; raise `ConfigError` when the file holds none."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_STATEMENT)
        statement = orjson.loads(content)
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror})"
        raise ConfigError(message) from None
    except orjson.JSONDecodeError:
        statement = None
    if not isinstance(statement, dict) or statement.get("resourceType") != "CapabilityStatement":
        message = f"{path} holds no CapabilityStatement; save what the server answers to GET [base]/metadata as JSON"
        raise ConfigError(message)
    return profile.model_copy(update={**abilities(statement), "source": str(path)})


def abilities(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a profile that a CapabilityStatement (FHIR R4) tells."""
    rest = next((one for one in _objects(statement.get("rest")) if one.get("mode") == "server"), {})
    found = [one for one in _objects(rest.get("resource")) if isinstance(one.get("type"), str)]
    writes = {one["type"]: taken for one in found if (taken := [i for i in INTERACTIONS if i in _codes(one)])}
    searches = {
        one["type"]: sorted({str(parameter.get("name")) for parameter in _objects(one.get("searchParam"))} - _FREE)
        for one in found
        if one["type"] in writes
    }
    versions = {one.get("versioning") for one in found if one["type"] in writes}
    told: dict[str, Any] = {
        "writes": writes,
        "searches": {kind: names for kind, names in searches.items() if names},
        "bundles": [kind for kind in ("transaction", "batch") if kind in _codes(rest)],
        "conditional_create": [one["type"] for one in found if one.get("conditionalCreate") is True],
    }
    if versions == {"no-version"}:
        told["versions"] = "none"
    elif "versioned-update" in versions:
        told["versions"] = "required"
    return told


def _codes(entry: Mapping[str, Any]) -> set[str]:
    return {str(one.get("code")) for one in _objects(entry.get("interaction"))}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
