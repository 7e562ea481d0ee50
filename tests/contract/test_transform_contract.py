"""This module holds what every step must keep, and runs it against each of them."""

import contextlib
import copy
from pathlib import Path
from typing import Any

import pytest

from broker.canonical.codec import encode
from broker.errors import HandoffError, StepError
from broker.message import Document, Filtered
from broker.spec import StepSpec
from broker.wire.er7 import Message
from transforms.canonical import CanonicalSpec
from transforms.filter import FilterSpec
from transforms.kit import Kit
from transforms.script import ScriptSpec
from transforms.set import SetSpec
from transforms.validate import ValidateSpec

CHANNELS = Path(__file__).parents[2] / "channels"
CANARY = "Zyxwvut"
RAW = (
    f"MSH|^~\\&|ADT1|MERCY|||20240501103000||ADT^A04|1|P|2.5.1\r"
    f"PID|1||00123^^^MERCY^MR||{CANARY}^Ngozi||19620910|F\rPV1|1|I|4EAST^412^B\r"
).encode()

# Each step, as a channel writes it: one that works on RAW, and one that fails or stops on it.
STEPS: list[tuple[type[StepSpec], dict[str, Any], dict[str, Any]]] = [
    (ValidateSpec, {}, {"level": "strict"}),
    (FilterSpec, {"expression": "MSH-9.2 == 'A04'"}, {"expression": "PID-5.1 | int"}),
    (SetSpec, {"ward": "PV1-3.1"}, {"ward": "PID-5.1 | date"}),
    (CanonicalSpec, {}, {"patient": {"deceased": "PID-5.1"}}),
    (ScriptSpec, {"function": "scripts/mercy.py:house_rules"}, {"function": "scripts/mercy.py:house_rules"}),
]
IDS = [spec.__name__ for spec, _, _ in STEPS]


def document(raw: bytes = RAW, *, mapped: bool = True) -> Document:
    given = Document(message=Message.parse(raw), received_at=0.0)
    result = CanonicalSpec().build(Kit(CHANNELS))(given) if mapped else given
    assert isinstance(result, Document)
    return result


def seen(given: Document) -> tuple[bytes, bytes, dict[str, Any], float]:
    event = encode(given.event) if given.event is not None else b""
    return given.message.raw, event, copy.deepcopy(given.values), given.received_at


@pytest.mark.parametrize(("spec", "options", "_failing"), STEPS, ids=IDS)
def test_step_returns_a_document_or_filtered_and_is_pure(
    spec: type[StepSpec], options: dict[str, Any], _failing: dict[str, Any]
) -> None:
    step = spec.model_validate(options).build(Kit(CHANNELS))
    given = document()
    before = seen(given)
    first, second = step(given), step(given)
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert seen(first) == seen(second)
    assert seen(given) == before


@pytest.mark.parametrize(("spec", "_options", "failing"), STEPS, ids=IDS)
def test_step_that_fails_raises_a_step_error_without_patient_data(
    spec: type[StepSpec], _options: dict[str, Any], failing: dict[str, Any]
) -> None:
    step = spec.model_validate(failing).build(Kit(CHANNELS))
    given = document(mapped=spec is not ScriptSpec)  # without an event the script fails
    with pytest.raises(StepError) as caught:
        step(given)
    assert CANARY.lower() not in f"{caught.value} {caught.value.location} {caught.value.step}".lower()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(("spec", "options", "_failing"), STEPS, ids=IDS)
@pytest.mark.parametrize(
    "raw", [b"MSH|^~\\&|", b"MSH|^~\\&|||||||ADT^A08\rPID|", b"MSH|^~\\&|||||||ADT^A40\rPID|||1\rMRG|"]
)
def test_step_survives_any_message(
    spec: type[StepSpec], options: dict[str, Any], _failing: dict[str, Any], raw: bytes
) -> None:
    outcome: object = None
    with contextlib.suppress(HandoffError):
        outcome = spec.model_validate(options).build(Kit(CHANNELS))(document(raw, mapped=False))
    assert isinstance(outcome, Document | Filtered | None)


@pytest.mark.parametrize("spec", [spec for spec, _, _ in STEPS], ids=IDS)
def test_spec_describes_itself_and_every_field(spec: type[StepSpec]) -> None:
    assert spec.__doc__
    assert all(field.description for field in spec.model_fields.values())
    assert not spec.short_form or spec.short_form in spec.model_fields
    assert spec.model_config.get("frozen")
    assert spec.model_json_schema()["type"] == "object"
