"""The dispatcher sends in order, as fast as it may and no faster, and leaves nothing behind, over a real store."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from broker import dispatcher, writes
from broker.acts import unsend
from broker.breaker import BreakerPolicy
from broker.delivery import Delivered, Rejected, Retry, Unknown, Via
from broker.errors import StoreError, StoreFatal
from broker.notices import (
    Bug,
    CircuitClosed,
    CircuitOpened,
    CircuitProbed,
    CircuitReopened,
    DeliveriesEnded,
    DestinationBusy,
)
from broker.rate import Rate
from broker.retry import RetryPolicy
from broker.units import Recorded
from tests.dispatching import Rig, Script, rigged, sqlite

_REFUSED = "store: SQLite refused a unit of work (TEST)"
BREAKER = BreakerPolicy(failures=3, first=0.1, longest=0.2)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(sqlite(tmp_path)) as found:
        yield found


def count(rig: Rig, kind: type) -> int:
    """Return how many notices of a kind there were."""
    return sum(isinstance(notice, kind) for notice in rig.said)


@pytest.mark.parametrize("unknown", ["retry", "hold"])
async def test_everything_is_delivered_within_the_concurrency(rig: Rig, unknown: str) -> None:
    script = Script()
    await rig.deliver(40)
    await rig.add("main", script, unknown=unknown, concurrency=4).start()
    await rig.deliver(20)
    await rig.ended({"delivered": 60})
    assert max(script.abreast) <= 4
    assert len({delivery.id for _, delivery in script.sent}) == len(script.sent) == 60


async def test_what_ends_together_is_recorded_together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    record = rig.store.record

    def recording(units: Any) -> Any:
        together.append(len(units))
        return record(units)

    monkeypatch.setattr(rig.store, "record", recording)
    script = Script(hold=asyncio.Event())
    assert script.hold is not None
    await rig.deliver(8)
    await rig.add("main", script, concurrency=8).start()
    await rig.until(lambda: len(script.sent) == 8)
    script.hold.set()
    await rig.ended({"delivered": 8})
    assert together == [8]
    assert [len(notice.seconds) for notice in rig.said if isinstance(notice, DeliveriesEnded)] == [8], "one for each"


async def test_a_batch_takes_as_many_as_it_may(rig: Rig) -> None:
    script = Script()
    await rig.deliver(40)
    await rig.add("main", script, batch=16).start()
    await rig.ended({"delivered": 40})
    assert max(script.batches) == 16


async def test_rate_is_kept_and_reached(rig: Rig) -> None:
    script = Script()
    await rig.deliver(41)
    began = time.monotonic()
    await rig.add("main", script, rate=Rate(50, 1.0), concurrency=8).start()
    await rig.ended({"delivered": 41})
    times = [at for at, _ in script.sent]
    assert 41 / 50 * 0.99 < times[-1] - began < 41 / 50 * 4
    assert all(later - first >= 0.7 * 10 / 50 for first, later in zip(times, times[10:], strict=False))


async def test_retry_after_stops_the_whole_destination(rig: Rig) -> None:
    """Not only the delivery that was answered 429: nothing else is sent before the time is over."""
    script = Script()
    script.outcomes += [Delivered(), Retry("429", after=0.4)]
    await rig.deliver(10)
    await rig.add("main", script).start()
    await rig.ended({"delivered": 10})
    times = [at for at, _ in script.sent]
    assert times[2] - times[1] >= 0.39
    assert count(rig, DestinationBusy) == 1
    assert count(rig, CircuitOpened) == 0


async def test_what_waits_in_memory_goes_back_when_the_other_side_asks_for_time(rig: Rig) -> None:
    """Nothing that is not on the wire is marked as sending for long."""
    script = Script()
    script.outcomes.append(Retry("429", after=60.0))
    await rig.add("main", script).start()
    await rig.deliver(30)
    await rig.ended({"waiting": 30})
    assert rig.dispatchers["main"].state == "busy"
    assert {row[0] for row in await rig.rows("SELECT attempts FROM delivery")} <= {0, 1}


async def test_circuit_opens_probes_with_exactly_one_and_closes(rig: Rig) -> None:
    script = Script()
    script.outcomes += [Unknown("down")] * 6
    await rig.deliver(30)
    await rig.add("main", script, concurrency=4, breaker=BREAKER).start()
    await rig.ended({"delivered": 30})
    assert script.abreast[:7] == [1, 2, 3, 4, 1, 1, 1]
    assert [count(rig, kind) for kind in (CircuitOpened, CircuitProbed, CircuitReopened, CircuitClosed)] == [1, 3, 2, 1]


async def test_probe_is_one_delivery_where_many_go_at_a_time(rig: Rig) -> None:
    script = Script()
    script.outcomes += [Unknown("down")] * 24
    await rig.deliver(30)
    await rig.add("main", script, batch=8, breaker=BREAKER).start()
    await rig.ended({"delivered": 30})
    assert script.batches[3] == 1


async def test_circuit_leaves_alone_longer_and_longer(rig: Rig) -> None:
    script = Script()
    script.outcomes += [Unknown("down")] * 6
    await rig.deliver(1)
    await rig.add("main", script, breaker=BREAKER).start()
    await rig.ended({"delivered": 1})
    times = [at for at, _ in script.sent]
    assert times[3] - times[2] >= 0.1
    assert times[4] - times[3] >= 0.2
    assert times[5] - times[4] >= 0.2
    assert (count(rig, CircuitOpened), count(rig, CircuitReopened), count(rig, CircuitClosed)) == (1, 3, 1)


async def test_pause_lets_the_wire_end_and_puts_everything_else_back(rig: Rig) -> None:
    script = Script(hold=asyncio.Event())
    made = rig.add("main", script, concurrency=2)
    await made.start()
    await rig.deliver(20)
    await rig.until(lambda: len(script.sent) == 2)
    made.pause()
    assert made.state == "paused"
    assert script.hold is not None
    script.hold.set()
    await rig.ended({"delivered": 2, "waiting": 18})
    await rig.deliver(5, lane="more")
    await rig.ended({"delivered": 2, "waiting": 23})
    assert len(script.sent) == 2
    made.resume()
    await rig.ended({"delivered": 25})
    assert [row[0] for row in await rig.rows("SELECT max(attempts) FROM delivery")] == [1]


async def test_a_destination_that_its_file_holds_gets_nothing(rig: Rig) -> None:
    script = Script()
    made = rig.add("main", script, held=True)
    await made.start()
    await rig.deliver(3)
    await asyncio.sleep(0.1)
    assert await rig.states() == {"waiting": 3}
    assert (made.state, script.sent) == ("held", [])


@pytest.mark.parametrize(
    ("outcome", "state"), [(Rejected("422"), "dead"), (Retry("503"), "dead"), (None, "expired")], ids=str
)
async def test_fallback_gets_what_the_first_cannot_have_exactly_once(rig: Rig, outcome: Any, state: str) -> None:
    main, other = Script(), Script()
    main.outcomes += [outcome] if outcome else []
    policy = RetryPolicy(attempts=1, expire=60.0)
    await rig.add("other", other).start()
    await rig.deliver(1, instead="other", arrived=time.time() - (0.0 if outcome else 600.0))
    assert await rig.states("other") == {}
    await rig.add("main", main, policy=policy).start()
    await rig.ended({state: 1})
    # The stand-in is sent with its own bytes; its age counts from the message, so it has to be young enough.
    await rig.ended({"delivered": 1}, "other")
    assert [delivery.request for _, delivery in other.sent] == [b"request"]


async def test_fallback_is_not_needed_where_the_first_succeeds_or_nobody_knows(rig: Rig) -> None:
    main, other = Script(), Script()
    main.outcomes.append(Unknown("timed out"))
    await rig.add("other", other).start()
    await rig.add("main", main, unknown="hold").start()
    await rig.deliver(3, instead="other")
    await rig.ended({"held": 1, "delivered": 2})
    assert await rig.states("other") == {}


async def test_state_comes_true_when_the_store_refuses_a_record(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was delivered does not stay ``sending``; what the store does not take is left out."""
    refused: list[Any] = []
    record = writes.record

    def refusing(connection: Any, sealer: Any, units: Any, counts: Any) -> frozenset[int]:
        for unit in units:
            if unit.detail:
                refused.append(unit)
                raise StoreError(_REFUSED)
        return record(connection, sealer, units, counts)

    monkeypatch.setattr(writes, "record", refusing)
    script = Script()
    script.outcomes += [Delivered("ref", b"odd", via=Via("h:1")), Rejected("no", "PID-3", b"odd")]
    await rig.deliver(2)
    await rig.add("main", script).start()
    await rig.ended({"delivered": 1, "dead": 1})
    assert len(refused) >= 2
    assert count(rig, Bug) >= 2
    assert await rig.rows("SELECT reason FROM delivery WHERE state = 'dead'") == [
        ("not kept: the store refused what came with it",)
    ]
    assert len(script.sent) == 2


