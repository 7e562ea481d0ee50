"""This module holds profiles: what a site declares on top of the standard, for validation to go by."""

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from broker.spec import Spec
from broker.wire.location import Location
from transforms.dictionary import ASSUMED, VERSIONS, Dictionary, check_location, dictionary
from transforms.mistakes import nearest

Code = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_SHORTEST_NAME: Final = 3


class FieldRule(Spec):
    """What a site asks of a field or a component; what is left out stays as the standard has it."""

    name: str = Field(default="", description="What the field is called, for a field of the site's own.")
    type: str | None = Field(default=None, description="Its data type, such as ST, DT, CX.")
    required: bool | None = Field(default=None, description="Whether it must be there.")
    repeat: bool | None = Field(default=None, description="Whether it may occur more than once.")
    table: str | None = Field(default=None, description='Its code table: a number such as "0001", or one of `tables`.')
    length: int | None = Field(default=None, ge=1, description="The most characters that it may have.")


class SegmentRule(Spec):
    """What a site asks of a segment; of a Z segment also its fields."""

    name: str = Field(default="", description="What the segment is called.")
    required: bool | None = Field(default=None, description="Whether every message must have it.")
    repeat: bool | None = Field(default=None, description="Whether it may occur more than once.")
    fields: dict[str, FieldRule] = Field(default={}, description="Of a Z segment: its fields by number.")


class TableRule(Spec):
    """A code table of a site's own, or more codes for one of HL7's."""

    name: str = Field(default="", description="What the table is called.")
    codes: list[Code] | None = Field(default=None, description="All codes; they replace HL7's where it has the table.")
    add: list[Code] = Field(default=[], description="Codes on top of HL7's.")


class Profile(Spec):
    """A profile: what one sender's messages look like where they differ from the standard."""

    description: str = Field(default="", description="Whose messages these are.")
    segments: dict[str, SegmentRule] = Field(default={}, description="Segments by name; Z segments with their fields.")
    fields: dict[str, FieldRule] = Field(
        default={}, description="Rules for fields and components of HL7's segments, by location: `PID-8`, `PID-3.4`."
    )
    tables: dict[str, TableRule] = Field(default={}, description="Code tables, by number or name.")


Keys = tuple[str, ...]


def mistakes(profile: Profile, version: str = "") -> Iterator[tuple[Keys, str, str]]:
    """Give what is wrong with a profile beyond its form: keys, sentence, hint."""
    known = dictionary(version if version in VERSIONS else ASSUMED)
    for name, segment in profile.segments.items():
        yield from _segment_mistakes(name, segment, profile, known)
    for location, rule in profile.fields.items():
        yield from _field_mistakes(location, rule, profile, known)
    for name, table in profile.tables.items():
        if table.codes is None and not table.add:
            yield ("tables", name), "a table needs codes", "write `codes:` with all of them, or `add:` with more"
        elif table.codes is None and name not in known.tables:
            yield ("tables", name, "add"), f"HL7 {known.version} has no table {name} to add to", "write `codes:`"


def _segment_mistakes(
    name: str, segment: SegmentRule, profile: Profile, known: Dictionary
) -> Iterator[tuple[Keys, str, str]]:
    own = name.startswith("Z") and len(name) == _SHORTEST_NAME and name.isalnum() and name.isupper()
    if not own and name not in known.segments:
        yield ("segments", name), f"{name} is no segment of HL7 {known.version}", nearest(name, known.segments)
    if not own and segment.fields:
        hint = f"write `fields: {{{name}-1: …}}`"
        yield ("segments", name, "fields"), "only Z segments declare their fields here", hint
    for number, rule in segment.fields.items():
        keys = ("segments", name, "fields", number)
        if not number.isdecimal() or not 0 < int(number) < 1000:  # noqa: PLR2004 - what a location can name
            yield keys, f"{number!r} is no number of a field", "fields are numbered from 1"
        yield from _rule_mistakes(keys, rule, profile, known)


def _field_mistakes(
    location: str, rule: FieldRule, profile: Profile, known: Dictionary
) -> Iterator[tuple[Keys, str, str]]:
    keys = ("fields", location)
    try:
        place = Location.parse(location)
    except ValueError as error:
        text, _, hint = str(error).partition("; ")
        yield keys, text, hint
        return
    if str(place) != str(Location(place.segment, place.field, place.component)) or not place.field:
        yield keys, f"{location} must name a field or a component of every repetition", "such as PID-3 or PID-3.4"
    elif place.segment.startswith("Z"):
        yield keys, "fields of a Z segment stand with the segment", f"write `segments: {{{place.segment}: …}}`"
    elif (wrong := check_location(place, known.version)) and (place.component or rule.type is None):
        text, _, hint = wrong.partition("; ")
        yield keys, text, hint
    elif place.component and (rule.repeat is not None or rule.type is not None):
        yield keys, "a component does not repeat, and has the type that its field gives it", ""
    yield from _rule_mistakes(keys, rule, profile, known)


def _rule_mistakes(keys: Keys, rule: FieldRule, profile: Profile, known: Dictionary) -> Iterator[tuple[Keys, str, str]]:
    if rule.type is not None and not known.is_datatype(rule.type):
        hint = nearest(rule.type, known.datatypes)
        yield (*keys, "type"), f"HL7 {known.version} has no data type {rule.type}", hint
    if rule.table is not None and rule.table not in profile.tables and rule.table not in known.tables:
        hint = f"declare it: `tables: {{{rule.table}: {{codes: […]}}}}`"
        yield (*keys, "table"), f"there is no table {rule.table}", hint
