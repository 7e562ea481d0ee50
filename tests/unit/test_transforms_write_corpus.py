"""Other people's messages are written as valid FHIR R4, and as valid HL7 v2 that reads back as the same event."""

import dataclasses
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException, MaxLengthReached
from hl7apy.parser import parse_message

from broker.canonical.model import Event, Observation
from broker.errors import MessageError, StepError
from broker.fhir.check import check, read_resource
from broker.wire.er7 import Message
from transforms.map_fhir import map_fhir
from transforms.map_message import map_message
from transforms.to_fhir import as_text, fhir_of, to_bundle, to_fhir
from transforms.to_hl7 import TYPES, to_hl7
from transforms.validation import validate

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
# an IS, a PV1 that is there because there must be one, the site and number of an observation.
def _essence(found: Any, name: str = "") -> Any:
    if name in {"patient_class", "source", "unread", "occurred_at", "kind"}:
        return None
    if isinstance(found, Observation):
        found = dataclasses.replace(found, body_site=None, identifier=None)
    if dataclasses.is_dataclass(found):
        parts = {field.name: _essence(getattr(found, field.name), field.name) for field in dataclasses.fields(found)}
        return {key: value for key, value in parts.items() if value not in (None, (), {}, [])}
    if isinstance(found, tuple):
        parts_of = [_essence(part, name) for part in found]
        return sorted({part["value"] for part in parts_of}) if name == "telecom" else parts_of
    return found


# What a message keeps from where it came, because no code is changed, nothing is cut and HL7's null stays: codes that a
# table does not have, lengths (hl7apy has 199 for TX and FT, too, where HL7 v2.5.1 has 65,536), and a null for a date.
CODE_UNKNOWN: Final = 103
NULL_DATE: Final = '"" is not an HL7 valid date value'
# What HL7 2.5.1 requires and some of these messages do not say, and the fewest of each family that are written.
UNSAID: Final = {"PID-3", "IN1-3", "DG1-6", "OBR-4", "OBX-3", "OBX-11"}
WRITTEN: Final = {"ADT": 45, "ORU": 35, "SIU": 8, "MDM": 5, "REF": 3}


def test_every_message_is_written_validly_or_refused_with_the_field_that_it_lacks() -> None:
    written: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    wrong: list[str] = []
    for name, found in events().items():
        kind = found.source.message_type
        if kind not in TYPES:
            continue
        try:
            message = to_hl7(found, kind)
        except StepError as error:
            lacking[re.sub(r"\(\d+\)", "", error.location)] += 1
            continue
        written[kind[:3]] += 1
        faults = [each for each in validate(Message.parse(message), "strict") if each.severity == "error"]
        faults = [each for each in faults if each.condition != CODE_UNKNOWN]
        wrong += [f"{name}: {each}" for each in (*faults, _of_hl7apy(message)) if each]
    assert not wrong
    assert set(lacking) <= UNSAID
    assert lacking.total() <= 0.2 * written.total()
    assert all(written[family] >= number for family, number in WRITTEN.items()), written


def _of_hl7apy(message: bytes) -> str:
    try:
        parse_message(message.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True).validate()
    except MaxLengthReached:
        return ""
    except (HL7apyException, ValueError) as error:
        return "" if str(error) == NULL_DATE else f"hl7apy: {error}"
    return ""


def test_message_types_that_can_be_written_read_back_as_the_same_event() -> None:
    same: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for found in events().values():
        kind = found.source.message_type
        if kind not in TYPES:
            continue
        again = map_message(Message.parse(to_hl7(found, kind, optional=UNSAID)))
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
    # An observation that says nothing is not written, and one without a status has that of its report.
    assert same["ORU results"] >= 0.88 * seen["ORU results"], rates
    assert same.total() >= 0.86 * seen.total(), rates