async def test_what_was_claimed_and_not_begun_goes_back_when_it_stops(rig: Rig) -> None:
    script = Script(hold=asyncio.Event())
    made = rig.add("main", script)
    await rig.deliver(20)
    await made.start()
    await rig.until(lambda: len(script.sent) == 1)
    stopping = asyncio.create_task(made.stop(5))
    await rig.ended({"sending": 1, "waiting": 19})
    assert script.hold is not None
    script.hold.set()
    await stopping
    assert await rig.states() == {"delivered": 1, "waiting": 19}


async def test_a_destination_that_raises_is_a_bug_and_its_outcome_unknown(rig: Rig) -> None:
    script = Script()
    script.outcomes.append(ValueError("what somebody is called"))
    await rig.deliver(1)
    await rig.add("main", script, unknown="hold").start()
    await rig.ended({"held": 1})
    assert [notice.error for notice in rig.said if isinstance(notice, Bug)] == ["ValueError"]
    assert await rig.rows("SELECT reason FROM delivery") == [("the destination raised ValueError",)]


@pytest.mark.parametrize("work", ["claim", "unsend"])
async def test_it_goes_on_after_the_store_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    """A claim, or what goes back when it is paused, is asked for again."""
    refusals, claim, call = [True], writes.claim, rig.store.call

    def refusing(*args: Any) -> Any:
        if refusals:
            refusals.clear()
            raise StoreError(_REFUSED)
        return claim(*args)

    if work == "claim":
        monkeypatch.setattr(writes, "claim", refusing)
    else:
        _REFUSALS[:] = [True]
        monkeypatch.setattr(rig.store, "call", lambda _unsend, *args: call(_refuse_once, *args))
    script = Script(hold=asyncio.Event())
    assert script.hold is not None
    made = rig.add("main", script)
    await rig.deliver(5)
    await made.start()
    await rig.until(lambda: script.sent)
    made.pause()
    script.hold.set()
    await rig.ended({"delivered": 1, "waiting": 4})
    assert [notice.error for notice in rig.said if isinstance(notice, Bug)] == [_REFUSED]
    made.resume()
    await rig.ended({"delivered": 5})


