"""This module shows with the real engine that a text goes only to who agreed, and not at night, and then once."""

import datetime as dt
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.functional.running import Running

_CANONICAL: Final = "      patient: {mobile:"
CONSENT: Final = """\
      consent:
        decision: "'permit' if ZCN-2 == 'Y' else 'deny' if ZCN-2 == 'N' else ''"
        purpose: "'appointment'"
        channel: "'sms'"
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    file = tmp_path / "channels" / "mercy-adt.yaml"
    text = file.read_text().replace(_CANONICAL, CONSENT + _CANONICAL)
    file.write_text(text.replace("  welcome-text:\n", "  welcome-text:\n    consent: {purpose: appointment}\n"))
    with running:
        yield running


def text_after(engine: Running, control_id: str, segment: bytes = b"") -> dict[str, Any]:
    """Send a registration that ends with a segment, and return how the text that it leads to ended."""
    message = (engine.folder / "channels" / "messages" / "adt_a04.hl7").read_bytes()
    file = engine.folder / f"{control_id}.hl7"
    file.write_bytes(message.replace(b"MERCY0000104", control_id.encode()).rstrip() + b"\r" + segment)
    done = engine.run("send", str(file))
    assert done.stdout.startswith("AA"), done.stderr
    deliveries = engine.settled(control_id)["deliveries"]
    return next(each for each in deliveries if each["destination"] == "welcome-text")


def test_text_goes_to_who_agreed_until_they_say_no(engine: Running) -> None:
    silent = text_after(engine, "CONSENT1")
    assert (silent["state"], silent["reason"]) == ("suppressed", "nobody has consented to sms for appointment")
    assert text_after(engine, "CONSENT2", b"ZCN|1|Y\r")["state"] == "delivered"
    assert text_after(engine, "CONSENT3")["state"] == "delivered"
    refused = text_after(engine, "CONSENT4", b"ZCN|1|N\r")
    assert refused["state"] == "suppressed"
    assert refused["reason"].startswith("consent to sms for appointment was withdrawn at 20")


def test_text_that_waits_for_the_morning_over_a_crash_is_sent_once(tmp_path: Path) -> None:
    """It is written down as waiting, not as being sent, so that a crash leaves nothing unknown."""
    engine = Running(tmp_path)
    file = tmp_path / "channels" / "mercy-adt.yaml"
    text = file.read_text().replace("first: 30s", "first: 200ms")  # the sandbox may start later than the engine
    now = dt.datetime.now(dt.UTC)
    begin, end, later = (f"{now + dt.timedelta(hours=hours):%H:%M}" for hours in (-1, 6, 12))
    night = '  welcome-text:\n    quiet_hours: {{from: "{}", to: "{}", zone: UTC}}\n'
    file.write_text(text.replace("  welcome-text:\n", night.format(begin, end)))
    with engine:
        engine.send("adt_a04")
        until = time.monotonic() + 10
        while not (waiting := engine.read("deliveries", "list", "--destination", "welcome-text")["deliveries"]):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert [(each["state"], each["attempts"]) for each in waiting] == [("waiting", 0)]
        engine.stop(signal.SIGKILL)
        file.write_text(text.replace("  welcome-text:\n", night.format(end, later)))
        engine.start()
        deliveries = engine.settled("MERCY0000104")["deliveries"]
    (sent,) = [each for each in deliveries if each["destination"] == "welcome-text"]
    outcomes = [each["outcome"] for each in sent["attempts"]]
    assert (sent["state"], outcomes[-1], set(outcomes[:-1]) <= {"retry"}) == ("delivered", "delivered", True)
