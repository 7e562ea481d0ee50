"""This module shows that the real engine takes each version from a FHIR server once, also when it dies over one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import pytest

from tests.conftest import Need
from tests.fhir_exporter import Exporter, patient
from tests.fhir_shelf import Shelf
from tests.functional.running import Running
from tests.functional.test_fhir_servers import medplum
from tests.functional.test_polls import rows

FOUND: Final = 7
CHANNEL: Final = """\
channel: results
listen:
  {listener}
format: {{fhir: {{}}}}
deliver:
  out:
    files:
      folder: out
      name: "{{{{ resource.id }}}}-{{{{ resource.meta.versionId }}}}.txt"
      content: "{{{{ resource.status or resource.id }}}}"
"""
EXPORT: Final = "fhir_export: {server: ehr, schedule: {every: 1h}, group: g1}"
SEARCH: Final = "fhir_search: {server: ehr, schedule: {every: 1s}, resource: Observation, page: %d}"


class Reading(Running):
    """An engine that reads a FHIR server and writes a file of what each message says."""

    def __init__(self, folder: Path, base: str, listener: str) -> None:
        super().__init__(folder)
        (folder / "channels" / "results.yaml").write_text(CHANNEL.format(listener=listener))
        settings = (folder / "handoff.yaml").read_text()
        (folder / "handoff.yaml").write_text(settings.replace("servers:\n", f"servers:\n  ehr: {{base: {base}}}\n"))
        (folder / "out").mkdir()

    def written(self) -> list[str]:
        """Return what was delivered."""
        return sorted(path.read_text() for path in (self.folder / "out").glob("*.txt"))

    def count(self) -> int:
        """Return how many messages are in the store."""
        [(found,)] = rows(self.folder / "var" / "handoff.db", "SELECT count(*) FROM message")
        return int(found)

    def wait_for(self, written: int) -> None:
        """Wait until so much was delivered."""
        until = time.monotonic() + 30
        while len(self.written()) < written:
            assert time.monotonic() < until, self.log.read_text()[-2000:]
            time.sleep(0.05)


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    for number in range(FOUND):
        shelf.put(f"o{number}", number)
    await shelf.start()
    yield shelf
    await shelf.stop()


@pytest.fixture(scope="module")
def router(need: Need, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Medplum's router, which is not ours."""
    need("npm")
    yield from medplum(need("node"), tmp_path_factory.mktemp("medplum"))


def ask(method: str, url: str, resource: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/fhir+json"}
    with urlopen(Request(url, json.dumps(resource).encode(), headers, method=method), timeout=10) as answer:
        told: dict[str, Any] = json.loads(answer.read())
        return told


async def test_each_version_is_taken_once_though_the_engine_dies_at_each_step(shelf: Shelf, tmp_path: Path) -> None:
    def run() -> None:
        engine = Reading(tmp_path, shelf.base, SEARCH % 3)
        for point in ("poll.committed:2", "poll.settled:2"):
            engine.die_at(point)
            assert engine.count() == 5  # two pages, whose edges are one
        with engine:
            engine.wait_for(FOUND)
            shelf.put("o2", 60, version="2", status="amended")
            engine.wait_for(FOUND + 1)
            assert engine.count() == FOUND + 1
            assert engine.written().count("amended") == 1
            assert "poll_failed" not in engine.log.read_text()

    await asyncio.to_thread(run)


def test_changes_on_a_server_that_is_not_ours_are_taken_once(router: str, tmp_path: Path) -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "Weight"}}
    first, *_ = [ask("POST", f"{router}/fhir/Observation", observation) for _ in range(FOUND)]
    engine = Reading(tmp_path, f"{router}/fhir", SEARCH % 100)
    engine.die_at("poll.committed")
    assert engine.count() == FOUND
    with engine:
        engine.wait_for(FOUND)
        ask("PUT", f"{router}/fhir/Observation/{first['id']}", {**first, "status": "amended"})
        engine.wait_for(FOUND + 1)
        assert engine.count() == FOUND + 1
        assert engine.written() == ["amended"] + ["final"] * FOUND
        assert "poll_failed" not in engine.log.read_text()


async def test_export_is_taken_once_though_the_engine_dies_at_each_step(tmp_path: Path) -> None:
    exporter = Exporter(rounds=1)
    exporter.files = {each: [patient(f"{each}{number}") for number in range(60)] for each in ("a", "b")}
    await exporter.start()

    def run() -> None:
        engine = Reading(tmp_path, exporter.base, EXPORT)
        for point in ("poll.begun", "accept.committed", "poll.committed"):
            engine.die_at(point)
        assert engine.count() == 60
        with engine:
            engine.wait_for(120)
            until = time.monotonic() + 30
            while "export_read" not in engine.log.read_text():
                assert time.monotonic() < until, engine.log.read_text()[-2000:]
                time.sleep(0.05)
            assert engine.count() == len(set(engine.written())) == 120
            assert "poll_failed" not in engine.log.read_text()
            assert not list((tmp_path / "var" / "fhir" / "results").iterdir())

    await asyncio.to_thread(run)
    await exporter.stop()
    assert (exporter.begun, exporter.removed) == (1, ["j0"])
