"""This module attacks templates and expressions: known escapes, injections, and ways to burn time or memory.

Each attack must be refused when it is compiled, fail as a step, or give harmless text; all of it fast, and small.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.canonical.model import Event, Identifier, Name, Patient, Source
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from tests.pace import within
from transforms.expression import ExpressionError, compile_expression
from transforms.jinja import KINDS
from transforms.jinja_filters import LIMIT
from transforms.template import compile_template

RAW = b"MSH|^~\\&|A|B|||20240501||ADT^A08|1|P|2.5.1\rPID|1||1^^^H^MR||Okafor^Ngozi||19620910|F\r"
PATIENT = Patient(mrn=Identifier(value="1"), names=(Name(family="Okafor"),), family="Okafor")
EVENT = Event(kind="patient.updated", source=Source(), patient=PATIENT)
NAMES = ["x", "big", "many", "d", "fn"]
# Traces of the inside of Python.
TRACES = ("<class", "<function", "<built-in", "<bound", " object at 0x", "__", "uid=", "root:", "Undefined", "SECRET")


class Leaky:
    """What a script might have put into a value: nothing of it may be reached."""

    secret = "SECRET"

    def __str__(self) -> str:
        """Give away what must not be."""
        return self.secret

    def __call__(self, *_args: object) -> str:
        return self.secret


ESCAPES = [
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ x.__class__ }}",
    "{{ x['__class__'] }}",
    "{{ patient.__class__.__init__.__globals__ }}",
    "{{ patient.__dataclass_fields__ }}",
    "{{ patient['__slots__'] }}",
    "{{ event.patient.__reduce__ }}",
    "{{ d.items }}",
    "{{ d.__init__ }}",
    "{{ x | attr('__class__') }}",
    "{{ x | attr('format') }}",
    "{{ '{0.__class__}'.format(x) }}",
    "{{ '{0.__class__}' | format(x) }}",
    "{{ '%s' | format(patient) }}",
    "{{ '{a.__class__}'.format_map({'a': x}) }}",
    "{% set f = x.format %}{{ f }}",
    "{{ [x.format] | map('string') | list }}",
    "{{ ['x'] | map(attribute='__class__') | list }}",
    "{{ [x] | groupby('__class__') }}",
    "{{ [x] | sort(attribute='__class__') }}",
    "{{ {'<img src=x>': 1} | xmlattr }}",
    "{{ x | xmlattr }}",
    "{{ joiner }}{{ namespace }}{{ dict }}{{ range }}",
    "{{ range(1) }}",
    "{{ loop.cycle }}",
    "{% for i in many %}{{ loop.cycle('a') }}{% endfor %}",
    "{% for i in many %}{{ loop.__init__ }}{% endfor %}",
    "{% for i in many %}{{ loop._iterable }}{% endfor %}",
    "{% for i in many recursive %}{{ loop(many) }}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os }}",
    "{% from 'os' import popen %}",
    "{% extends x %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% call x() %}{% endcall %}",
    "{% filter upper %}{{ x }}{% endfilter %}",
    "{% set ns = namespace(a=1) %}{% set ns.a = x %}",
    "{% with a = x %}{{ a }}{% endwith %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% autoescape false %}{{ x }}{% endautoescape %}",
    "{% do x %}",
    "{% debug %}",
    "{{ fn }}",
    "{{ fn() }}",
    "{{ fn.secret }}",
    "{{ fn ~ '' }}",
    "{{ [fn] | join }}",
    "{{ fn | string }}",
    "{{ fn | upper }}",
    "{{ fn | length }}",
    "{{ fn.func_globals }}",
    "{{ _concat }}{{ environment }}{{ context }}{{ resolve }}",
    "{{ x | _concat }}",
    "{{ x is callable }}{{ x is sameas x }}{{ 'upper' is filter }}",
    "{{ x.__class__ is defined }}",
    "{{ g }}{{ request }}{{ config }}",
    "{{ d['a'].__class__ }}",
    "{{ d[x.__class__] }}",
    "{{ d[fn] }}",
    "{{ x[fn] }}",
    "{{ _0000 }}{{ _1 }}",
    "{{ ().__class__.__bases__[0].__subclasses__()[140].__init__.__globals__['sys'].modules['os'] }}",
    "{{ 'x'.join(['a']) }}",
    "{{ x.encode('utf-16') }}",
    "{%- set x = 'y' -%}",
    "{{ PID-5.1.__class__ }}",
    "{{ (PID-5.1).__class__.__name__ }}",
]
BURNS = [
    "{{ 'a' * 300000000 }}",
    "{{ x * 300000000 }}",
    "{{ [1] * 300000000 }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%s' % x }}",
    "{{ x | center(900000000) }}",
    "{{ x | indent(900000000) }}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 10 ** 60 * 10 ** 60 }}",
    "{{ 2.5 ** 99999 }}",
    "{{ (-8) ** 0.5 }}",
    "{{ 999999999999 * 999999999999 }}",
    "{{ 1 / 0 }}",
    "{{ lipsum(n=100000) }}",
    "{% for i in range(99999999) %}{% for j in range(99999999) %}a{% endfor %}{% endfor %}",
    "{% for i in many %}{% for j in many %}{% for k in many %}a{% endfor %}{% endfor %}{% endfor %}",
    "{% for i in many %}{% for j in many %}{{ big }}{% endfor %}{% endfor %}",
    "{% for i in many %}{{ big }}{% endfor %}",
    "{{ 'a'" + " | replace('a', 'aa')" * 28 + " }}",
    "{% set a = 'aaaaaaaa' | replace('a', big) %}{% set b = a | replace('a', big) %}{{ b | length }}",
    "{{ big | replace('', big) }}",
    "{{ big | replace('a', big) }}",
    "{{ many | join(big) }}",
    "{{ [big, big, big, big, big, big, big, big, big, big, big, big] | join }}",
    "{{ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big ~ big }}",
    "{{ big" + " + big" * 12 + " }}",
    "{% set a = big %}"
    + "".join(f"{{% set {b} = {a} ~ {a} %}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "{{ i }}",
    "{% set a = big %}"
    + "".join(f"{{% set {b} = {a} + {a} %}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "{{ i }}",
    "{% set a = many %}"
    + "".join(f"{{% set {b} = {a} + {a} %}}" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "{{ i }}",
    "{% set a = 'a' %}{% set a = a ~ a %}{{ a }}",
    "{{ big | truncate(99999999) }}{{ x | truncate(-5) }}",
    "{{ x | truncate(5, big) }}",
    "{{ '9' | replace('9', '9999999999') | replace('9', '99999999999999999999') | int + 1 }}",
    "{{ big | int }}",
    "{{ big | upper }}{{ big | title }}{{ big | lower }}{{ big | date }}{{ big | phone('US') }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ " + "-" * 3000 + "1 }}",
    "{{ " + "not " * 3000 + "1 }}",
    "{{ 1" + " + 1" * 3000 + " }}",
    "{{ x" + ".a" * 3000 + " }}",
    "{{ [" * 1500 + "1" + "] }}" * 1500,
    "{% if x %}" * 1500 + "{% endif %}" * 1500,
    "{{ 'a' in big }}{{ big == big }}",
    "{{ big[::-1] | length }}",
    "{{ big[::0] }}",
    "{{ many[0:99999999999999999999999] | length }}",
    "{{" * 5000,
    "{#" * 5000,
    "{% raw %}" * 5000,
    "{{ 'a" * 5000,
    "A01-" * 20000,
    "{{ " + "PID-5[1=" * 2000 + " }}",
    "{{ " + "PID[" + " " * 20000 + "-5 }}",
]


def given_document() -> Document:
    values: dict[str, Any] = {
        "x": "text",
        "big": "ab" * 50_000,
        "many": list(range(1000)),
        "d": {"a": 1, "items": "an item"},
        "fn": Leaky(),
    }
    return Document(message=Message.parse(RAW), received_at=0.0, event=EVENT, values=values)


def attack(text: str, kind: str) -> str:
    """Return what a template gives, or nothing where it is refused."""
    with contextlib.suppress(ExpressionError, StepError):
        return compile_template(text, kind, NAMES)(given_document())
    return ""


def test_corpus_is_large_and_without_doubles() -> None:
    corpus = ESCAPES + BURNS
    assert len(set(corpus)) == len(corpus) >= 120


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ESCAPES + BURNS, ids=range(len(ESCAPES + BURNS)))
def test_attack_is_refused_or_harmless_fast_and_small(text: str, kind: str) -> None:
    output = attack(text, kind)
    assert within(0.5, lambda: attack(text, kind))
    assert len(output) <= LIMIT
    # What is literal in the template may come back; values and Python's inside may not.
    assert not [trace for trace in TRACES if trace in output and trace not in text]
    if kind == "json" and output:
        orjson.loads(output)


@pytest.mark.parametrize("text", [text for text in ESCAPES if text.startswith("{{") and text.count("{{") == 1])
def test_escape_is_no_expression_either(text: str) -> None:
    inner = text.removeprefix("{{").removesuffix("}}")
    try:
        value = compile_expression(inner, NAMES)(given_document())
    except (ExpressionError, StepError):
        return
    # What a script put into a value is its own and comes back as it is; nothing else but plain data does.
    assert isinstance(value, str | int | float | bool | Leaky | None)
    assert not any(trace in value for trace in TRACES) if isinstance(value, str) else True


_WORDS = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-",
    "+",
    " ",
    "if",
    "for",
    "in",
    "set",
    "endif",
    "endfor",
    "else",
    "loop",
]
_WORDS += [
    ".",
    "x",
    "big",
    "d",
    "patient",
    "PID-5.1",
    "PID-3[5=MR]",
    "[",
    "]",
    "(",
    ")",
    "|",
    "~",
    "*",
    "**",
    "=",
    "==",
]
_WORDS += [
    ":",
    ",",
    "'",
    '"',
    "'a'",
    "3",
    "upper",
    "replace",
    "__class__",
    "\n",
    "\\",
    "is",
    "defined",
    "{",
    "}",
    "raw",
]
PIECES = st.sampled_from([*_WORDS, "endraw", "é", "\0", "\u2028"])


def outcome(text: str, run: Callable[[], Any]) -> Any:
    """Return what running gives, or nothing for a mistake, which has a place, or a failure, which tells no value."""
    result: Any = ""
    mistakes: list[ExpressionError] = []
    failures: list[StepError] = []
    try:
        result = run()
    except ExpressionError as error:
        mistakes.append(error)
    except StepError as error:
        failures.append(error)
    assert all(0 <= error.position <= max(len(text), 1) and error.line >= 1 for error in mistakes)
    assert not any("Okafor" in str(error) for error in failures)
    return result


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=30), st.sampled_from(sorted(KINDS)))
def test_any_text_is_a_template_or_a_mistake_with_a_place(pieces: list[str], kind: str) -> None:
    text = "".join(pieces)
    output = outcome(text, lambda: compile_template(text, kind, NAMES)(given_document()))
    assert isinstance(output, str)
    assert len(output) <= LIMIT


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PIECES, max_size=15))
def test_any_text_is_an_expression_or_a_mistake_with_a_place(pieces: list[str]) -> None:
    text = " ".join(pieces)
    value = outcome(text, lambda: compile_expression(text, NAMES)(given_document()))
    assert not callable(value) or isinstance(value, Leaky)
