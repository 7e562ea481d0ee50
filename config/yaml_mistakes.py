"""This module says in an analyst's words why a text cannot be read as YAML."""

from typing import Final

import yaml

from config.findings import Finding
from config.marks import Mark, Source

# What libyaml says (the beginning of it), what we say, what to do, and whether to point at where it began instead.
_IN_WORDS: Final[tuple[tuple[str, str, str, bool], ...]] = (
    (
        "mapping values are not allowed",
        "a second colon in one line, or a line that is indented too far",
        "put a value with a colon in quotes; line keys of one mapping up",
        False,
    ),
    (
        "did not find expected ',' or ']'",
        "the list that begins here does not end as it should",
        "items are separated by commas, ] ends it; inside, put values with [ ] { } or , in quotes",
        True,
    ),
    (
        "did not find expected ',' or '}'",
        "the mapping that begins here does not end as it should",
        "pairs are separated by commas, } ends it; inside, put values with [ ] { } or , in quotes",
        True,
    ),
    ("found unexpected end of stream", "the quotes that begin here are not closed", "add the closing quote", True),
    ("found unexpected document indicator", "the quotes that begin here are not closed", "add the closing quote", True),
    (
        "found unknown escape character",
        "this escape is not known in double quotes",
        "in single quotes a backslash is just a backslash",
        False,
    ),
    (
        "did not find expected key",
        "this does not fit what stands above",
        "check the indentation, and put a value that begins or goes on after a quote or bracket wholly in quotes",
        False,
    ),
    ("did not find expected '-' indicator", "an item of the list above begins with -", "check the indentation", False),
    ("could not find expected ':'", "a key needs a colon and a space after it", "write key: value", True),
    ("found a tab character", "a tab cannot indent", "use spaces", False),
    (
        "found character that cannot start any token",
        "a value cannot begin with this character",
        "put it in quotes",
        False,
    ),
    (
        "block sequence entries are not allowed",
        "a list cannot begin here",
        "begin the list in a line of its own",
        False,
    ),
    ("did not find expected alphabetic", "* and & have a meaning of their own here", "put the value in quotes", False),
)

_OTHERWISE: Final = ("this cannot be read as YAML", "put the value in quotes if it is text", False)


def unreadable(error: yaml.YAMLError, source: Source) -> Finding:
    """Return what a YAML error means, and where."""
    problem = str(getattr(error, "problem", None) or "")
    at = getattr(error, "problem_mark", None)
    began = getattr(error, "context_mark", None) or at
    text, hint, from_start = next((entry[1:] for entry in _IN_WORDS if problem.startswith(entry[0])), _OTHERWISE)
    mark = began if from_start else at
    index = min(mark.index, len(source.text)) if mark is not None else 0
    if source.text[index : index + 1] == "\t":
        text, hint = "a tab cannot indent", "use spaces"
    index = _back_to_text(source.text, index)
    return Mark(source, index, index + 1).finding("E101", text, hint)


def _back_to_text(text: str, index: int) -> int:
    """Return the last place with something on it, for a mistake at the end of the text."""
    while index >= len(text.rstrip()) and index > 0:
        index -= 1
    return index
