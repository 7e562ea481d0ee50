"""This module tests expressions: what they give, what is refused, and that they mean what Jinja means."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, Template, nodes

from broker.canonical.model import Event, Identifier, Name, Patient, Source
from broker.errors import StepError
from broker.message import Document
from broker.wire.er7 import Message
from transforms.expression import ExpressionError, compile_expression, parse
from transforms.jinja import environment
from transforms.scan import read_expression
from transforms.scope import at
from transforms.template import _Rewriting, compile_template

RAW = (
    b"MSH|^~\\&|A|B|||20240501103000||ADT^A08|77|P|2.5.1\r"
    b"PID|1||123^^^H^MR~9^^^S^SS||O'HARA^PAT||19620910|F|||||(217)555-0147^PRN^PH~(217)555-0199^^CP\r"
    b'PV1|1|I|4EAST^412^B||||""\r'
    b"OBX|1|NM|8302-2^Height||180\rOBX|2|NM|8867-4^Rate||72\r"
)
PATIENT = Patient(
    mrn=Identifier(value="123", system="H", type="MR"),
    names=(Name(family="O'Hara", given=("Pat",)),),
    family="O'Hara",
    birth_date="1962-09-10",
)
EVENT = Event(kind="patient.updated", source=Source(), patient=PATIENT)


def document(**values: Any) -> Document:
    return Document(message=Message.parse(RAW), received_at=0.0, event=EVENT, values=values)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("PID-3[5=MR].1", "123"),
        ("PID-3[5=SS].1", "9"),
        ("PID-3(2).1", "9"),
        (" PID-5.2 ", "PAT"),
        ("OBX[3.1=8867-4]-5", "72"),
        ("OBX(2)-5", "72"),
        ("PV1/OBX[2]-5", "72"),
        ("PID[3.4=H]/PV1/OBX[3.2=Rate]-5 == '72'", True),
        ("PID[2]/OBX-5", None),
        ("PID-99", None),
        ("ZZ1-1", None),
        ("PV1-7", ""),  # HL7's explicit null
        ("MSH-9.1 == 'ADT' and MSH-9.2 in ['A01', 'A08']", True),
        ("MSH-9.2 in ('A01', 'A04')", False),
        ("MSH-9.2 not in ['A01']", True),
        ("not PID-30", True),
        ("PID-30 or 'N'", "N"),
        ("PID-5.1 | title", "O'Hara"),
        ("PID-5.1|title ~ ', ' ~ PID-5.2|title ~ PID-6", "O'Hara, Pat"),
        ("PID-7 | date", "1962-09-10"),
        ("PID-7[:4]", "1962"),
        ("PID-7[:4] | int + 1", 1963),
        ("PID-99[:4]", None),
        ("PID-7[-2:]", "10"),
        ("patient.names[0:1][0].family", "O'Hara"),
        ("PID-13[3=CP].1 | phone('US')", "+12175550199"),
        ("PID-13 | phone", None),
        ("PID-99 | default('none')", "none"),
        ("PV1-7 | default('none')", "none"),
        ("PID-5.1 | replace(\"'\", '')", "OHARA"),
        ("'PID-5.1'", "PID-5.1"),
        ("PID-5.1 | length", 6),
        ("PID-99 | upper", None),
        ("[PID-5.2, PID-6, 'x'] | join('-')", "PAT-x"),
        ("PID-5.1 | truncate(4)", "O'H…"),
        ("'f' if PID-8 == 'F' else 'm'", "f"),
        ("'x' if PID-6", None),
        ("patient.family", "O'Hara"),
        ("patient['family']", "O'Hara"),
        ("patient.mrn.value", "123"),
        ("patient.account.value", None),
        ("patient.names[0].given | first", "Pat"),
        ("patient.names | last", PATIENT.names[0]),
        ("event.kind == 'patient.updated' and patient.mobile", None),
        ("encounter.location.room", None),
        ("ward ~ '!'", "4EAST!"),
        ("ward is defined and ward is string", True),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("{'a': [1, ward]}.a[1]", "4EAST"),
        ("2 ** 3 + 7 % 4 * -1 // 1", 5),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("7 / 2 - +1", 2.5),
    ],
)
def test_expression_gives(text: str, expected: Any) -> None:
    assert compile_expression(text, ["ward"])(document(ward="4EAST")) == expected


def test_key_of_a_mapping_may_be_any_single_value_and_what_is_none_fails_when_it_comes() -> None:
    assert compile_expression("{'a': 1, 2: 3, PID-8: 4, (1, 'x'): 5}")(document()) == {
        "a": 1,
        2: 3,
        "F": 4,
        (1, "x"): 5,
    }
    with pytest.raises(StepError, match="do not go together"):
        compile_expression("{several: 1}", ["several"])(document(several=["x"]))


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("patient.moblie", "moblie", "did you mean mobile?"),
        ("event.patient.names[0].famly", "famly", "did you mean family?"),
        ("patient['famly']", "famly", "did you mean family?"),
        ("patient.names.family", "family", "take one item"),
        ("patient.family.first", "first", "a text has no first"),
        ("patiant.family", "patiant", "did you mean patient?"),
        ("PID-8 == sex", "sex", "sex is not defined"),
        ("PID.3.1", "PID", "a field follows after a hyphen, such as PID-3.1"),
        ("OBR[1]/OBX == 'x'", "OBR", "OBR is not defined"),
        ("pid-8 == 'F'", "pid", "in capitals"),
        ("PID-5.1 | titel", "titel", "did you mean title?"),
        ("PID-5.1 | attr('x')", "attr", "attr is not a filter"),
        ("PID-5.1 | _concat", "_concat", "_concat is not a filter"),
        ("PID-5.1 | tojson", "tojson", "tojson is not a filter"),
        ("PID-8 is nne", "nne", "did you mean none?"),
        ("PID-13 | phone('UK')", "'UK'", "did you mean GB?"),
        ("PID-8 = 'F'", "=", "compare with =="),
        ("PID-8 PID-7", "PID-7", "should have ended here"),
        ("PID-0.1", "PID-0.1", "numbered from 1"),
        ("PID-3.1.2.3", "PID-3.1.2.3", "is not an HL7 location"),
        ("PID-8 $ 1", "$", "unexpected character"),
        ("(PID-8", None, "ends too early"),
        ("PID-3[5=MR.1", "PID-3[", "has no closing bracket; write it as in PID-3[5=MR].1"),
        ("(PID-3[1.1 == 'x')", "PID-3[", "has no closing bracket"),
        ("PID-8 ~ [1,", None, "end of template"),
        ("PID-5.1.upper()", "(", "nothing can be called"),
        ("'a'.upper()", "(", "nothing can be called"),
        ("", None, "is empty"),
        ("a" * 10_001, None, "too long"),
        ("(" * 400 + "1" + ")" * 400, None, "nested too deeply"),
        ("1|int" + "|string|int" * 5, None, "at most 8 filters"),
        ("PID-8 == {'a': 1, ['x']: 2}.a", "{'a'", "whatever the message holds"),
        ("PID-8 == ('a' if 'x'.y else 'b')", "'a'", "whatever the message holds"),
        ("_0000001 ~ PID-5.1", "_0000001", "is not defined"),
    ],
)
def test_mistake_is_found_at_its_place(text: str, place: str | None, says: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    error = caught.value
    assert says in str(error)
    assert error.source == text
    if place is not None:
        assert text[error.position :].startswith(place)


def test_names_and_locations_are_told() -> None:
    compiled = compile_expression("patient.family == ward and PID-8 == 'F' and PID-8 != PV1-3.1", ["ward"])
    assert compiled.names == {"patient", "ward"}
    assert [str(location) for location in compiled.locations] == ["PID-8", "PV1-3.1"]


@pytest.mark.parametrize(
    ("text", "says", "location"),
    [
        ("PID-5.1 | int", "is not a whole number", "PID-5.1"),
        ("PID-5.1 | date", "is not a date", "PID-5.1"),
        ("PID-6 | required", "is required", "PID-6"),
        ("PID-5.1 < 3", "do not go together", "PID-5.1"),
        ("PID-5.1 * 3", "only numbers", "PID-5.1"),
        ("ward", "not defined", ""),
        ("{'a': 1}[PID-5.1]", "not defined", "PID-5.1"),
        ("[1][3]", "not defined", ""),
        ("1 // 0", "ZeroDivisionError", ""),
        ("patient.names ~ 'x'", "a list is not text", ""),
    ],
)
def test_failure_says_where_and_never_what_the_message_holds(text: str, says: str, location: str) -> None:
    with pytest.raises(StepError) as caught:
        compile_expression(text, ["ward"])(document())
    error = caught.value
    assert says in str(error)
    assert error.location == location
    assert "HARA" not in str(error).upper()
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_event_is_asked_for_when_no_step_made_one() -> None:
    bare = Document(message=Message.parse(RAW), received_at=0.0)
    for text in ("event.kind", "patient.family", "encounter"):
        with pytest.raises(StepError, match="put a canonical step before"):
            compile_expression(text)(bare)


def through_jinja(text: str, given: Document) -> Any:
    """Evaluate as Jinja's own ``compile_expression`` does: a template that sets one name.

    Without its optimizer, which evaluates constants while it compiles, also where they are never reached, and lets
    through what that raises.
    """
    strict, source = environment().overlay(optimized=False), read_expression(text)
    root = _Rewriting().visit(parse(source, strict))
    body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), root, lineno=1)]
    tree = nodes.Template(body, lineno=1)
    tree.set_environment(strict)
    template = Template.from_code(strict, strict.compile(tree), {})
    names = {name: at(location)(given) for name, location in source.locations.items()}
    patient = given.event.patient if given.event else None
    context = template.new_context({**names, **given.values, "event": given.event, "patient": patient})
    for _ in template.root_render_func(context):
        pass
    return context.exported_vars and context.vars["result"]


ATOMS = st.sampled_from(
    [
        "PID-5.1",
        "PID-99",
        "PV1-7",
        "PID-3[5=MR].1",
        "MSH-9.2",
        "patient.family",
        "patient.mobile",
        "ward",
        "gone",
        "count",
    ]
) | st.sampled_from(
    ["'x'", "''", "3", "0", "2.5", "true", "none", "[1, 'x']", "('A08', PID-8)", "{'a': PID-8}", "flags"]
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    comparisons = ["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
    operators = [*comparisons, "and", "or", "+", "-", "*", "/", "//", "%", "**", "~"]
    filters = ["upper", "title", "trim", "default('d')", "length", "first", "last", "int", "string", "required", "date"]
    tests = ["defined", "none", "not none", "string", "number", "mapping", "undefined", "true", "in ['x', 3]"]
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(operators), inner),
        st.builds("({} {} {} {} {})".format, inner, st.sampled_from(comparisons), inner, st.just("<"), inner),
        st.builds(
            "({} | {})".format, inner, st.sampled_from([*filters, "join('-')", "replace('x', 'yy')", "truncate(2)"])
        ),
        st.builds("({} is {})".format, inner, st.sampled_from(tests)),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("({} if {})".format, inner, inner),
        st.builds("(not {})".format, inner),
        st.builds("(-{})".format, inner),
        st.builds("(+{})".format, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("({}, {})".format, inner, inner),
        st.builds("{{'k': {}, {}: 1}}".format, inner, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({})[{}:]".format, inner, inner),
        st.builds("({}).a".format, inner),
    )


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(ATOMS, compound, max_leaves=8))
@example("{'k': 'x', [1, 'x']: 1} if PID-99 else PID-5.1")
def test_closures_mean_what_jinja_means(text: str) -> None:
    given_document = document(ward="4EAST", count=3, flags={"a": True, "O'HARA": 1})
    try:
        compiled = compile_expression(text, ["ward", "gone", "count", "flags"])
    except ExpressionError:
        return
    theirs: Any = StepError
    with contextlib.suppress(Exception):
        theirs = through_jinja(text, given_document)
        if isinstance(theirs, StrictUndefined):
            theirs = StepError
    try:
        ours: Any = compiled(given_document)
    except StepError:
        ours = StepError
    assert type(ours) is type(theirs)
    assert repr(ours) == repr(theirs)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(ATOMS, compound, max_leaves=8), st.sampled_from(["{{{{ {} }}}}", "{{% if {} %}}x{{% endif %}}"]))
@example("'x'.y ~ 'a' if PID-99 else PID-5.1", "{{{{ {} }}}}")
def test_expression_in_a_template_fails_as_mistake_or_on_the_message_and_in_no_other_way(text: str, form: str) -> None:
    try:
        rendering = compile_template(form.format(text), "text", ["ward", "gone", "count", "flags"])
    except ExpressionError:
        return
    with contextlib.suppress(StepError):
        assert isinstance(rendering(document(ward="4EAST", count=3, flags={"a": True})), str)
