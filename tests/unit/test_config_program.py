"""What a worker says of a message whose steps failed is what the engine takes, whatever a script raised."""

from typing import Any

import orjson
import pytest

from broker.errors import MOST_BREACHES, Breach, StepError
from broker.formats.hl7 import Hl7
from broker.message import Document
from broker.processes import _read_results
from config.program import Program

BODY = b"MSH|^~\\&|A|B|||20240501||ADT^A08|1|P|2.5.1\rPID|1||7^^^M^MR||Okafor\r"


def failing(**raised: Any) -> Program:
    def step(document: Document) -> Document:
        raise StepError("why", **raised)

    program = Program([("steps.1.script", step)], None, [], Hl7().document)
    program.process(BODY, 0.0)
    return program


def crossed(program: Program) -> tuple[Breach, ...]:
    """Return what the engine reads of it."""
    header = {"results": [["failed", "steps.1.script", None, "why", [], [], list(map(tuple, program.breaches))]]}
    (one,) = _read_results(orjson.loads(orjson.dumps(header)), b"", 1)
    return one.breaches


def test_one_code_is_enough() -> None:
    assert crossed(failing(location="MSH-9", condition=200)) == (Breach("MSH-9", 200, "why"),)


def test_failure_without_a_code_says_nothing_more() -> None:
    assert failing(location="PID-3").breaches == ()
    assert failing(condition=42).breaches == ()


@pytest.mark.parametrize(
    "raised",
    [
        {"location": "x" * 5000, "condition": 101},
        {"location": None, "condition": 101},
        {"breaches": (Breach("PID-5", 101, "x" * 5000),) * 100},
        {"breaches": (Breach("PID-5", 101, "a"), Breach("PID-6", 9999, "b"))},
    ],
)
def test_what_a_script_raises_is_cut_to_what_the_engine_takes(raised: dict[str, Any]) -> None:
    found = crossed(failing(**raised))
    assert 1 <= len(found) <= MOST_BREACHES
    assert found[0].condition == 101
