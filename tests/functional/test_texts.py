"""This module tests texts end to end: the engine as a newcomer has it, and an SMSC that we did not write."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Need
from tests.functional.running import Running
from tests.peers.smsc import Smsc

GATEWAY = """\
gateways:
  twilio:
    kind: smpp
    endpoint: 127.0.0.1:{port}
    account: clinic
    password: "${{env:SMPP_PASSWORD}}"
    from: "+12055550100"
    plain: loopback
    replies: text-replies
    price: {{segment: 0.0075, currency: USD}}
"""
REPLIES = """\
channel: text-replies
listen: {texts: {}}
format: text
steps:
  - canonical: {}
deliver:
  patient-store:
    when: event.kind in ['consent.given', 'consent.withdrawn']
    prm: {}
"""


@pytest.fixture
def smsc(need: Need) -> Iterator[Smsc]:
    with Smsc(need) as running:
        yield running


@pytest.fixture
def engine(tmp_path: Path, smsc: Smsc) -> Iterator[Running]:
    running = Running(tmp_path)
    settings = (tmp_path / "handoff.yaml").read_text()
    head, tail = settings[: settings.index("gateways:")], settings[settings.index("# FHIR R4 servers") :]
    (tmp_path / "handoff.yaml").write_text(head + GATEWAY.format(port=smsc.port) + tail)
    (tmp_path / "channels" / "text-replies.yaml").write_text(REPLIES)
    running.environment["SMPP_PASSWORD"] = "pw"
    with running:
        yield running


def register(engine: Running, control_id: str) -> dict[str, Any]:
    """Send a registration, and return how the text that it leads to ended."""
    message = (engine.folder / "channels" / "messages" / "adt_a04.hl7").read_bytes()
    file = engine.folder / f"{control_id}.hl7"
    file.write_bytes(message.replace(b"MERCY0000104", control_id.encode()))
    done = engine.run("send", str(file))
    assert done.stdout.startswith("AA"), done.stderr
    journey = engine.settled(control_id)
    return next(each for each in journey["deliveries"] if each["destination"] == "welcome-text")


def until_reply(engine: Running, count: int) -> list[dict[str, Any]]:
    """Wait until so many replies went through; return them, the newest first."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        found: list[dict[str, Any]] = engine.read("messages", "--channel", "text-replies")["messages"]
        done = [one for one in found if one["state"] == "processed"]
        if len(done) == count and all(d["state"] == "delivered" for one in done for d in one["deliveries"]):
            return done
        time.sleep(0.1)
    raise AssertionError(engine.log.read_text())


def test_who_answers_stop_gets_no_text_until_they_answer_start(engine: Running, smsc: Smsc) -> None:
    assert register(engine, "TEXT0001")["state"] == "delivered"
    number = smsc.wait("submit")["to"]
    assert smsc.wait("taken")["status"] == 0  # the receipt

    smsc.bring(**{"from": number, "to": "12055550100", "text": "Thanks!"})
    smsc.bring(**{"from": number, "to": "12055550100", "text": " stop. "})
    smsc.wait("taken", 3)
    until_reply(engine, 2)
    suppressed = register(engine, "TEXT0002")
    assert suppressed["state"] == "suppressed"
    assert suppressed["reason"].startswith("the recipient opted out of texts at 20")
    assert number[-4:] not in suppressed["reason"]
    assert len(smsc.heard("submit")) == 1

    smsc.bring(**{"from": number, "to": "12055550100", "text": "START"})
    until_reply(engine, 3)
    assert register(engine, "TEXT0003")["state"] == "delivered"
    assert number not in engine.log.read_text()


def test_journey_says_what_the_gateway_reported(engine: Running, smsc: Smsc) -> None:
    text = register(engine, "TEXT0001")
    assert smsc.wait("taken")["status"] == 0
    until = time.monotonic() + 10
    while not text["reports"]:
        assert time.monotonic() < until
        time.sleep(0.1)
        found = engine.read("trace", "TEXT0001")["deliveries"]
        text = next(each for each in found if each["destination"] == "welcome-text")
    (report,) = text["reports"]
    assert (report["state"], report["code"]) == ("delivered", "")
    assert "reported delivered at 20" in engine.run("trace", "TEXT0001").stdout


def test_opting_out_is_learnt_from_the_gateway(engine: Running, smsc: Smsc) -> None:
    """An SMSC that knows before us who wants no more texts refuses; from then on it is not even asked."""
    file = engine.folder / "handoff.yaml"
    assert engine.stop() == 0
    file.write_text(file.read_text().replace("    plain:", "    suppress: [1034]\n    plain:"))
    sample = engine.folder / "channels" / "messages" / "adt_a04.hl7"
    number = b"(205)555-0187^PRN^CP^^1^205^5550187"
    assert number in sample.read_bytes()
    sample.write_bytes(sample.read_bytes().replace(number, b"(202)555-0183^PRN^CP^^1^202^5550183"))
    engine.start()
    assert register(engine, "TEXT0001")["state"] == "suppressed"
    until_reply(engine, 1)
    again = register(engine, "TEXT0002")
    assert again["state"] == "suppressed"
    assert again["reason"].startswith("the recipient opted out")
    assert len(smsc.heard("submit")) == 1
