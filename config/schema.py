"""This module writes the JSON Schema of channel files, which editors use to complete and to check."""

from collections.abc import Mapping
from typing import Any, Final

from broker.spec import Spec
from config.catalog import DESTINATIONS, FORMATS, LISTENERS, STEPS
from config.channel import ChannelSpec, DeliverSpec
from config.settings import SettingsSpec
from dispatch.web.preset import PresetSpec
from transforms.profile import Profile

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def channel_schema() -> dict[str, Any]:
    """Return the schema of a channel file, short forms included."""
    definitions: dict[str, Any] = {}
    schema = _of(ChannelSpec, definitions)
    properties = schema["properties"]
    properties["format"] |= {"anyOf": [{"enum": list(FORMATS)}, _one_kind(FORMATS, definitions)]}
    properties["listen"] |= _one_kind(LISTENERS, definitions)
    properties["steps"] |= {"items": _one_kind(STEPS, definitions)}
    properties["deliver"] |= {"additionalProperties": _destination(definitions)}
    return {"$schema": _DIALECT, "title": "A Handoff channel", **schema, "definitions": definitions}


def settings_schema() -> dict[str, Any]:
    """Return the schema of handoff.yaml."""
    definitions: dict[str, Any] = {}
    schema = _of(SettingsSpec, definitions)
    return {"$schema": _DIALECT, "title": "Settings of Handoff", **schema, "definitions": definitions}


def profile_schema() -> dict[str, Any]:
    """Return the schema of a profile of validation."""
    definitions: dict[str, Any] = {}
    schema = _of(Profile, definitions)
    return {"$schema": _DIALECT, "title": "A profile of validation", **schema, "definitions": definitions}


def preset_schema() -> dict[str, Any]:
    """Return the schema of a preset of a system."""
    definitions: dict[str, Any] = {}
    schema = _of(PresetSpec, definitions)
    return {"$schema": _DIALECT, "title": "A preset of a system", **schema, "definitions": definitions}


def _of(spec: type[Spec], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = spec.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions.update(schema.pop("$defs", {}))
    schema.pop("title", None)
    return schema


def _one_kind(parts: Mapping[str, type[Spec]], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a mapping with exactly one of the kinds."""
    return {
        "type": "object",
        "properties": {name: _part(name, parts[name], definitions) for name in parts},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _destination(definitions: dict[str, Any]) -> dict[str, Any]:
    common = _of(DeliverSpec, definitions)
    kinds = _one_kind(DESTINATIONS, definitions)["properties"]
    return {
        "type": "object",
        "properties": common["properties"] | kinds,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in kinds],
    }


def _part(name: str, spec: type[Spec], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one part: its long form, and its short form where it has one."""
    long = _of(spec, definitions)
    key = spec.__name__
    definitions[key] = long
    about = " ".join((spec.__doc__ or name).split())
    forms: list[dict[str, Any]] = [{"$ref": f"#/definitions/{key}"}]
    if spec.short_form:
        forms.append(long["properties"][spec.short_form])
    if not long.get("required"):
        forms.append({"type": "null"})
    return {"description": about, "anyOf": forms} if len(forms) > 1 else {"description": about, "allOf": forms}
