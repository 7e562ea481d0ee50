"""A message that kills or stalls its worker process fails alone; all others of its batch are delivered, in order."""

import time
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness.bench import set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.engine import Engine
from tests.faults.harness.invariants import stored

pytestmark = pytest.mark.timeout(110)

_SCRIPT: Final = '''\
"""What a user's step can do wrong, chosen by a segment of the message."""

import os
import signal


def act(document):
    kind = document.message.get("ZPO-1")
    if kind == "raise":
        raise ValueError(document.event.patient.family)
    if kind == "loop":
        while True:
            pass
    if kind == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(8 << 20))
    if kind == "recursion":
        return act(document)
    if kind == "exit":
        os._exit(3)
    if kind == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "print":
        print(document.event.patient.family)
        return None
    return document
'''
# What a poison message asks for, and the step that it must fail at.
KINDS: Final = {
    "raise": "script",
    "loop": "worker",
    "memory": "script",
    "recursion": "script",
    "exit": "worker",
    "signal": "worker",
    "print": "script",
}
_SETTINGS: Final = "step_deadline: 1s\nworker_memory: 256MiB\n"


@pytest.mark.parametrize(
    "kinds", [("raise", "recursion", "print"), ("memory", "loop"), ("exit", "raise", "signal")], ids="+".join
)
async def test_poison_fails_alone_among_innocents(kinds: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "channels" / "scripts" / "poison.py"
    script.parent.mkdir(parents=True)
    script.write_text(_SCRIPT)
    write = channel(step="scripts/poison.py:act")
    async with set_up(tmp_path, write, settings=_SETTINGS, patients=8) as bench:
        await bench.engine.start()
        places = {5 + 8 * number: kind for number, kind in enumerate(kinds)}
        messages = [
            bench.feed.next(extra=[f"ZPO|{places[number]}"] if number in places else []) for number in range(40)
        ]
        began = time.monotonic()
        await bench.send(*messages)
        assert time.monotonic() - began < 2.0, "acknowledgments waited for steps"
        await bench.assert_kept(seconds=60)
        _assert_alone(bench.engine, {messages[number].control_id: kind for number, kind in places.items()})


def _assert_alone(engine: Engine, poisoned: dict[str, str]) -> None:
    for control_id, (one,) in stored(engine).items():
        if control_id in poisoned:
            kind = poisoned[control_id]
            assert (one.state, one.deliveries) == ("failed", {}), kind
            assert one.step is not None
            assert KINDS[kind] in one.step, kind
            assert one.reason
        else:
            assert one.state == "processed"
            assert {name: delivery.state for name, delivery in one.deliveries.items()} == dict.fromkeys(
                ("patients", "ehr", "texts"), "delivered"
            )
    letters = engine.cli("dead", "list", "--json")["dead"]
    assert len(letters) == len(poisoned)
    assert {letter["state"] for letter in letters} == {"failed"}
