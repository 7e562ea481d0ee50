"""This module says in an analyst's words what a Spec refused, and points at the place in the file."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import orjson
from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from broker.spec import Spec
from config.findings import Finding, did_you_mean, nearest
from config.marks import Keys, Marks, show

S = TypeVar("S", bound=Spec)

_NO_OPTIONS: Final = "it has no options: write {}"
_LONGEST_SHOWN: Final = 40  # characters of a value that are repeated in a sentence
_YES_NO: Final = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}
_QUOTED_WORD: Final = re.compile(r"'([^']*)'")


def validate(spec: type[S], value: Any, keys: Keys, marks: Marks, findings: list[Finding]) -> S | None:
    """Make a Spec of what stands at ``keys``; add what is wrong to ``findings`` and return None instead.

    A bare value fills the Spec's ``short_form``; nothing means no options.
    """
    full, short = long_form(spec, value)
    if not isinstance(full, dict):
        text = f"{_owner(keys)} needs keys and values, found {found(value)}"
        findings.append(marks.value(keys).finding("E106", text, _keys_hint(spec)))
        return None
    try:
        return spec.model_validate_json(orjson.dumps(full), strict=True)
    except ValidationError as error:
        refused = error.errors(include_url=False)
        place = _Place(spec, full, keys, marks, short)
        findings.extend(_worded(refused, place))
        return None


def long_form(spec: type[Spec], value: Any) -> tuple[Any, str]:
    """Return what was written as a mapping of fields, and the field that a short form filled (empty: none was used)."""
    if value is None:
        return {}, ""  # the key alone means: no options
    field = spec.short_form
    return ({field: value}, field) if field and not isinstance(value, dict) else (value, "")


def found(value: Any) -> str:
    """Say what was found instead."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST_SHOWN else f"{value[: _LONGEST_SHOWN - 1]}…"
        return f'"{text}"' if text.strip() else "empty text"
    return "a list" if isinstance(value, list) else "keys and values"


class _Place:
    """The Spec that refused something, what was given to it, and where that was written."""

    def __init__(self, spec: type[Spec], value: Any, keys: Keys, marks: Marks, short: str) -> None:
        self.spec = spec
        self.marks = marks
        self._value = value
        self._keys = keys
        self._short = short

    def locate(self, loc: tuple[str | int, ...]) -> Keys:
        """Return the keys in the file for pydantic's location; what only it knows by name is left out."""
        inner, _ = self._walk(loc)
        if self._short and inner[:1] == (self._short,):
            inner = inner[1:]
        return (*self._keys, *inner)

    def given(self, loc: tuple[str | int, ...]) -> Any:
        """Return the value at pydantic's location."""
        return self._walk(loc)[1]

    def _walk(self, loc: tuple[str | int, ...]) -> tuple[Keys, Any]:
        keys: Keys = ()
        value = self._value
        for part in loc:
            if _has(value, part):
                value = value[part]
                keys = (*keys, part)
        return keys, value

    def field(self, loc: tuple[str | int, ...]) -> FieldInfo | None:
        """Return the field that a location ends in."""
        owner, name = self.owner(loc[:-1]), str(loc[-1]) if loc else ""
        return _fields(owner).get(name) if owner else None

    def owner(self, loc: tuple[str | int, ...]) -> type[BaseModel] | None:
        """Return the model that the value at a location is of."""
        annotation: Any = self.spec
        for part in loc:
            annotation = next((inner for inner in _inside(annotation, part)), annotation)
        return next((part for part in _parts(annotation) if _is_model(part)), None)


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _worded(refused: list[ErrorDetails], place: _Place) -> Iterator[Finding]:
    """Say each mistake once: what several branches of a union say about one value becomes one sentence."""
    groups: dict[tuple[Keys, str], list[ErrorDetails]] = {}
    for error in refused:
        loc = tuple(error["loc"])
        missing = str(loc[-1]) if error["type"] == "missing" else ""
        groups.setdefault((place.locate(loc[:-1] if missing else loc), missing), []).append(error)
    for (keys, name), errors in groups.items():
        if not (name and name in _misspelt(keys, groups)):
            yield _finding(keys, name, errors, place)


