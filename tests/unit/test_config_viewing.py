"""Who looks at a message sees what its steps left, whatever that is."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.canonical.codec import decode
from broker.message import Document
from config.build import content_of
from config.program import Program
from config.viewing import EVENT, VALUES, Viewer
from tests.project import plan_of

TREE: dict[str, Any] = {
    "channel": "feed",
    "listen": {"files": {"folder": "inbox"}},
    "format": "ndjson",
    "steps": [
        {"filter": "message.mrn != '0'"},
        {"canonical": {"kind": "patient.updated", "patient": {"mrn": "message.mrn"}}},
        {"script": "scripts/rules.py:rules"},
    ],
    "deliver": {"store": {"prm": {}}},
}
SCRIPT = """\
import dataclasses

def rules(document):
    if document.message["mrn"] == "odd":
        return dataclasses.replace(document.event, kind=object())
    document.values["seen"] = True
    return document
"""


@pytest.fixture
def viewer(tmp_path: Path) -> Viewer:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "rules.py").write_text(SCRIPT)
    made = Program.load(content_of(plan_of(TREE), tmp_path, ["message.mrn", "message.of", "message"]).encode())
    assert isinstance(made, Viewer)
    return made


def seen(viewer: Viewer, mrn: str) -> tuple[str, str | None, str | None, dict[int, bytes]]:
    (state, step, _, reason, ways), requests = viewer.process(orjson.dumps({"mrn": mrn, "of": True}), 1.0)
    assert [way[2] for way in ways] == [len(request) for request in requests]
    return state, step, reason, {way[0]: request for way, request in zip(ways, requests, strict=True)}


def test_values_are_text_and_the_event_is_as_the_steps_left_it(viewer: Viewer) -> None:
    state, _, _, parts = seen(viewer, "7")
    assert state == "processed"
    assert orjson.loads(parts[VALUES]) == {"message.mrn": "7", "message.of": "true", "message": None}
    event = decode(parts[EVENT])
    assert event.patient.mrn is not None
    assert (event.kind, event.patient.mrn.value) == ("patient.updated", "7")


def test_what_a_filter_stopped_has_values_and_no_event(viewer: Viewer) -> None:
    state, step, _, parts = seen(viewer, "0")
    assert (state, step, list(parts)) == ("filtered", "steps.1.filter", [VALUES])
    assert orjson.loads(parts[VALUES])["message.mrn"] == "0"


def test_what_is_no_message_has_nothing(viewer: Viewer) -> None:
    (state, step, _, _, _), (values,) = viewer.process(b"{", 1.0)
    assert (state, step) == ("failed", "read")
    assert set(orjson.loads(values).values()) == {None}


def test_what_cannot_be_shown_fails_by_its_type_alone(viewer: Viewer) -> None:
    assert seen(viewer, "odd") == ("failed", "view", "what the steps left cannot be shown (TypeError)", {})


def test_value_that_cannot_be_had_is_nothing(viewer: Viewer) -> None:
    def broken(_document: Document) -> Any:
        raise ZeroDivisionError

    viewer._wanted = {"x": broken}
    assert orjson.loads(seen(viewer, "7")[3][VALUES]) == {"x": None}
