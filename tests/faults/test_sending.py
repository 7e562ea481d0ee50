"""What an operator stops stays stopped, what stands by comes once, over any crash; and a partner's limit is kept."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.feed import Sent
from tests.faults.harness.invariants import drain, reach, reading, stored
from tests.faults.harness.sink import FAIL_AFTER, HANG, HANG_WITHOUT, OK, REFUSE, RESET, Treatment

# How many messages the tests of `make faults` send.
AMBIGUOUS: Final = int(os.environ.get("FAULT_AMBIGUOUS", "300"))
OUTAGE: Final = int(os.environ.get("FAULT_OUTAGE", "150"))

_MUCH: Final = 1.3  # what short measurements of the same thing differ by

pytestmark = pytest.mark.timeout(180 + AMBIGUOUS // 10 + OUTAGE // 10)


async def _counted(bench: Bench, destination: str, **states: int) -> None:
    """Wait until a destination's deliveries are in these states."""
    sql = "SELECT d.state FROM delivery d JOIN route r ON r.id = d.route_id WHERE r.destination = ?"
    end = time.monotonic() + 20
    with reading(bench.engine.store) as connection:
        while (found := Counter(row[0] for row in connection.rows(sql, (destination,)))) != states:
            assert time.monotonic() < end, f"{destination}: {dict(found)} instead of {states}"
            await asyncio.sleep(0.03)


def _status(bench: Bench, destination: str) -> Any:
    """Return how `handoff status` says that a destination is."""
    (channel_,) = bench.engine.cli("status", "--json")["channels"]
    return next(each["state"] for each in channel_["destinations"] if each["destination"] == destination)


async def test_pause_outlives_a_crash_and_holds_what_comes_meanwhile(tmp_path: Path) -> None:
    """The other destinations go on; after `resume` everything arrives, once and in order."""
    async with set_up(tmp_path, patients=6) as bench:
        engine = bench.engine
        await engine.start()
        engine.cli("pause", "faults/ehr", "--reason", "maintenance", "--json")
        await bench.send(*(bench.feed.next() for _ in range(30)))
        await _counted(bench, "texts", delivered=30)
        engine.kill()
        await engine.start()
        assert _status(bench, "ehr") == "paused"
        await bench.send(*(bench.feed.next() for _ in range(10)))
        await _counted(bench, "texts", delivered=40)
        await _counted(bench, "ehr", waiting=40)
        assert not bench.sink.effects["fhir"]
        engine.cli("resume", "faults/ehr", "--json")
        await bench.assert_kept()
        assert len(engine.notices("paused")) == 2  # when it was, and when it was found so after the start


async def test_paused_channel_takes_nothing_in_until_it_is_resumed(tmp_path: Path) -> None:
    async with set_up(tmp_path) as bench:
        await bench.engine.start()
        await bench.send(bench.feed.next())
        bench.engine.cli("pause", "faults", "--reason", "move", "--json")
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system likes
            await bench.send(bench.feed.next())
        bench.engine.cli("resume", "faults", "--json")
        await bench.send(bench.feed.next())
        await drain(bench.engine)


async def test_pause_is_whole_or_not_at_all_when_the_engine_dies_over_it(tmp_path: Path) -> None:
    async with set_up(tmp_path) as bench:
        await bench.engine.start(crash="act.applied:1")
        bench.engine.cli("pause", "faults/ehr", "--reason", "maintenance", "--json", expect=None)
        assert await bench.engine.wait(20) == -signal.SIGKILL
        await bench.engine.start()
        with reading(bench.engine.store) as connection:
            paused, audited = (connection.rows(f"SELECT count(*) FROM {name}")[0][0] for name in ("pause", "audit"))
        assert (paused, audited) == (0, 0)
        assert _status(bench, "ehr") == "running"


@pytest.mark.parametrize("hit", [1, 2])
async def test_stand_in_comes_once_when_the_engine_dies_at_its_birth(tmp_path: Path, hit: int) -> None:
    """Every third text is refused; the server gets those instead, each once, and no other."""
    # What was on the wire when it died is asked again, and refused again: else it would be held.
    write = channel(more={"texts": "fallback: ehr\n    unknown: retry"})
    async with set_up(tmp_path, write, patients=10) as bench:
        messages = [bench.feed.next() for _ in range(60)]
        refused = messages[::3]
        for one in refused:
            bench.sink.treat("sms", one.control_id, *[REFUSE] * 9)
        bench.engine.spawn(crash=f"fallback.born:{hit}")
        await _send_until_it_dies(bench, messages)
        assert await bench.engine.wait(5) == -signal.SIGKILL
        await bench.engine.start()
        bench.ledger.answers.clear()  # what was acknowledged already is a duplicate now, and answered alike
        await bench.send(*messages)
        await drain(bench.engine)
        assert bench.sink.effects["fhir"] == Counter({one.control_id: 1 for one in refused})
        told = [key for key in bench.sink.order["sms"] if key in bench.ledger.sent]
        assert len(told) <= 40
        for one in refused:
            (copy,) = stored(bench.engine)[one.control_id]
            assert {name: each.state for name, each in copy.deliveries.items()}["ehr"] == "delivered"


