# ruff: noqa: E501 - one case of a table is one line
"""Findings: how they look, and that whatever a Spec can refuse is said in plain words."""

import enum
import textwrap
from typing import Annotated, Any, ClassVar, Final, Literal

import pytest
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_core._pydantic_core import list_all_errors

from broker.spec import Bytes, Endpoint, Expression, Seconds, Spec
from config.findings import CODES, Finding, counted, did_you_mean, has_errors, in_order, report
from config.marks import Mark, Source, show, without_secrets
from config.strict_yaml import read
from config.wording import _NEEDS, validate


def finding(line: int = 2, column: int = 3, **more: Any) -> Finding:
    return Finding("x.yaml", line, column, column + 4, "E104", "unknown key", **more)


def test_a_finding_shows_its_line_and_a_caret() -> None:
    shown = str(finding(source="  abcd: 1", hint="did you mean b?"))
    assert shown == textwrap.dedent("""\
        x.yaml:2:3: error[E104]: unknown key
            2 |   abcd: 1
              |   ^^^^ did you mean b?""")


def test_a_finding_keeps_tabs_so_that_the_caret_stands_right() -> None:
    assert str(finding(source="\t\tabcd")).splitlines()[2] == "      | \t\t^^^^"


def test_a_long_line_is_shown_around_the_place() -> None:
    line = "x" * 5000 + "abcd" + "y" * 5000
    shown = str(finding(line=1, column=5001, source=line)).splitlines()
    assert len(shown[1]) < 220
    start = shown[2].index("^")
    assert shown[1][start : start + 4] == "abcd"
    assert len(str(finding(line=1, column=1, source=line)).splitlines()[1]) < 220


def test_a_finding_about_a_whole_file_has_no_line() -> None:
    assert str(Finding("x", 0, 0, 0, "E109", "too large", "cut it")) == "x: error[E109]: too large\n      = cut it"
    assert str(Finding("x", 0, 0, 0, "E109", "too large")) == "x: error[E109]: too large"


def test_a_report_has_each_finding_once_in_order_and_a_summary() -> None:
    late, early = finding(line=9), finding(line=1, severity="warning")
    other = Finding("y.yaml", 1, 1, 2, "E101", "no", severity="warning")
    text = report([other, late, early, late])
    assert [line for line in text.splitlines() if ":" in line] == [
        "x.yaml:1:3: warning[E104]: unknown key",
        "x.yaml:9:3: error[E104]: unknown key",
        "y.yaml:1:1: warning[E101]: no",
    ]
    assert text.splitlines()[-1] == "1 error, 2 warnings in 2 files"
    assert report([]) == ""
    assert in_order([late, early]) == [early, late]
    assert has_errors([late])
    assert not has_errors([early])


def test_numbers_take_their_nouns() -> None:
    assert counted(1, "file") == "1 file"
    assert counted(0, "file") == "0 files"


def test_the_nearest_right_word_is_offered() -> None:
    assert did_you_mean("atempts", ["attempts", "first"]) == 'did you mean "attempts"? allowed: attempts, first'
    assert did_you_mean("zzz", ["b", "a"]) == "allowed: a, b"
    assert did_you_mean("word19", [f"word{number}" for number in range(20)]) == 'did you mean "word19"?'
    assert did_you_mean("x", []) == ""


def test_steps_are_counted_as_people_count() -> None:
    assert show(("steps", 0, "filter")) == "steps.1.filter"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("token: abc", "token: ***"),
        ("{token: 'a b', x: 1}", "{token: *****, x: 1}"),
        ('  api_key: "abc"', "  api_key: *****"),
        ("api_key: {header: X, secret: abc}", "api_key: {header: X, secret: ***}"),
        ("token: ${env:X}", "token: ${env:X}"),
        ("token: '${env:X}'", "token: '${env:X}'"),
        ("a.token=abc", "a.token=***"),
        ("store: postgresql://u:pw@h/d", "store: postgresql://u:**@h/d"),
        ("text: take one token now", "text: take one token now"),
    ],
)
def test_a_shown_line_hides_secrets_and_moves_nothing(line: str, shown: str) -> None:
    assert without_secrets(line) == shown
    assert len(shown) == len(line)


def test_a_finding_at_a_secret_hides_it_whatever_its_key() -> None:
    found = Mark(Source("x", "a: abc"), 3, 6).finding("E401", "no", secret=True)
    assert found.source == "a: ***"


def test_every_code_is_explained() -> None:
    assert all(code[0] == "E" and len(code) == 4 and text.endswith(".") for code, text in CODES.items())


# ----------------------------------------------------------------------------------------------------------- wording


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Inner(Spec):
    """A part."""

    size: int = Field(ge=1, description="How large it is.")