def _misspelt(keys: Keys, groups: dict[tuple[Keys, str], list[ErrorDetails]]) -> Iterator[str]:
    """Yield the keys that seem to be missing from a mapping only because they are misspelt there."""
    missing = [name for owner, name in groups if name and owner == keys]
    for owner, _ in groups:
        if owner[:-1] == keys and isinstance(owner[-1] if owner else None, str):
            yield from difflib.get_close_matches(str(owner[-1]), missing, n=1)


def _finding(keys: Keys, name: str, errors: list[ErrorDetails], place: _Place) -> Finding:
    error = errors[0]
    loc, kind = tuple(error["loc"]), error["type"]
    if kind == "missing":
        field = place.field(loc)
        hint = (field.description or "") if field else ""
        text = f'{_owner(keys)} needs the key "{name}"'
        return place.marks.key(keys).finding("E105", text, hint)
    if kind == "extra_forbidden":
        return unknown_key(keys, _names(place.owner(loc[:-1])), place.marks)
    if kind == "union_tag_invalid":
        return _unknown_kind(keys, error, place)
    if "[key]" in loc:
        text = f'{_owner(keys[:-1])} needs names of {_needs(error)}; found "{keys[-1]}"'
        return place.marks.key(keys).finding("E107", text)
    given = place.given(loc)
    sentence = str(error.get("ctx", {}).get("error", ""))
    if kind in {"value_error", "assertion_error"} and not sentence.startswith("needs "):
        return _sentence(keys, sentence, given, place)
    needs = list(dict.fromkeys(_needs(each) for each in errors))
    code = "E106" if kind.endswith("_type") or kind in _OTHER_TYPES else "E107"
    separator = "; " if any("," in need for need in needs) else ", "
    text = f"{_owner(keys)} needs {' or '.join(needs)}{separator}found {found(given)}"
    return place.marks.value(keys).finding(code, text, _hint(error, given, place.field(loc)))


def _unknown_kind(keys: Keys, error: ErrorDetails, place: _Place) -> Finding:
    """Say that what a mapping calls its kind is none."""
    given = str(error.get("ctx", {}).get("tag", ""))
    kinds = _QUOTED_WORD.findall(str(error.get("ctx", {}).get("expected_tags", "")))
    inner = (*keys, "kind")
    return place.marks.value(inner).finding("E107", f'{show(inner)}: there is no kind "{given}"', nearest(given, kinds))


def _sentence(keys: Keys, sentence: str, given: Any, place: _Place) -> Finding:
    """Take a Spec's own sentence (its part after a semicolon is the hint), and point at the key that it quotes."""
    text, _, hint = (sentence or "this cannot be used").partition("; ")
    named = next((word for word in _QUOTED_WORD.findall(text) if isinstance(given, dict) and word in given), None)
    mark = place.marks.value(keys) if named is None else place.marks.key((*keys, named))
    return mark.finding("E107", f"{_owner(keys)}: {text}", hint)


def unknown_key(keys: Keys, allowed: list[str], marks: Marks) -> Finding:
    """Say that a key is not known where it stands, and which are."""
    where = f" in {show(keys[:-1])}" if len(keys) > 1 else ""
    hint = did_you_mean(str(keys[-1]), allowed) or _NO_OPTIONS
    return marks.key(keys).finding("E104", f'unknown key "{keys[-1]}"{where}', hint)


def _owner(keys: Keys) -> str:
    return show(keys) or "the file"


_OTHER_TYPES: Final = frozenset({"int_from_float", "int_parsing", "float_parsing", "bool_parsing", "none_required"})


def _limit(words: str, key: str) -> Callable[[ErrorDetails], str]:
    return lambda error: f"{words} {_number(error.get('ctx', {}).get(key))}"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(error: ErrorDetails) -> str:
    words = _QUOTED_WORD.findall(str(error.get("ctx", {}).get("expected", "")))
    return f"one of {', '.join(words)}" if len(words) > 1 else f'"{"".join(words)}"'


