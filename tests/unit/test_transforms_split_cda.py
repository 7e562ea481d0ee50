"""A CDA document that belongs into several charts is one document for each."""

from pathlib import Path
from typing import Final

import pytest

from broker.errors import StepError
from config.build import build_program
from console.inspection import Asked, inspect
from tests.cda_documents import HEAD, PROBLEMS, summary
from transforms.map_cda import map_cda, read_cda
from transforms.split_cda import split_cda

BEGIN, END = HEAD.index("<recordTarget>"), HEAD.index("</recordTarget>") + len("</recordTarget>")
TARGET: Final = HEAD[BEGIN:END]
TEXT: Final = {"sms": {"gateway": "g", "to": "+12055550101", "text": "{{ patient.family }}"}}


def group(*targets: str) -> bytes:
    return summary(PROBLEMS, head=HEAD[:BEGIN] + "".join(targets) + HEAD[END:])


def other(number: str, family: str) -> str:
    return TARGET.replace("MR-7", number).replace("Testwood", family)


DATA: Final = group(TARGET, other("MR-8", "Oakwood"))


def test_each_chart_has_the_whole_document_and_one_patient() -> None:
    root = read_cda(DATA)
    first, second = split_cda(root, 2)
    events = [map_cda(part.message()) for part in (first, second)]
    assert [event.patient.family for event in events] == ["Testwood", "Oakwood"]
    assert [len(event.conditions) for event in events] == [2, 2]
    assert (str(second), second.place) == ("patient 2 of 2", "ClinicalDocument.recordTarget[1]")
    assert second.located("ClinicalDocument.recordTarget: x") == "ClinicalDocument.recordTarget[1]: x"
    assert len(root.findall("{urn:hl7-org:v3}recordTarget")) == 2
    with pytest.raises(StepError, match="2 patients; at most 1"):
        split_cda(root, 1)


def test_patient_who_is_named_twice_is_one() -> None:
    assert split_cda(read_cda(group(TARGET)), 9) == []
    (one,) = split_cda(read_cda(group(TARGET, TARGET)), 9)
    assert map_cda(one.message()).patient.family == "Testwood"


def test_channel_delivers_each_and_passes_on_one_patient_alone() -> None:
    ways = {"t": TEXT, "o": {"files": {"folder": "out", "name": "x.xml", "content": "original"}}}
    tree = {"channel": "c", "listen": {"files": {"folder": "in"}}, "format": {"cda": {}}, "steps": [{"canonical": {}}]}
    made = build_program(tree | {"deliver": ways}, Path())
    (state, _, _, reason, found), requests = made.process(DATA, 0.0)
    assert (state, reason, [place for place, *_ in found]) == ("processed", None, [0, 1, 2, 3])
    assert [b"Oakwood" in request for request in requests] == [False, False, True, True]
    assert [b"MR-7" in request for request in requests] == [False, True, False, False]


def test_analyst_is_shown_every_event() -> None:
    assert [event["patient"]["family"] for event in inspect(DATA, Asked()).events] == ["Testwood", "Oakwood"]