class Everything(Spec):
    """A Spec with everything that Specs use."""

    short_form: ClassVar[str] = "text"

    names: dict[str, Expression] = Field(default={})
    text: str = Field(default="x", min_length=1, max_length=5)
    kind: Literal["one", "two"] = "one"
    colour: Colour = Colour.RED
    wait: Seconds = 0.0
    bytes_: Bytes = Field(default=0, alias="bytes")
    endpoint: Endpoint = "a:1"
    several: list[Inner] = Field(default=[], max_length=2)
    pair: tuple[str, ...] = ()
    either: str | list[str] = ""
    maybe: Inner | None = None
    flag: bool = False
    number: float = Field(default=0.0, lt=10, multiple_of=0.5)


def refused(text: str) -> list[str]:
    tree = read(Source("x.yaml", text))
    findings: list[Finding] = []
    assert validate(Everything, tree.value, ("it",), tree.marks, findings) is None
    return [f"{found.code} {found.text}" for found in in_order(findings)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text: ''", "E107 it.text needs a length (characters) of at least 1, found empty text"),
        ("text: abcdef", 'E107 it.text needs a length (characters) of at most 5, found "abcdef"'),
        ("kind: three", 'E107 it.kind needs one of one, two; found "three"'),
        ("colour: green", 'E107 it.colour needs one of red, blue; found "green"'),
        ("wait: soon", 'E107 it.wait needs a number with a unit (ms, s, m, h, d), such as 5s; found "soon"'),
        ("wait: -1s", 'E107 it.wait needs at least 0, found "-1s"'),
        ("wait: [1]", "E106 it.wait needs a number, found a list"),
        ("bytes: 5", "E107 it.bytes needs a unit (B, KiB, MiB, GiB), such as 16MiB; found the number 5"),
        ("endpoint: a", 'E107 it.endpoint needs host:port, such as 127.0.0.1:2575; found "a"'),
        ("several: {}", "E106 it.several needs a list, found keys and values"),
        ("several: [{size: 0}]", "E107 it.several.1.size needs at least 1, found the number 0"),
        ("several: [{}]", 'E105 it.several.1 needs the key "size"'),
        ("several: [{size: 1, sise: 1}]", 'E104 unknown key "sise" in it.several.1'),
        ("several: [x]", 'E106 it.several.1 needs keys and values, found "x"'),
        ("several: [{size: 1}, {size: 1}, {size: 1}]", "E107 it.several needs a number of items of at most 2, found a list"),
        ("pair: a", 'E106 it.pair needs a list, found "a"'),
        ("pair: [a, 5]", "E106 it.pair.2 needs text, found the number 5"),
        ("either: 5", "E106 it.either needs text or a list, found the number 5"),
        ("maybe: 5", "E106 it.maybe needs keys and values, found the number 5"),
        ("maybe: {}", 'E105 it.maybe needs the key "size"'),
        ("maybe: {sise: 1}", 'E104 unknown key "sise" in it.maybe'),
        ("flag: 1", "E106 it.flag needs true or false, found the number 1"),
        ("number: 10", "E107 it.number needs less than 10, found the number 10"),
        ("number: 0.3", "E107 it.number needs a multiple of 0.5, found the number 0.3"),
        ("text:", "E106 it.text needs text, found nothing"),
        ("text: 'abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz'", 'E107 it.text needs a length (characters) of at most 5, found "abcdefghijklmnopqrstuvwxyzabcdefghijklm…"'),
    ],
)  # fmt: skip
def test_what_a_spec_refuses_is_said_in_plain_words(text: str, says: str) -> None:
    assert refused(text) == [says]


def test_a_bare_value_fills_the_short_form_and_is_pointed_at_itself() -> None:
    tree = read(Source("x.yaml", "it: abcdef"))
    findings: list[Finding] = []
    assert validate(Everything, tree.value["it"], ("it",), tree.marks, findings) is None
    (found,) = findings
    assert found.text == 'it needs a length (characters) of at most 5, found "abcdef"'
    assert (found.column, found.end) == (5, 11)
    spec = validate(Everything, "abc", ("it",), tree.marks, [])
    assert spec is not None
    assert spec.text == "abc"


KINDS: Final = [error["type"] for error in list_all_errors()]


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_refusal_is_told_in_the_words_of_the_validator(kind: str) -> None:
    def refuse(value: object) -> object:
        raise PydanticCustomError(kind, "Input should be a surprise")

    class Refusing(Spec):
        value: Annotated[str, BeforeValidator(refuse)]

    tree = read(Source("x.yaml", "value: a"))
    findings: list[Finding] = []
    assert validate(Refusing, tree.value, (), tree.marks, findings) is None
    (found,) = findings
    assert "surprise" not in found.text + found.hint
    assert "Input" not in found.text + found.hint
    assert found.line == 1


def test_every_translation_is_of_a_kind_that_exists() -> None:
    assert set(_NEEDS) <= set(KINDS)