def _own_words(error: ErrorDetails) -> str:
    return str(error.get("ctx", {}).get("error", "")).removeprefix("needs ")


def _form(error: ErrorDetails) -> str:
    return _PATTERNS.get(str(error.get("ctx", {}).get("pattern", "")), "another form")


_NEEDS: Final[Mapping[str, str | Callable[[ErrorDetails], str]]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "nothing",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "keys and values",
    "mapping_type": "keys and values",
    "model_type": "keys and values",
    "model_attributes_type": "keys and values",
    "dataclass_type": "keys and values",
    "literal_error": _words,
    "enum": _words,
    "value_error": _own_words,
    "assertion_error": _own_words,
    "greater_than": _limit("more than", "gt"),
    "greater_than_equal": _limit("at least", "ge"),
    "less_than": _limit("less than", "lt"),
    "less_than_equal": _limit("at most", "le"),
    "multiple_of": _limit("a multiple of", "multiple_of"),
    "string_pattern_mismatch": _form,
    "string_too_short": _limit("a length (characters) of at least", "min_length"),
    "string_too_long": _limit("a length (characters) of at most", "max_length"),
    "too_short": _limit("a number of items of at least", "min_length"),
    "too_long": _limit("a number of items of at most", "max_length"),
    "date_from_datetime_parsing": "a date (YYYY-MM-DD)",
    "date_parsing": "a date (YYYY-MM-DD)",
    "time_parsing": "a time (HH:MM)",
    "url_parsing": "an address such as https://host.example/path",
    "url_scheme": "an address such as https://host.example/path",
}


def _needs(error: ErrorDetails) -> str:
    needs = _NEEDS.get(error["type"], "another value")
    return needs if isinstance(needs, str) else needs(error)


def _hint(error: ErrorDetails, given: Any, field: FieldInfo | None) -> str:
    kind = error["type"]
    described = (field.description or "") if field else ""
    if kind == "string_type" and isinstance(given, int | float | bool):
        return "put it in quotes if it is text"
    if kind == "bool_type" and str(given).lower() in _YES_NO:
        return f"write {_YES_NO[str(given).lower()]}"
    if kind in {"literal_error", "enum"}:
        return nearest(str(given), _QUOTED_WORD.findall(str(error.get("ctx", {}).get("expected", "")))) or described
    return described


NAME_PATTERN: Final = r"^[a-z0-9]+(-[a-z0-9]+)*$"
INDEX_PATTERN: Final = r"^[a-z][a-z0-9_]*$"
_PATTERNS: Final = {
    NAME_PATTERN: "lower-case letters, digits and single hyphens, such as mercy-adt",
    INDEX_PATTERN: "lower-case letters, digits and _, beginning with a letter",
}


def _keys_hint(spec: type[BaseModel]) -> str:
    names = _names(spec)
    return f"allowed: {', '.join(names)}" if names else _NO_OPTIONS


def _names(model: type[BaseModel] | None) -> list[str]:
    return list(_fields(model)) if model else []


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield the branches of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        yield from _parts(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, UnionType}:
        for part in get_args(annotation):
            yield from _parts(part)
    else:
        yield annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tagged(annotation: Any, part: str | int) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        of, *notes = get_args(annotation)
        if any(isinstance(note, Tag) and note.tag == part for note in notes):
            yield of
        yield from _tagged(of, part)
    elif get_origin(annotation) in {Union, UnionType}:
        for branch in get_args(annotation):
            yield from _tagged(branch, part)


def _inside(annotation: Any, part: str | int) -> Iterator[Any]:
    """Yield what the value under a key, or at a number, may be; or the branch that pydantic calls by a tag."""
    yield from _tagged(annotation, part)
    for branch in _parts(annotation):
        if _is_model(branch):
            field = _fields(branch).get(str(part))
            if field is not None:
                yield field.annotation
        elif get_origin(branch) is dict and isinstance(part, str):
            yield get_args(branch)[1]
        elif get_origin(branch) in {list, tuple} and isinstance(part, int):
            yield get_args(branch)[0]
