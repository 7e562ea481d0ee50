"""This module shows that messages over SOAP become patients, and that a kill breaks no promise of an answer."""

import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
import zeep

from tests.functional.running import Running
from tests.ports import free_port

CHANNEL: Final = """\
channel: vaccinations
listen:
  soap: {{endpoint: "127.0.0.1:{port}", path: /iis, preset: cdc_2011, callers: [clinic], answer: {{from: steps}}}}
index: {{visit: MSH-10}}
steps:
  - canonical: {{}}
deliver:
  patient-store:
    prm: {{}}
"""
CALLERS: Final = "\ncallers:\n  clinic: {basic: {user: clinic, password: '${env:CLINIC}'}}\n"
VXU: Final = (
    "MSH|^~\\&|CLINIC|MERCY|IIS|STATE|20261120101500||VXU^V04^VXU_V04|M{0}|P|2.5.1\r"
    "PID|1||00{0}^^^MERCY^MR||Okafor^Ada||20190302|F\r"
    "ORC|RE||V-{0}^CLINIC\r"
    "RXA|0|1|20261120||08^Hep B^CVX|0.5|mL^^UCUM||00^New^NIP001||||||LOT7||MSD^Merck^MVX|||CP|A\r"
)


def test_messages_over_soap_become_patients_and_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    engine, port = Running(tmp_path), free_port()
    (tmp_path / "channels" / "vaccinations.yaml").write_text(CHANNEL.format(port=port))
    settings = tmp_path / "handoff.yaml"
    settings.write_text(settings.read_text() + CALLERS)
    engine.environment["CLINIC"] = "open sesame"
    with engine, ThreadPoolExecutor(4) as pool:
        service = zeep.Client(f"http://127.0.0.1:{port}/iis?wsdl").service

        def submit(number: int, login: str = "open sesame") -> str:
            message = VXU.format(number)
            return str(service.submitSingleMessage(username="clinic", password=login, hl7Message=message))

        assert "\rMSA|AA|M17\r" in submit(17)
        (found,) = engine.read("messages", "--index", "visit=M17")["messages"]
        assert found["state"] == "processed"  # that is what was waited for
        with pytest.raises(zeep.exceptions.Fault, match="nobody knows this caller"):
            submit(18, "guess-18")
        answered = list(pool.map(submit, range(100, 140)))
        log = engine.log.read_text()
        engine.stop(signal.SIGKILL)
    assert all(f"\rMSA|AA|M{number}\r" in told for number, told in enumerate(answered, 100))
    with closing(sqlite3.connect(tmp_path / "var" / "handoff.db")) as store:
        assert store.execute("SELECT count(*) FROM message").fetchone() == (41,)
    assert "peer_refused: channel=vaccinations" in log
    assert not [secret for secret in ("Okafor", "sesame", "guess-18", "LOT7") if secret in log]
