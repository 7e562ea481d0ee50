"""This module shows with the real engine that only who agreed gets a text, and that a *no* counts from when it came."""

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
