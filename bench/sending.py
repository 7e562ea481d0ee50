"""This module measures what destinations cost each other: one that hangs, and one that was away for a long time."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from bench.engine import ROOT, Engine, free_port, load
from bench.load import PATIENTS
from broker.sql import connect

FHIR: Final = """\
  {name}:
    fhir:
      server: {name}
      resource: '{{"resourceType": "Communication", "status": "completed",
        "identifier": [{{"system": "urn:bench", "value": "{{{{ event.source.control_id }}}}"}}]}}'
      search: "identifier=urn:bench|{{{{ event.source.control_id }}}}"
      on_match: keep
      validate: false
      timeout: 10s
    retry: {{attempts: 0, expire: 7d}}
    {more}
"""
_WAITING: Final = (
    "SELECT count(*) FROM delivery d JOIN route r ON r.id = d.route_id WHERE d.open AND r.destination = '{name}'"
)


@dataclass
class OtherSide:
    """The other side as a process; ``said`` is what it counted, once it has ended."""

    port: int
    process: subprocess.Popen[str]
    said: dict[str, Any] = field(default_factory=dict)


@contextmanager
def other_side(port: int, *options: str) -> Iterator[OtherSide]:
    """Serve on a port."""
    command = [sys.executable, "-m", "bench.other_side", str(port), *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "listens\n":
        raise SystemExit("the other side did not start")
    found = OtherSide(port, process)
    try:
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        found.said |= json.loads(process.communicate(timeout=60)[0] or "{}")


def _server(port: int) -> dict[str, str]:
    return {"base": f"http://127.0.0.1:{port}"}


def hanging(seconds: float) -> dict[str, Any]:
    """Measure deliveries to a server alone, beside one that is as well as it, and beside one that never answers."""
    found: dict[str, Any] = {}
    for name, options in (("beside_a_well_one", ()), ("beside_one_that_hangs", ("hang",))):
        ehr, other = free_port(), free_port()
        destinations = FHIR.format(name="ehr", more="") + FHIR.format(name="other", more="")
        engine = Engine(destinations, settings={"servers": {"ehr": _server(ehr), "other": _server(other)}})
        try:
            with other_side(ehr) as side, other_side(other, *options):
                engine.start()
                load(engine.port, "-c", 8, "--count", 500)
                _drained(engine, "ehr")
                loaded = load(engine.port, "-c", 8, "--seconds", seconds)
                took = _drained(engine, "ehr") - loaded["began"]
                found[name] = {"delivered_per_second": round(loaded["acknowledged"] / took, 1)}
                engine.stop(keep=True)
            found[name]["creates"] = side.said["creates"]
        finally:
            engine.stop()
    well, bad = (each["delivered_per_second"] for each in found.values())
    return found | {"share": round(bad / well, 3)}


def outage(waiting: int, rate: str = "") -> dict[str, Any]:
    """Measure how fast what waited behind a server that was away drains, against how fast it goes otherwise.

    ``rate`` is a limit as a channel file says it; then the most that came in any second is told beside it.
    """
    port = free_port()
    more = f"rate: {rate}" if rate else "breaker: {first: 1s, longest: 2s}"
    engine = Engine(FHIR.format(name="ehr", more=more), settings={"servers": {"ehr": _server(port)}})
    try:
        engine.start()
        with other_side(port) as usual:
            load(engine.port, "-c", 8, "--count", 500)
            _drained(engine, "ehr")
            before = time.time()
            count = load(engine.port, "-c", 8, "--count", min(waiting, 5000))["acknowledged"]
            normal = count / (_drained(engine, "ehr") - before)
        load(engine.port, "-c", 32, "--count", max(waiting, 2 * PATIENTS))
        queued = _left(engine, "ehr")
        with other_side(port) as after:
            _drained(engine, "ehr", 900)
        drained = after.said["creates"] / after.said["seconds"]
        return {
            "waiting": queued,
            "normal_per_second": round(normal, 1),
            "drained_per_second": round(drained, 1),
            "share": round(drained / normal, 3),
            "most_in_a_second": max(usual.said["most_in_a_second"], after.said["most_in_a_second"]),
            "limit": rate or None,
        }
    finally:
        engine.stop()


def _left(engine: Engine, name: str) -> int:
    connection = connect(f"sqlite:///{engine.folder}/var/handoff.db", writer=False)
    try:
        received = int(connection.rows("SELECT count(*) FROM message WHERE state = 'received'")[0][0])
        return received + int(connection.rows(_WAITING.format(name=name))[0][0])
    finally:
        connection.close()


def _drained(engine: Engine, name: str, limit: float = 120) -> float:
    """Wait until a destination has everything; return when that was (POSIX seconds)."""
    until = time.time() + limit
    while time.time() < until:
        if not _left(engine, name):
            return time.time()
        time.sleep(0.05)
    raise SystemExit(f"{name} was not drained within {limit:g} s")
