"""This module measures the way back: one ADT event written as a FHIR Patient, as a transaction and as HL7 v2."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from broker.wire.er7 import Message
from transforms.map_message import map_message
from transforms.to_fhir import as_text, fhir_of
from transforms.to_hl7 import to_hl7

ROOT = Path(__file__).parents[1]


def measure(rounds: int = 15, count: int = 1000) -> dict[str, float]:
    """Return microseconds of CPU for each, the best of some rounds; the loop tells how fast the machine is just now."""
    message = Message.parse((ROOT / "channels/messages/adt_a08.hl7").read_bytes())
    event = map_message(message)
    works: dict[str, Callable[[], object]] = {
        "fhir_patient_us": lambda: fhir_of(event, "Patient"),
        "fhir_patient_as_text_us": lambda: as_text(fhir_of(event, "Patient")),
        "fhir_bundle_us": lambda: fhir_of(event, "Bundle"),
        "hl7_a08_us": lambda: to_hl7(event),
    }
    found = {name: round(_best(work, rounds, count), 1) for name, work in works.items()}
    return {"empty_loop_ns": round(_best(_nothing, rounds, count) * 1000, 1), **found}


def _best(work: Callable[[], object], rounds: int, count: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(count):
            work()
        best = min(best, time.process_time() - start)
    return best / count * 1e6


def _nothing() -> None:
    """Do nothing."""


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