_REFUSALS: list[bool] = []


def _refuse_once(connection: Any, sealer: Any, ids: Any, now: float) -> int:
    if _REFUSALS:
        _REFUSALS.clear()
        raise StoreError(_REFUSED)
    return unsend(connection, sealer, ids, now)


async def test_what_cannot_be_told_is_a_bug_that_stops_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_args: Any) -> Any:
        raise RuntimeError("what somebody is called")

    monkeypatch.setattr(dispatcher, "ends_told", raising)
    await rig.deliver(2)
    await rig.add("main", Script()).start()
    await rig.ended({"delivered": 2})
    await rig.until(lambda: count(rig, Bug) >= 1)
    assert {notice.error for notice in rig.said if isinstance(notice, Bug)} == {"RuntimeError"}


async def test_nothing_is_sent_before_it_is_started(rig: Rig) -> None:
    script = Script()
    made = rig.add("main", script)
    await rig.deliver(1)
    made.due()
    assert not made.take()
    assert await rig.states() == {"waiting": 1}
    await made.start()
    await rig.ended({"delivered": 1})


async def test_only_so_many_wait_in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_READY", 2)
    made = rig.add("main", Script())
    await made.start()
    assert [made.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("work", ["claim", "unsend"])
async def test_a_store_that_cannot_go_on_is_asked_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch, work: str) -> None:
    """The engine stops then, and says why; this is no bug."""
    await rig.deliver(3)
    script = Script(hold=asyncio.Event())
    made = rig.add("main", script)
    if work == "claim":
        monkeypatch.setattr(writes, "claim", _break)
    await made.start()
    if work == "unsend":
        await rig.until(lambda: script.sent)
        monkeypatch.setattr(
            rig.store, "call", lambda *_args: rig.store._one("call", pickle.dumps((_break, ())), pickle.loads)
        )
        made.pause()
    await rig.until(lambda: rig.fatal)
    await asyncio.sleep(0)
    assert script.hold is not None
    script.hold.set()
    assert count(rig, Bug) == 0


def _break(*_args: Any) -> Any:
    raise StoreFatal("store: the disk is full")


async def test_a_stop_waits_for_a_claim_that_is_on_its_way_and_gives_up_on_what_takes_too_long(rig: Rig) -> None:
    script = Script(hold=asyncio.Event())
    made = rig.add("main", script)
    await rig.deliver(3)
    await made.start()  # the claim has left, and has not been answered
    await made.stop(5)
    assert await rig.states() == {"waiting": 3}
    assert script.sent == []


async def test_timer_that_is_due_at_once_is_none_of_those_that_say_when(rig: Rig) -> None:
    """On uvloop's loop, which the engine runs on."""
    made = rig.add("main", Script())
    made._loop = uvloop.new_event_loop()
    for seconds in (0.0, 0.0, -1.0):
        made._sleep(seconds)
    assert not hasattr(made._timer, "when")
    made._loop.close()


async def test_what_a_delivery_commits_itself_is_never_recorded_without_it(rig: Rig) -> None:
    """Where the store refuses it, it is committed again, and the delivery has not ended until then."""
    tried: list[Recorded] = []

    def commit(recorded: Recorded) -> "asyncio.Future[tuple[Recorded, Any]]":
        tried.append(recorded)
        if len(tried) > 1:
            return asyncio.ensure_future(both(recorded))
        promise: asyncio.Future[tuple[Recorded, Any]] = asyncio.get_running_loop().create_future()
        promise.set_result((recorded, StoreError(_REFUSED)))
        return promise

    async def both(recorded: Recorded) -> tuple[Recorded, Any]:
        assert await rig.states() == {"sending": 1}
        named = recorded._replace(detail=b"there\n\n")
        (due,) = await rig.store.record([named])
        return named, due

    script = Script()
    script.outcomes.append(Delivered(commit=commit))
    await rig.deliver(1)
    await rig.add("main", script).start()
    await rig.ended({"delivered": 1})
    await rig.until(lambda: [unit.detail for unit in rig.concluded] == [b"there\n\n"])
    assert len(tried) == 2
    assert count(rig, Bug) == 1