async def _send_until_it_dies(bench: Bench, messages: list[Sent]) -> None:
    """Send a few at a time to an engine that has just been started, as soon as it listens."""
    left = list(messages)
    end = time.monotonic() + 60
    while bench.engine.code is None and time.monotonic() < end:
        try:
            await bench.send(*left[:12])
        except (OSError, AssertionError, EOFError):
            await asyncio.sleep(0.02)
        else:
            left = left[12:] or left
            await asyncio.sleep(0.2)


async def test_ambiguous_failures_lead_to_one_effect_each_with_the_same_bytes(tmp_path: Path) -> None:
    """A fifth of all writes takes effect, and is then not answered, or with an error."""
    async with set_up(tmp_path, channel(destinations="ehr", timeout="1s"), patients=100) as bench:
        messages = [bench.feed.next() for _ in range(AMBIGUOUS)]
        ambiguous: tuple[Treatment, ...] = (HANG, RESET, FAIL_AFTER)
        for number, one in enumerate(messages):
            if number % 5 == 0:
                bench.sink.treat("fhir", one.control_id, ambiguous[number // 5 % 3])
        await bench.engine.start()
        for start in range(0, len(messages), 100):
            await bench.send(*messages[start : start + 100])
        await drain(bench.engine, 60 + AMBIGUOUS / 5)
        assert bench.sink.effects["fhir"] == Counter({one.control_id: 1 for one in messages})
        came: dict[str, list[Any]] = {}
        for request in bench.sink.requests:
            came.setdefault(request.key, []).append((request.body, request.headers["x-request-id"]))
        assert {len(set(attempts)) for attempts in came.values()} == {1}


async def test_a_partners_limit_is_kept_while_an_outage_is_made_good_for(tmp_path: Path) -> None:
    """What waited drains as fast as the limit lets anything go, and no second holds more than the limit."""
    limit = 50
    write = channel(destinations="ehr", more={"ehr": f"rate: {limit}/s"})
    async with set_up(tmp_path, write, patients=OUTAGE) as bench:
        await bench.engine.start()
        await bench.sink.close()
        messages = [bench.feed.next([patient]) for patient in bench.feed.patients]
        await bench.send(*messages)
        await reach(bench.engine, messages[0].control_id, "ehr", "waiting")
        await asyncio.sleep(0.5)
        await bench.sink.open()
        await drain(bench.engine, 30 + 2 * OUTAGE / limit)
        times = [request.at for request in bench.sink.requests]
        assert len(times) == OUTAGE
        assert all(later - first >= 1.0 for first, later in zip(times, times[limit:], strict=False))
        # Nine tenths of the pace that leaves room for what comes closer on its way.
        assert (len(times) - 1) / (times[-1] - times[0]) >= 0.9 * 0.94 * limit


async def test_a_destination_that_hangs_costs_the_others_nothing(tmp_path: Path) -> None:
    """Texts leave as fast as without it, within what such a short run can tell: the quickest of three counts."""

    async def texts(folder: Path, treatment: Treatment) -> float:
        write = channel(destinations="ehr texts", timeout="30s")
        async with set_up(folder, write, patients=200) as bench:
            bench.sink.usual["fhir"] = treatment
            await bench.engine.start()
            messages = [bench.feed.next([patient]) for patient in bench.feed.patients]
            began = time.monotonic()
            await bench.send(*messages)
            await _counted(bench, "texts", delivered=200)
            took = time.monotonic() - began
            bench.engine.kill()
            return took

    times = []
    for number in range(3):
        well = await texts(tmp_path / f"well{number}", OK)
        times.append((await texts(tmp_path / f"hanging{number}", HANG_WITHOUT)) / well)
        if times[-1] <= _MUCH:
            break
    assert min(times) <= _MUCH, f"it took {times} times as long"
