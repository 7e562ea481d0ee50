"""What concerns two records keeps its place among both; what is about several patients reaches each of them once."""

import contextlib
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.feed import Sent
from tests.faults.harness.invariants import drain, reach, reading
from tests.faults.harness.sink import busy

pytestmark = pytest.mark.timeout(90)

# From the steps to the patient store; what an engine that died there left, the next one finishes.
POINTS: Final = ("process.returned", "finish.inserted", "finish.committed", "prm.before_commit", "prm.after_commit")


@pytest.mark.parametrize("dies", [False, True])
async def test_merge_keeps_its_place_among_the_messages_of_both_records(tmp_path: Path, dies: bool) -> None:
    async with set_up(tmp_path, channel(destinations="ehr")) as bench:
        await bench.engine.start()
        stays, ceases = bench.feed.patients[:2]
        before = bench.feed.next([ceases])
        merge = bench.feed.next([stays], "A40", [f"MRG|{ceases}^^^MERCY^MR"])
        after = bench.feed.next([ceases]), bench.feed.next([stays])
        elsewhere = bench.feed.next(bench.feed.patients[2:])
        bench.sink.treat("fhir", before.control_id, busy(2))
        await bench.send(before, merge, *after, elsewhere)
        await reach(bench.engine, elsewhere.control_id, "ehr", "delivered")
        assert bench.sink.order["fhir"] == [elsewhere.control_id]
        if dies:
            bench.engine.kill()
            await bench.engine.start()
        await drain(bench.engine, 20)
        assert bench.sink.order["fhir"][1:3] == [before.control_id, merge.control_id]
        assert set(bench.sink.order["fhir"][3:]) == {one.control_id for one in after}


def swap(bench: Bench) -> Sent:
    """Return an A17 about two patients."""
    first, second = (bench.feed.next([patient], "A17") for patient in bench.feed.patients[:2])
    segments = second.body.split(b"\r")
    return Sent(first.control_id, first.patient, first.seq, first.body + b"\r".join(segments[2:]))


@pytest.mark.parametrize("point", POINTS)
async def test_each_patient_of_a_message_is_applied_once_when_the_engine_dies_at(point: str, tmp_path: Path) -> None:
    async with set_up(tmp_path, channel(destinations="patients")) as bench:
        await bench.engine.start(crash=f"{point}:1")
        swapped = swap(bench)
        with contextlib.suppress(OSError, EOFError, AssertionError):  # it may die before its answer is read
            await bench.send(swapped)
        assert await bench.engine.wait(20) == -signal.SIGKILL
        await bench.engine.start()
        await bench.send(swapped)  # the same bytes again: a duplicate
        await drain(bench.engine, 20)
        with reading(bench.engine.patients) as connection:
            applied = connection.rows("SELECT delivery_id FROM applied")
            told = connection.rows("SELECT delivery_id, patient_id, kind FROM patient_event")
        assert len(applied) == len(told) == 2
        assert {row[0] for row in applied} == {row[0] for row in told}
        assert len({row[1] for row in told}) == 2
        assert {row[2] for row in told} == {"encounter.swapped"}
        assert not bench.engine.notices("bug")
