"""This module shows what a channel can say about rows: columns, dates by a pattern, and the canonical event."""

from pathlib import Path
from typing import Any

import pytest

from broker.canonical.model import Event, Identifier
from broker.errors import StepError
from broker.formats.delimited import CsvSpec
from broker.formats.reading import Format
from broker.message import Document
from config.program import Exit, Program
from transforms.canonical import CanonicalSpec
from transforms.kit import Kit
from transforms.mistakes import ExpressionError
from transforms.script import View
from transforms.set import SetSpec

HEADER = "mrn,Last Name,dob,sex\n"
PATIENT = {
    "mrn": "row.mrn",
    "family": "row['Last Name'] | trim",
    "birth_date": "row.dob | date('%m/%d/%Y')",
    "sex": "row.sex",
}


def form(**options: Any) -> Format:
    return CsvSpec.model_validate(options).build(None)


def kit(**options: Any) -> Kit:
    return Kit(Path(), form(**options))


def document(row: str = "0012, Lee ,09/10/1962,F") -> Document:
    return form().document(f"%row file=a.csv line=7 codec=utf-8 delimiter=%2C\n{HEADER}{row}\n".encode(), 0.0)


def event(row: str = "0012, Lee ,09/10/1962,F", **options: Any) -> Event:
    spec = CanonicalSpec.model_validate({"kind": "patient.updated", "patient": PATIENT, **options})
    result = spec.build(kit())(document(row))
    assert isinstance(result, Document)
    assert result.event is not None
    return result.event


def test_row_becomes_the_event_that_the_channel_says() -> None:
    found = event()
    mrn = Identifier(value="0012")
    assert (found.kind, found.source.control_id, found.source.message_type) == ("patient.updated", "a.csv:7", "csv")
    assert (found.patient.mrn, found.patient.identifiers) == (mrn, (mrn,))
    assert (found.patient.family, found.patient.birth_date, found.patient.sex) == ("Lee", "1962-09-10", "female")
    assert found.encounter is None


def test_kind_and_encounter_can_come_from_the_row() -> None:
    kind = "'patient.registered' if row.sex == 'F' else 'patient.updated'"
    assert event(kind=kind).kind == "patient.registered"
    found = event(encounter={"identifier": "'V' ~ row.mrn"}).encounter
    assert found is not None
    assert found.identifier == Identifier(value="V0012")


def test_schedules_become_appointments() -> None:
    when = {"starts_at": "'2026-12-01T' ~ '10:30:00'", "identifier": "'A' ~ row.mrn"}
    found = event(kind="appointment.booked", appointment=when).appointment
    assert found is not None
    assert (found.starts_at, found.identifier) == ("2026-12-01T10:30:00", Identifier(value="A0012"))


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (",Lee,09/10/1962,F", {}, "patient.mrn is empty"),
        ("1,Lee,1962-09-10,F", {}, "is not a date"),
        ("1,Lee,02/30/1962,F", {}, "is not a date"),
        ("1,Lee,09/10/1962,Q", {}, "patient.sex"),
        ("1,Lee,x,F", {"patient": {**PATIENT, "birth_date": "row.dob"}}, "patient.birth_date: not a date"),
        ("1,Lee,,F", {"kind": "row.sex"}, "kind: the expression must give"),
    ],
)
def test_row_fails_when_it_says_nothing_that_can_be(row: str, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(StepError, match=expected) as caught:
        event(row, **options)
    assert "Lee" not in str(caught.value)


def test_empty_values_say_nothing() -> None:
    found = event("1,,,").patient
    assert (found.family, found.birth_date, found.sex) == (None, None, None)


def test_canonical_step_is_refused_when_it_does_not_say_the_kind() -> None:
    with pytest.raises(ExpressionError, match=r"csv has no standard mapping.*write `kind: patient.updated`"):
        CanonicalSpec().build(kit())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("row.mnr", "the rows have no column mnr; did you mean mrn?"),
        ("row['mnr']", "the rows have no column mnr"),
        ("row[3]", "the rows have no column 3"),
        ("row.mrn.value", "a text has no value"),
        ("file.x", "a text has no x"),
        ("PID-3.1", "PID-3.1 is a place in an HL7 message, and the messages of this channel are csv"),
        ("rows.mrn", "rows is not defined; did you mean row?"),
        ("row.mrn | date('%m/%d/%y')", "either century"),
        ("row.mrn | date('%H')", "a pattern of a date has"),
        ("row.mrn | date('%Y-%Y')", "each once"),
    ],
)
def test_expression_is_refused_when_the_declared_rows_have_no_such_thing(text: str, expected: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        kit(columns=["mrn", "dob"]).expression(text)
    assert expected in str(caught.value)


def test_template_is_refused_when_it_reads_hl7() -> None:
    with pytest.raises(ExpressionError, match="PID-5"):
        kit().template("Dear {{ PID-5.2 }}")
    with pytest.raises(ExpressionError, match="PID-5"):
        kit().value("{{ PID-5.2 }}")
    assert kit().value("Dear {{ row.mrn }}")(document()) == "Dear 0012"
    assert kit().value("plain")(document()) == "plain"


def test_unknown_column_fails_the_row_when_columns_are_not_declared() -> None:
    with pytest.raises(StepError, match="not defined"):
        kit().expression("row.other")(document())


def test_columns_without_names_are_read_by_number() -> None:
    nameless = form(header=False)
    row = nameless.document(b"a,b\n", 0.0)
    assert Kit(Path(), nameless).expression("row[2] ~ row['1']")(row) == "ba"
    with pytest.raises(StepError):
        Kit(Path(), nameless).expression("row[3]")(row)


def test_place_can_be_used_and_not_renamed() -> None:
    assert kit().expression("file ~ ':' ~ line")(document()) == "a.csv:7"
    with pytest.raises(ExpressionError, match="row has a meaning already in csv"):
        SetSpec.model_validate({"row": "file"}).build(kit())


def test_script_sees_the_row_and_no_hl7() -> None:
    view = View(document())
    assert view.message.get("mrn") == "0012"
    assert view.values["line"] == 7
    with pytest.raises(StepError, match="no HL7"):
        _ = view.hl7


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("09/10/1962", "%m/%d/%Y", "1962-09-10"),
        ("10-SEP-1962", "%d-%b-%Y", "1962-09-10"),
        (" 1962 ", "%Y", "1962"),
        ("09/1962", "%m/%Y", "1962-09"),
        ("19620910", "%Y%m%d", "1962-09-10"),
    ],
)
def test_date_is_read_by_its_pattern(text: str, pattern: str, expected: str) -> None:
    found = kit().expression(f"row.dob | date('{pattern}')")(document(f"1,x,{text},F"))
    assert found == expected


def test_failure_says_the_line_of_the_row() -> None:
    mapped = CanonicalSpec.model_validate({"kind": "patient.updated", "patient": {"mrn": "row.none"}}).build(kit())
    exits = [Exit("deliver.x", None, lambda _: b"")]
    program = Program([("steps.1.canonical", mapped)], None, exits, form().document)
    body = f"%row file=a.csv line=7 codec=utf-8 delimiter=%2C\n{HEADER}1,2,3,4\n".encode()
    assert program.process(body, 0.0)[0][:3] == ("failed", "steps.1.canonical", "line 7")
    assert program.process(body + b"5\n", 0.0)[0][:3] == ("failed", "read", "line 7")
