"""Other people's ADT messages are mapped or refused with a location, and agree with what a peer makes of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from broker.canonical.codec import decode, encode
from broker.canonical.model import Event
from broker.errors import MessageError, StepError
from broker.wire.er7 import Message
from transforms.map_adt import map_adt

DATA = Path(__file__).parents[2] / "../shared/data"


def files() -> list[Path]:
    folder = DATA / "hl7"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/hl7, which is not here")
    return [file for file in sorted(folder.glob("*.hl7")) if b"ADT" in file.read_bytes()[:400]]


def test_every_adt_of_other_people_is_mapped_or_refused_with_a_location() -> None:
    outcomes: Counter[str] = Counter()
    for file in files():
        try:
            event = map_adt(Message.parse(file.read_bytes()))
        except StepError as error:
            outcomes[error.location] += 1
        except MessageError:
            outcomes["unreadable"] += 1
        else:
            assert decode(encode(event)) == event, file.name
            outcomes["mapped"] += 1
    assert outcomes["mapped"] >= 50, outcomes
    assert "" not in outcomes


def test_mapping_agrees_with_a_peer_on_the_essentials() -> None:
    path = DATA / "expect/fhir-essentials.json"
    if not path.is_file():
        pytest.skip("needs ../shared/data/expect, which is not here")
    same: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for entry in json.loads(path.read_bytes()):
        if "patient" not in entry or "ADT" not in entry["file"]:
            continue
        try:
            event = map_adt(Message.parse((DATA / entry["file"]).read_bytes()))
        except (StepError, MessageError):
            continue
        for name, theirs, ours in _compare(entry["patient"], event):
            seen[name] += 1
            same[name] += theirs == ours
    assert seen["family"] >= 15
    rates = {name: same[name] / seen[name] for name in seen}
    assert min(rates.values()) >= 0.9, {name: (same[name], seen[name]) for name in seen}


def _compare(theirs: dict[str, Any], event: Event) -> list[tuple[str, Any, Any]]:
    patient = event.patient
    known = {identifier.value for identifier in patient.identifiers}
    values = {identifier["value"] for identifier in theirs.get("identifiers", []) if "value" in identifier}
    rows: list[tuple[str, Any, Any]] = [("identifier", True, bool(known & values) or not values)]
    if "family" in theirs:
        rows.append(("family", theirs["family"], patient.family))
    if theirs.get("given"):
        rows.append(("given", theirs["given"][0], patient.given))
    if "birthDate" in theirs:
        rows.append(("birth_date", theirs["birthDate"], patient.birth_date))
    if "gender" in theirs:
        rows.append(("sex", theirs["gender"], patient.sex))
    return rows
