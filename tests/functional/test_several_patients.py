"""Messages about several patients, sent over MLLP to the shipped engine, reach each patient once."""

from pathlib import Path
from typing import Any, Final

import pytest

from tests.functional.running import Running

_HEAD: Final = (
    "MSH|^~\\&|ADT|MERCY|HANDOFF|PRM|2026050110{minute:02}00||{kind}|{name}|P|2.5.1\rEVN||2026050110{minute:02}00\r"
)


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """A running engine whose channel takes every type of message, into the patient store alone."""
    with Running(tmp_path) as running:
        path = running.folder / "channels" / "mercy-adt.yaml"
        written = path.read_text().replace("'A40']", "'A40', 'A17']")
        path.write_text(written.replace("event.kind != 'patient.merged'", "event.kind == ''"))
        done = running.run("reload")
        assert done.returncode == 0, done.stdout + done.stderr
        yield running


def write(engine: Running, kind: str, name: str, *segments: str, minute: int = 0) -> None:
    """Send a message."""
    text = _HEAD.format(kind=kind, name=name, minute=minute) + "".join(f"{segment}\r" for segment in segments)
    (engine.folder / "channels" / "messages" / f"{name}.hl7").write_bytes(text.encode())
    engine.send(name)


def pid(number: str, family: str) -> str:
    """Return a patient's PID."""
    return f"PID|1||{number}^^^MERCY^MR||{family}^Ada||19620910|F"


def pv1(number: str, bed: str) -> str:
    """Return a patient's PV1."""
    return f"PV1|1|I|W^1^{bed}||||||||||||||||V{number}^^^MERCY^VN"


def patient(engine: Running, number: str) -> dict[str, Any]:
    """Return the one patient who has a number."""
    (found,) = engine.read("patients", "show", "--mrn", number)["patients"]
    return dict(found)


def test_two_merges_of_one_message_are_two_merges_in_the_store(engine: Running) -> None:
    """Every patient first, then an A40 with two pairs; each ends where it belongs, each once, found by both."""
    for number in ("11", "12", "21", "22"):
        write(engine, "ADT^A28", f"A{number}", pid(number, f"F{number}"))
    write(
        engine, "ADT^A40^ADT_A39", "MERGES",
        pid("11", "F11"), "MRG|12^^^MERCY^MR", pid("21", "F21"), "MRG|22^^^MERCY^MR", minute=1,
    )  # fmt: skip
    journey = engine.settled("MERGES")
    assert journey["state"] == "processed"
    assert [(each["destination"], each["patient"], each["state"]) for each in journey["deliveries"]] == [
        ("patient-store", 1, "delivered"),
        ("patient-store", 2, "delivered"),
    ]
    for kept, ceased in (("11", "12"), ("21", "22")):
        merged = patient(engine, kept)
        assert [one["value"] for one in merged["merged_from"]] == [ceased]
        assert patient(engine, ceased)["id"] == merged["id"]
        assert [event["kind"] for event in merged["timeline"]].count("patient.merged") == 1
    for number in ("11", "21"):
        found = engine.read("messages", "--mrn", number)["messages"]
        assert "MERGES" in [one["control_id"] for one in found]
    shown = engine.run("trace", journey["id"]).stdout
    assert "patient-store, patient 2: delivered" in shown


def test_swap_moves_both_patients(engine: Running) -> None:
    """Each is in the other's bed, and came from their own."""
    for number, bed in (("31", "A"), ("32", "B")):
        write(engine, "ADT^A01", f"A{number}", pid(number, f"F{number}"), pv1(number, bed))
    write(engine, "ADT^A17", "SWAP", pid("31", "F31"), pv1("31", "B"), pid("32", "F32"), pv1("32", "A"), minute=2)
    assert engine.settled("SWAP")["state"] == "processed"
    for number, bed, before in (("31", "B", "A"), ("32", "A", "B")):
        (visit,) = patient(engine, number)["encounters"]
        assert bed in str(visit["location"])
        assert before in str(visit["prior_location"])


def test_one_bad_part_fails_the_message_and_a_replay_of_it_delivers_nothing_twice(engine: Running) -> None:
    """All or nothing: the dead letter names the part; none of it is in the patient store, also not after a replay."""
    write(engine, "ADT^A40", "BAD", pid("41", "F41"), "MRG|42^^^MERCY^MR", pid("43", "F43"), "MRG|")
    engine.settled("BAD")
    (dead,) = engine.read("dead", "list")["dead"]
    assert dead["location"] == "MRG(2)-1"
    assert dead["reason"].startswith("patient 2 of 2: ")
    assert "canonical" in dead["step"]
    assert engine.run("dead", "replay", dead["id"], "--reason", "try again", "--yes").returncode == 0
    engine.settled("BAD")
    assert engine.read("patients", "show", "--mrn", "41")["patients"] == []
