"""Strict YAML: what values mean, what is refused and where, and that bombs are refused at once."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.marks import Mark, Marks, Source
from config.strict_yaml import DEEPEST, LARGEST, MOST_VALUES, Tree, read, read_bytes, scalar
from tests.pace import cpu_seconds


def yaml(text: str) -> Tree:
    return read(Source("f.yaml", text))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0012", "0012"),
        ("0", 0),
        ("12", 12),
        ("-12", -12),
        ("+12", "+12"),
        ("+12055550187", "+12055550187"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("0b1", "0b1"),
        ("1.5", 1.5),
        ("-0.25", -0.25),
        ("1.5e3", 1500.0),
        (".5", ".5"),
        ("5.", "5."),
        ("2.5.1", "2.5.1"),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("123456789012345678", 123456789012345678),
        ("12345678901234567890", "12345678901234567890"),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("yes", "yes"),
        ("no", "no"),
        ("NO", "NO"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("22:22:22", "22:22:22"),
        ("2024-05-01", "2024-05-01"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z"),
        ("null", None),
        ("~", None),
        ("", None),
        ("=", "="),
        ("PID-3[5=MR].1", "PID-3[5=MR].1"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("''", ""),
    ],
)
def test_a_value_means_what_yaml_1_2_says_when_unquoted(written: str, meant: Any) -> None:
    tree = yaml(f"key: {written}")
    assert tree.findings == ()
    assert tree.value == {"key": meant}
    assert type(tree.value["key"]) is type(meant)


def test_keys_are_always_text() -> None:
    assert yaml("on: 1\n12: 2\n0012: 3\nNO: 4\ntrue: 5").value == {"on": 1, "12": 2, "0012": 3, "NO": 4, "true": 5}


def test_an_empty_text_is_nothing() -> None:
    for text in ("", "\n", "# only a comment\n"):
        tree = yaml(text)
        assert tree.usable
        assert tree.value is None


def test_windows_line_ends_and_byte_order_mark_are_taken() -> None:
    tree = read_bytes(b"\xef\xbb\xbfa:\r\n  b: 1\r\nc: x\r\n", "f.yaml")
    assert tree.value == {"a": {"b": 1}, "c": "x"}
    assert tree.marks.value(("c",)).finding("E107", "x").line == 3


@pytest.mark.parametrize(
    ("text", "place", "code", "says"),
    [
        ("a: 1\nb: 2\na: 3", "3:1", "E102", '"a" is there twice'),
        ("x: {a: 1, a: 2}", "1:11", "E102", '"a" is there twice in x'),
        ("a: &x 1", "1:4", "E103", "&x is an anchor"),
        ("a: *x", "1:4", "E103", "*x is an alias"),
        ("a:\n  <<: {b: 1}", "2:3", "E103", "<< merges another mapping"),
        ("*x : 1", "1:1", "E103", "*x is an alias"),
        ("a: !!python/object:os.system x", "1:4", "E108", "!!python/object:os.system is a tag"),
        ("a: !!int 5", "1:4", "E108", "!!int is a tag"),
        ("a: !secret x", "1:4", "E108", "!secret is a tag"),
        ("a: 1\n---\nb: 2", "2:1", "E103", "a second document begins here"),
        ("? [a]\n: 1", "1:3", "E101", "a key must be text"),
        ("? a\n? \n: 1", "2:2", "E101", "a key is missing before the colon"),
        ("to: {{ patient.mobile }}", "1:5", "E101", "a value that begins with {{ is a mapping to YAML"),
        ("a: [1, 2", "1:4", "E101", "the list that begins here does not end as it should"),
        ("i: {m: PID-3[5=MR].1}", "1:4", "E101", "the mapping that begins here does not end as it should"),
        ("a: b: c", "1:5", "E101", "a second colon in one line"),
        ("a: 1\n  b: 2", "2:4", "E101", "a second colon in one line, or a line that is indented too far"),
        ("a:\n\tb: 1", "2:1", "E101", "a tab cannot indent"),
        ("a: 'x\nb: 1", "1:4", "E101", "the quotes that begin here are not closed"),
        ('a: "x', "1:4", "E101", "the quotes that begin here are not closed"),
        ("- a\nb: 1", "2:1", "E101", "an item of the list above begins with -"),
        ("a: @x", "1:4", "E101", "a value cannot begin with this character"),
        ("a: `x`", "1:4", "E101", "a value cannot begin with this character"),
        ('a: "\\d"', "1:5", "E101", "this escape is not known in double quotes"),
        ("a: 'x' y", "1:8", "E101", "this does not fit what stands above"),
        ("key: [a]]", "1:9", "E101", "this does not fit what stands above"),
        ("a: 1\nbc\nd: 2", "2:1", "E101", "a key needs a colon and a space after it"),
        ("a: \x00", "1:4", "E101", "the character U+0000 cannot be read safely"),
        ("a: x\x85y", "1:5", "E101", "the character U+0085 cannot be read safely"),
        ("a: x\u2028y", "1:5", "E101", "the character U+2028 cannot be read safely"),
        ("a: \ud800", "1:4", "E101", "the character U+D800 cannot be read safely"),
        ("[" * (DEEPEST + 1), f"1:{DEEPEST + 1}", "E109", "more than 30 mappings and lists inside each other"),
    ],
)
def test_a_mistake_is_told_in_plain_words_at_its_place(text: str, place: str, code: str, says: str) -> None:
    tree = yaml(text)
    told = [f"{found.line}:{found.column} {found.code} {found.text}" for found in tree.findings]
    assert any(line.startswith(f"{place} {code} {says}") for line in told), told


def test_a_duplicate_key_says_where_the_first_is() -> None:
    (found,) = yaml("a: 1\nb: 2\na: 3").findings
    assert found.hint == "the first is in line 1"
    assert yaml("a: 1\na: 3").value == {"a": 1}


@pytest.mark.parametrize(
    "bomb",
    [
        "[" * 200_000,
        "{a: " * 60_000,
        "- " * 100_000,
        "? " * 100_000,
        "a: " + "[[" * 100_000,
        "a: [" + "1," * 100_000 + "1]",
        "a: a\n" * 50_000,
        "\n".join(f"k{number}: x" for number in range(30_000)),
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "\n".join(f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "a: &a {x: 1}\nb: &b {<<: [*a, *a, *a, *a]}\nc: {<<: [*b, *b, *b, *b]}",
        "a: " + "&x " * 10_000,
        "!!" * 100_000,
        "a: " + "x" * LARGEST,
    ],
    ids=lambda bomb: bomb[:8].strip(),
)
def test_a_bomb_costs_no_more_than_the_largest_honest_file(bomb: str) -> None:
    honest = "\n".join(f"k{number}: some text" for number in range(MOST_VALUES - 1))
    assert not yaml(honest).findings
    tree = yaml(bomb)
    # A ratio, since machines differ.
    assert cpu_seconds(lambda: yaml(bomb)) < 3 * cpu_seconds(lambda: yaml(honest))
    assert 1 <= len(tree.findings) <= 100
    assert all(len(str(found)) < 1000 for found in tree.findings)


def test_a_file_is_refused_when_it_is_too_large() -> None:
    tree = read_bytes(b"a: b\n" + b"#" * LARGEST, "f.yaml")
    assert str(tree.findings[0]) == f"f.yaml: error[E109]: the file has {LARGEST + 5} bytes; at most {LARGEST} are read"
    assert not tree.usable


def test_a_file_is_refused_when_it_is_not_utf_8() -> None:
    tree = read_bytes(b"a: 1\nb: M\xfcller\n", "f.yaml")
    (found,) = tree.findings
    assert str(found) == "f.yaml: error[E109]: line 2 is not UTF-8\n      = save the file as UTF-8"


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def quoted(text: str) -> str:
    """Write a text in double quotes as YAML takes it."""
    letters = []
    for letter in text:
        code = ord(letter)
        if letter in '"\\':
            letters.append("\\" + letter)
        elif code < 0x20 or 0x7F <= code < 0xA0 or code in {0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF}:
            letters.append(f"\\u{code:04x}")
        else:
            letters.append(letter)
    return '"' + "".join(letters) + '"'


def dumped(value: Any, indent: int = 0, *, flow: bool = False) -> str:
    """Write a tree as YAML, texts and keys in double quotes."""
    if isinstance(value, str):
        return quoted(value)
    if flow or not value or not isinstance(value, dict | list):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{quoted(key)}: {dumped(inner, flow=True)}" for key, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(dumped(inner, flow=True) for inner in value) + "]"
        return json.dumps(value)
    blank = "\n" + " " * indent
    if isinstance(value, dict):
        return "".join(f"{blank}{quoted(key)}: {dumped(inner, indent + 2)}" for key, inner in value.items())
    return "".join(f"{blank}- {dumped(inner, indent + 2)}" for inner in value)


@given(tree=JSON, flow=st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_tree_comes_back_as_it_was_when_written_in_quotes(tree: Any, flow: bool) -> None:
    text = dumped(tree, flow=flow)
    result = yaml(text)
    assert result.findings == ()
    assert result.value == tree


@given(text=TEXT)
@settings(max_examples=150, deadline=None)
def test_reading_never_raises(text: str) -> None:
    for form in (text, f"a: {text}", f"a: |\n  {text}", f'a: "{text}"', f"{text}: a"):
        tree = yaml(form)
        assert tree.usable or tree.findings
        for found in tree.findings:
            assert str(found)


@given(text=TEXT.filter(lambda text: text.strip() == text and text))
@settings(max_examples=200, deadline=None)
def test_a_plain_scalar_is_text_unless_json_says_otherwise(text: str) -> None:
    value = scalar(text)
    if not isinstance(value, str):
        assert value is None or value == json.loads(text)


WORDS = st.lists(st.text(st.sampled_from("abcé€😀'\"\\{}|#"), min_size=1, max_size=6), min_size=1, max_size=6)


@pytest.mark.parametrize("style", ["'", '"', "|", ">", "plain"])
@given(words=WORDS, marker=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_part_of_a_value_is_found_where_it_was_written(style: str, words: list[str], marker: int) -> None:
    if style == "plain":
        words = [word.translate({ord(letter): "x" for letter in "'\"\\{}|#"}) for word in words]
    words.insert(min(marker, len(words)), "ZORK")
    value = " ".join(words)
    if style == "'":
        text = "a: '" + value.replace("'", "''").replace(" ", "\n  ") + "'"
    elif style == '"':
        text = "a: " + quoted(value)
    elif style == "plain":
        text = "a: " + value.replace(" ", "\n   ")
    else:
        text = f"a: {style} # note\n   " + value.replace(" ", "\n   ")
    tree = yaml(text)
    assert tree.findings == ()
    got = tree.value["a"]
    mark = tree.marks.value(("a",)).inside(got, got.index("ZORK"), 4)
    assert text[mark.start : mark.end] == "ZORK"


def test_a_mistake_past_the_end_of_a_value_points_behind_it() -> None:
    tree = yaml("a: MSH-9 ==\nb: 1")
    found = tree.marks.value(("a",)).inside("MSH-9 ==", 8, 1).finding("E201", "x")
    assert (found.line, found.column) == (1, 12)


def test_a_part_is_the_whole_when_the_value_is_another() -> None:
    mark = yaml("a: b").marks.value(("a",))
    assert mark.inside("something else", 0, 4) == mark
    assert mark.inside("", 0, 1) == mark


def test_a_place_that_is_not_known_is_what_would_hold_it() -> None:
    tree = yaml("a:\n  b: 1\n")
    assert tree.marks.key(("a", "c", 4)).finding("E105", "x").line == 1
    assert tree.marks.key(("z",)).finding("E105", "x").column == 1


def test_an_override_takes_the_place_of_all_below_it() -> None:
    marks: Marks = yaml("a:\n  b: 1\n").marks
    other = Mark(Source("--set", "a=1"), 0, 3)
    marks.put(("a",), other)
    assert marks.value(("a", "b")) == other
