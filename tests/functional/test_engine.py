"""A message from a hospital reaches the patient store, a phone and the EHR: the whole engine, as it is shipped."""

import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.functional.running import Running


def by_name(journey: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a journey's deliveries by destination."""
    return {each["destination"]: each for each in journey["deliveries"]}


@pytest.fixture
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A running engine on SQLite."""
    with Running(tmp_path) as running:
        yield running


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_registration_reaches_all_three(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """AA, a journey with three deliveries, the patient, the text and the write-back; within a second or so."""
    store = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    with Running(tmp_path, store, laid=False) as engine:
        engine.send("adt_a04")
        journey = engine.settled("MERCY0000104")
        assert journey["state"] == "processed"
        deliveries = by_name(journey)
        assert {name: each["state"] for name, each in deliveries.items()} == {
            "patient-store": "delivered",
            "welcome-text": "delivered",
            "ehr": "delivered",
        }
        assert all([each["outcome"] for each in one["attempts"]] == ["delivered"] for one in deliveries.values())
        (patient,) = engine.read("patients", "show", "--mrn", "70031882")["patients"]
        assert (patient["family"], patient["birth_date"], patient["sex"]) == ("Okafor", "1962-09-10", "female")
        log = engine.read("sandbox", "log")
        assert [text["to"] for text in log["texts"]] == ["+12055550187"]
        assert [(one["type"], one["verb"]) for one in log["write_backs"]] == [("Patient", "create")]
        assert engine.read("dead", "list") == {"dead": []}
        assert engine.stop() == 0


def test_a_story_of_several_messages(engine: Running) -> None:
    """Update, admission, second registration, merge, discharge: one patient with all of the history."""
    engine.send("adt_a04", "adt_a08", "adt_a01", "adt_a04_duplicate", "adt_a40", "adt_a03")
    engine.settled("MERCY0000403")
    (patient,) = engine.read("patients", "show", "--mrn", "70031882")["patients"]
    (same,) = engine.read("patients", "show", "--mrn", "70031955")["patients"]
    assert same["id"] == patient["id"]
    assert [one["value"] for one in patient["merged_from"]] == ["70031955"]
    assert len(patient["timeline"]) == 6
    assert {one["status"] for one in patient["encounters"]} == {"arrived", "finished"}


def test_the_same_message_again_has_no_second_effect(engine: Running) -> None:
    """A duplicate is answered as the first time; one text leaves."""
    engine.send("adt_a04", "adt_a04", "adt_a04")
    engine.settled("MERCY0000104")
    assert len(engine.read("messages")["messages"]) == 1
    assert len(engine.read("sandbox", "log")["texts"]) == 1


def test_a_filtered_message_is_acknowledged(engine: Running) -> None:
    """Filtered is not rejected."""
    path = engine.folder / "channels" / "messages" / "oru.hl7"
    body = (engine.folder / "channels" / "messages" / "adt_a08.hl7").read_bytes()
    path.write_bytes(body.replace(b"ADT^A08^ADT_A01", b"ORU^R01^ORU_R01").replace(b"MERCY0000308", b"MERCY0000399"))
    engine.send("oru")
    journey = engine.settled("MERCY0000399")
    assert journey["state"] == "filtered"
    assert journey["deliveries"] == []


def test_what_validation_let_pass_is_counted_by_channel_and_code(engine: Running) -> None:
    """Neither the log nor the sender hears of it; monitoring does."""
    path = engine.folder / "channels" / "mercy-adt.yaml"
    path.write_text(path.read_text().replace("steps:\n", "steps:\n  - validate: {}\n", 1))
    assert engine.run("reload").returncode == 0
    body = (engine.folder / "channels" / "messages" / "adt_a08.hl7").read_bytes()
    changed = body.replace(b"|19620910|", b"|someday|").replace(b"MERCY0000308", b"MERCY0000397")
    (engine.folder / "channels" / "messages" / "odd.hl7").write_bytes(changed)
    engine.send("odd")
    assert engine.settled("MERCY0000397")["state"] == "processed"
    with urllib.request.urlopen(f"http://127.0.0.1:{engine.console}/metrics") as page:
        counted = [line for line in page.read().decode().splitlines() if "validation_warnings_total{" in line]
    assert counted == ['handoff_validation_warnings_total{channel="mercy-adt",code="102"} 2.0']  # PID-7 and GT1-8


def test_what_a_step_cannot_do_is_a_dead_letter_that_can_be_replayed(engine: Running) -> None:
    """Class, reason, step and location; after a discard it is gone from the list."""
    path = engine.folder / "channels" / "messages" / "bad.hl7"
    body = (engine.folder / "channels" / "messages" / "adt_a08.hl7").read_bytes()
    path.write_bytes(body.replace(b"\rPID|", b"\rZID|").replace(b"MERCY0000308", b"MERCY0000398"))
    engine.send("bad")
    engine.settled("MERCY0000398")
    (dead,) = engine.read("dead", "list")["dead"]
    assert dead["location"] == "PID"
    assert "canonical" in dead["step"]
    assert "Okafor" not in str(dead)
    replayed = engine.run("dead", "replay", dead["id"], "--reason", "try again", "--yes")
    assert replayed.returncode == 0, replayed.stderr
    engine.settled("MERCY0000398")
    assert len(engine.read("dead", "list")["dead"]) == 1
    discarded = engine.run("dead", "discard", dead["id"], "--reason", "sent in error", "--yes")
    assert discarded.returncode == 0, discarded.stderr
    assert engine.read("dead", "list")["dead"] == []


def test_a_reload_takes_effect_and_keeps_the_port(engine: Running) -> None:
    """A changed channel file is live after `handoff reload`; one with errors changes nothing and says them all."""
    path = engine.folder / "channels" / "mercy-adt.yaml"
    written = path.read_text()
    path.write_text(
        written.replace("retry: {attempts: 3", "retry: {atempts: 3").replace("server: mercy-ehr", "server: mercy-er")
    )
    refused = engine.run("reload")
    assert refused.returncode == 1
    assert "atempts" in refused.stdout + refused.stderr
    assert "mercy-er" in refused.stdout + refused.stderr
    engine.send("adt_a04")
    assert len(engine.settled("MERCY0000104")["deliveries"]) == 3
    path.write_text(
        written.replace("    when: event.kind != 'patient.merged'", "    when: event.kind == 'patient.merged'")
    )
    assert engine.run("reload").returncode == 0
    engine.send("adt_a01")
    journey = engine.settled("MERCY0000201")
    assert [each["destination"] for each in journey["deliveries"]] == ["patient-store"]


def test_a_stop_and_a_start_lose_nothing(engine: Running) -> None:
    """What was accepted before a stop, or a kill, is there and done after the next start."""
    engine.send("adt_a04")
    assert engine.stop(signal.SIGKILL) == -9
    engine.start()
    assert engine.settled("MERCY0000104")["state"] == "processed"
    assert engine.stop() == 0
    engine.start()
    engine.send("adt_a04")
    assert len(engine.read("messages")["messages"]) == 1


def test_the_first_page_counts(engine: Running) -> None:
    """The console's first page needs no login and shows the channel."""
    engine.send("adt_a04")
    engine.settled("MERCY0000104")
    time.sleep(0.6)
    with urllib.request.urlopen(f"http://127.0.0.1:{engine.console}/") as page:
        html = page.read().decode()
    assert "mercy-adt" in html
    assert "Okafor" not in html


def test_nothing_of_a_patient_is_in_the_log(engine: Running) -> None:
    """Neither name, number nor date; also not in the engine's store."""
    engine.send("adt_a04", "adt_a40")
    engine.settled("MERCY0000640")
    log = engine.log.read_text()
    engine.stop()
    store = b"".join(path.read_bytes() for path in (engine.folder / "var").glob("handoff.db*"))
    for canary in ("Okafor", "Adaeze", "70031882", "19620910", "5550187"):
        assert canary not in log
        assert canary.encode() not in store


def test_commands_end_with_their_exit_codes(engine: Running) -> None:
    """2 for usage, 4 when the engine is away, 5 without its token, 3 when it cannot start."""
    assert engine.run("trace").returncode == 2
    second = engine.run("run")
    assert second.returncode == 3
    assert "data folder" in second.stderr
    token = engine.folder / "var" / "console.token"
    token.write_text("not the token\n")
    assert engine.run("messages").returncode == 5
    engine.stop()
    assert engine.run("messages").returncode == 4
    (engine.folder / "channels" / "mercy-adt.yaml").write_text("channel: mercy-adt\nlisten: {mlp: {}}\n")
    assert engine.run("check").returncode == 1
    assert engine.run("run").returncode == 2


def test_taken_port_of_the_console_is_said_before_anybody_is_let_in(tmp_path: Path) -> None:
    """In one sentence, and no listener has begun."""
    engine = Running(tmp_path)
    with socket.create_server(("127.0.0.1", engine.console)):
        ended = engine.run("run", "--verbose")
    assert ended.returncode == 3
    said = f"console: cannot listen on 127.0.0.1:{engine.console} (address already in use); "
    assert ended.stderr.splitlines()[-1] == f"{said}end the program that has it, or change console.endpoint"
    assert "listener_started" not in ended.stderr
