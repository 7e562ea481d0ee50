"""Other people's clinical messages are mapped or refused with a location, and agree with what a peer makes of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Event, Observation
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from transforms.map_message import MAPPERS, map_message
from transforms.map_order import map_order
from transforms.map_pharmacy import map_pharmacy
from transforms.map_problem import map_problem
from transforms.map_result import map_result
from transforms.map_vaccination import map_vaccination

DATA = Path(__file__).parents[2] / "../shared/data"
OURS = (map_result, map_order, map_pharmacy, map_vaccination, map_problem)
CODES = frozenset(code for code, mapper in MAPPERS.items() if mapper in OURS)


def messages() -> list[Message]:
    folder = DATA / "hl7"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/hl7, which is not here")
    found = []
    for file in sorted(folder.glob("*.hl7")):
        try:
            found.append(Message.parse(file.read_bytes()))
        except MessageError:
            continue
    return found


def test_every_clinical_message_of_other_people_is_mapped_or_refused_with_a_location() -> None:
    outcomes: Counter[str] = Counter()
    for message in messages():
        if message.header.message_code.decode("latin-1") not in CODES:
            continue
        try:
            event = map_message(message)
        except StepError as error:
            outcomes[error.location] += 1
        else:
            assert decode(encode(event)) == event
            assert _says_something(event), message.header.type
            outcomes["mapped"] += 1
    assert outcomes["mapped"] >= 120, outcomes
    # What is refused has no patient, several of them, or none of the segments that its type is about.
    assert set(outcomes) <= {"mapped", "PID", "OBR", "ORC"}


def _says_something(event: Event) -> bool:
    return bool(
        event.results
        or event.orders
        or event.observations
        or event.medications
        or event.immunizations
        or event.conditions
    )


@pytest.mark.parametrize("mapper", OURS)
def test_messages_of_any_type_do_no_harm(mapper: Any) -> None:
    locations = []
    for message in messages():
        try:
            event = mapper(message)
        except StepError as error:
            locations.append(error.location)
        else:
            assert decode(encode(event)) == event
    assert all(locations)


def test_observations_agree_with_a_peer_on_the_essentials() -> None:
    path = DATA / "expect/fhir-essentials.json"
    if not path.is_file():
        pytest.skip("needs ../shared/data/expect, which is not here")
    seen: Counter[str] = Counter()
    same: Counter[str] = Counter()
    missed = []
    for entry in json.loads(path.read_bytes()):
        for code in _codes(entry):
            try:
                event = map_message(Message.parse((DATA / entry["file"]).read_bytes()))
            except (StepError, MessageError):
                continue
            ours = [each for each in _observations(event) if _is(each, code)]
            agrees = any(_has_value(each, code) for each in ours) or _is_content(event, code)
            seen[_code(entry)] += 1
            same[_code(entry)] += agrees
            if not agrees:
                missed.append(_code(entry))
    assert seen.total() >= 150
    assert same.total() / seen.total() >= 0.97, (same.total(), seen.total(), Counter(missed))


def _codes(entry: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = entry.get("observations") or []
    return found


def _code(entry: dict[str, Any]) -> str:
    return str(entry["file"]).rpartition("__")[2][:7]


def _observations(event: Event) -> list[Observation]:
    found = list(event.observations)
    found += [each for result in event.results for each in result.observations]
    found += [each for given in event.immunizations for each in given.observations]
    return found


def _is(ours: Observation, theirs: dict[str, Any]) -> bool:
    code = theirs["code"]
    if ours.code is None:
        return False
    known = {ours.code.code, *(coding.code for coding in ours.code.alternates)}
    return code.get("code") in known or code.get("display") in (ours.code.text, ours.code.display)


def _is_content(event: Event, theirs: dict[str, Any]) -> bool:
    """Tell whether a text is a line of the document that the event is about: there OBX are what it says."""
    files = event.document.attachments if event.document else ()
    return theirs.get("valueString") in {line for file in files for line in (file.data or "").splitlines()}


def _has_value(ours: Observation, theirs: dict[str, Any]) -> bool:
    """Tell whether the values are the same; texts but for their blanks."""
    if "valueQuantity" in theirs:
        number = theirs["valueQuantity"].get("value")
        return number is None or (ours.value is not None and _number(ours.value) == number)
    if "valueCodeableConcept" in theirs:
        code = theirs["valueCodeableConcept"].get("code")
        return code is None or (ours.concept is not None and ours.concept.code == code)
    text = theirs.get("valueString") or theirs.get("valueDateTime")
    return text is None or (ours.value or "").split() == text.split()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
