"""Other people's messages are written as valid FHIR R4, and as HL7 v2 that reads back as the same event."""

import dataclasses
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import pytest

from broker.canonical.model import Event
from broker.errors import MessageError, StepError
from broker.fhir.check import check, read_resource
from broker.wire.er7 import Message
from transforms.map_fhir import map_fhir
from transforms.map_message import map_message
from transforms.to_fhir import as_text, fhir_of, to_bundle, to_fhir
from transforms.to_hl7 import TYPES, to_hl7

DATA: Final = Path(__file__).parents[2] / "../shared/data/hl7"
ZONE: Final = "America/New_York"


@cache
def events() -> dict[str, Event]:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/hl7, which is not here")
    found: dict[str, Event] = {}
    for file in sorted(DATA.glob("*.hl7")):
        try:
            found[file.name] = map_message(Message.parse(file.read_bytes()))
        except (StepError, MessageError):
            continue
    return found


def test_every_event_is_valid_fhir() -> None:
    wrong: Counter[str] = Counter()
    written = 0
    for found in events().values():
        for resource in to_fhir(found, ZONE):
            wrong.update(fault.place for fault in check(orjson.loads(as_text(resource))) if fault.error)
            written += 1
    assert not wrong
    assert written > 2000


def test_every_event_with_a_patient_is_one_transaction() -> None:
    refused: Counter[str] = Counter()
    for found in events().values():
        try:
            entries = to_bundle(found, ZONE)["entry"]
        except StepError as error:
            refused[str(error)] += 1
            continue
        urls = [entry["request"]["url"] for entry in entries if entry["request"]["method"] == "PUT"]
        assert len(set(urls)) == len(urls)
    assert set(refused) <= {"fhir: Patient has no identifier to find it again by"}
    assert refused.total() <= 5


def test_patient_reads_back_from_fhir_with_the_same_essentials() -> None:
    compared = 0
    for found in events().values():
        patient = found.patient
        if patient.mrn is None:
            continue
        back = map_fhir(read_resource(as_text(fhir_of(found, "Patient", ZONE)).encode())).patient
        assert (back.birth_date, back.sex, back.mrn and back.mrn.value) == (
            patient.birth_date,
            patient.sex,
            patient.mrn.value,
        )
        assert {name.family for name in patient.names} <= {name.family for name in back.names}
        assert {number.value for number in patient.identifiers} <= {number.value for number in back.identifiers}
        assert len(back.addresses) == len(patient.addresses)
        compared += 1
    assert compared > 200


# What HL7 has one place for, or says otherwise in 2.5.1, is not compared: the order of telephone numbers, the text of
# an IS, and a PV1 that is there because there must be one.
def _essence(found: Any, name: str = "") -> Any:
    if name in {"patient_class", "source", "unread", "occurred_at", "kind"}:
        return None
    if dataclasses.is_dataclass(found):
        parts = {field.name: _essence(getattr(found, field.name), field.name) for field in dataclasses.fields(found)}
        return {key: value for key, value in parts.items() if value not in (None, (), {}, [])}
    if isinstance(found, tuple):
        parts_of = [_essence(part, name) for part in found]
        return sorted({part["value"] for part in parts_of}) if name == "telecom" else parts_of
    return found


def test_message_types_that_can_be_written_read_back_as_the_same_event() -> None:
    same: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for found in events().values():
        kind = found.source.message_type
        if kind not in TYPES:
            continue
        again = map_message(Message.parse(to_hl7(found, kind)))
        assert again.kind == found.kind or kind == "ORU^R01"
        assert again.patient.mrn == found.patient.mrn
        one, two = _essence(found), _essence(again)
        family = kind[:3]
        for part in {*one, *two}:
            seen[f"{family} {part}"] += 1
            same[f"{family} {part}"] += one.get(part, {}) == two.get(part, {})
    rates = {part: (same[part], seen[part]) for part in seen}
    assert seen["ADT patient"] >= 50
    assert seen["ORU results"] >= 50
    assert all(rate[0] == rate[1] for part, rate in rates.items() if part.endswith(" patient")), rates
    assert same["ORU results"] >= 0.95 * seen["ORU results"], rates
    assert same.total() >= 0.9 * seen.total(), rates
