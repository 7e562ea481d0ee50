"""The reads give the same answers on SQLite and on PostgreSQL."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from broker import ids, queries
from broker.migrate import migrate
from broker.queries import Filter
from broker.seal import Sealer
from broker.store import Store
from broker.units import Finished, NewDelivery, NewMessage, Quarantine, Recorded

SEALER = Sealer(b"k" * 32)
BASE = (1 << 60) + 54321 * 64


class Bench:
    """A store with one channel of two destinations, filled step by step."""

    def __init__(self, store: Store, registered: Any) -> None:
        self.store = store
        self.registered = registered
        self.ids = ids.Ids(BASE)

    async def read(self, function: Callable[..., Any], *args: Any) -> Any:
        """Read as the engine does."""
        return await self.store.read(function, SEALER, *args)

    async def receive(self, control_id: str, mrn: str = "1") -> int:
        """Accept a message; return its id."""
        body = f"MSH|^~\\&|A|B|C|D|2026||ADT^A04|{control_id}|P|2.5.1\rPID|||{mrn}".encode()
        message = NewMessage(
            id=self.ids.next(),
            channel=self.registered.channel,
            received_at=time.time(),
            type="ADT^A04",
            peer="127.0.0.1:1",
            sender=SEALER.sender_hash(control_id.encode()),
            digest=SEALER.digest(body),
            body=body,
            hashes=(SEALER.search_hash("adt", "control_id", control_id), SEALER.search_hash("adt", "mrn", mrn)),
        )
        return (await self.store.accept(message)).id

    async def finish(self, message: int, state: str = "processed", **stopped: str) -> None:
        """End the steps; a processed message gets a delivery to prm and one to ehr that waits for it."""
        routes = self.registered.routes
        prm = NewDelivery(id=message + 1, route=routes["prm"], lane=message, after=None, eager=True, request=b"a")
        ehr = NewDelivery(id=message + 2, route=routes["ehr"], lane=message, after=message + 1, eager=True, request=b"b")
        await self.store.finish(
            Finished(
                id=message,
                channel=self.registered.channel,
                revision=self.registered.revision,
                state=state,
                at=time.time(),
                deliveries=(prm, ehr) if state == "processed" else (),
                **stopped,
            )
        )

    async def end(self, message: int, state: str, outcome: str, reason: str | None = None) -> None:
        """Record the first attempt of the delivery to prm."""
        now = time.time()
        await self.store.record(
            Recorded(
                id=message + 1,
                route=self.registered.routes["prm"],
                lane=message,
                number=1,
                started_at=now - 0.25,
                ended_at=now,
                outcome=outcome,
                state=state,
                open=state == "waiting",
                due_at=now + 60 if state == "waiting" else None,
                reason=reason,
                location="PID-3" if reason else None,
            )
        )


@pytest.fixture
async def bench(store_urls: str) -> AsyncIterator[Bench]:
    """An open store on each database."""
    migrate(store_urls)
    store = Store(store_urls, SEALER, lambda _notice: None)
    await store.open()
    try:
        yield Bench(store, await store.register("adt", "digest-1", '{"channel": {}}', ["prm", "ehr"]))
    finally:
        await store.close()


async def test_messages_come_newest_first_with_control_ids_and_deliveries(bench: Bench) -> None:
    """The list shows what an operator looks for, and no body."""
    first, second = await bench.receive("C1"), await bench.receive("C2")
    await bench.finish(first)
    rows = await bench.read(queries.messages, Filter())
    assert [(row.id, row.control_id, row.state) for row in rows] == [(second, "C2", "received"), (first, "C1", "processed")]
    assert [(d.destination, d.state) for d in rows[1].deliveries] == [("prm", "sending"), ("ehr", "waiting")]
    assert rows[1].revision == "digest-1"
    assert [row.id for row in await bench.read(queries.messages, Filter(limit=1, before=second))] == [first]


async def test_messages_are_narrowed_by_every_filter(bench: Bench) -> None:
    """Each filter finds its message, and filters add up."""
    begun = time.time()
    one, other = await bench.receive("C1", "77"), await bench.receive("C2", "78")
    await bench.finish(one)
    await bench.end(one, "dead", "rejected", "422")
    await bench.finish(other, "failed", step="canonical", reason="PID-7 is not a date")

    async def found(**wanted: Any) -> list[int]:
        return [row.id for row in await bench.read(queries.messages, Filter(**wanted))]

    assert await found(control_id="C1") == await found(index=(("mrn", "77"),)) == [one]
    assert await found(state="dead") == await found(state="cancelled") == [one]
    assert await found(state="failed") == await found(control_id="C2", state="failed") == [other]
    assert await found(control_id="C2", state="processed") == []
    assert await found(state="held") == await found(channel="other") == await found(state="nonsense") == []
    assert await found(since=begun - 1) == [other, one]
    assert await found(since=time.time() + 100) == []


async def test_trace_holds_deliveries_and_attempts(bench: Bench) -> None:
    """A journey is whole, and a delivery's id finds it too."""
    message = await bench.receive("C1")
    await bench.finish(message)
    await bench.end(message, "waiting", "retry", "503")
    journey = await bench.read(queries.trace, message + 2)
    prm, ehr = journey.deliveries
    assert (journey.message.id, journey.message.control_id, journey.content) == (message, "C1", '{"channel": {}}')
    assert (prm.destination, prm.state, prm.class_, prm.reason) == ("prm", "waiting", "retry", "503")
    assert prm.due_at > time.time()
    assert [(a.number, a.outcome, a.reason) for a in prm.attempts] == [(1, "retry", "503")]
    assert prm.attempts[0].ended_at - prm.attempts[0].started_at == pytest.approx(0.25, abs=0.01)
    assert (ehr.after, ehr.attempts) == ("prm", ())
    assert await bench.read(queries.trace, message + 64) is None


async def test_dead_letters_are_deliveries_and_failed_messages(bench: Bench) -> None:
    """Both kinds wait for the operator, with what is wrong and where."""
    one, other = await bench.receive("C1"), await bench.receive("C2")
    await bench.finish(one)
    await bench.end(one, "held", "unknown", "timed out")
    await bench.finish(other, "failed", step="canonical", location="PID-7", reason="not a date")
    failed, held = await bench.read(queries.dead)
    assert (failed.id, failed.destination, failed.step, failed.location) == (other, None, "canonical", "PID-7")
    assert (held.id, held.message_id, held.destination, held.class_) == (one + 1, one, "prm", "unknown")
    assert (held.attempts, held.state, held.location) == (1, "held", "PID-3")
    assert held.failed_at is not None
    assert await bench.read(queries.dead_ids) == await bench.read(queries.dead_ids, "adt") == [one + 1, other]
    assert await bench.read(queries.dead, "other") == await bench.read(queries.dead_ids, "other") == []
    assert [letter.id for letter in await bench.read(queries.dead, "adt", other, 5)] == [one + 1]


async def test_quarantine_is_listed(bench: Bench) -> None:
    """What never became a message is not forgotten."""
    unit = Quarantine(
        id=bench.ids.next(), channel=bench.registered.channel, at=5.0, peer="p", reason="no MSH", size=3, body=b"abc"
    )
    await bench.store.quarantine(unit)
    (row,) = await bench.read(queries.quarantined)
    assert (row.id, row.channel, row.reason, row.size, row.received_at) == (unit.id, "adt", "no MSH", 3, 5.0)


async def test_counts_and_backlog_agree_with_what_happened(bench: Bench) -> None:
    """Counts are of hours; what waits is counted as it is now."""
    one, other = await bench.receive("C1"), await bench.receive("C2")
    await bench.finish(one)
    await bench.end(one, "waiting", "retry", "503")
    hour = int(time.time() // 3600)
    table = {(c.destination, c.name): c.value for c in await bench.read(queries.counts, hour - 1)}
    assert table == {(None, "received"): 2, (None, "processed"): 1, ("prm", "attempt"): 1}
    assert await bench.read(queries.counts, 0, hour - 1) == []
    waits = {each.destination: each for each in await bench.read(queries.backlog)}
    assert {name: each.waiting for name, each in waits.items()} == {None: 1, "prm": 1, "ehr": 1}
    assert waits[None].oldest_at == pytest.approx((other >> 22) / 1000 + ids.EPOCH_MS / 1000)
    assert waits["prm"].due_at > time.time()
    assert await bench.read(queries.ping)


async def test_reads_change_nothing(bench: Bench) -> None:
    """The reader's connection may not write."""
    with pytest.raises(Exception, match="store:"):
        await bench.store.read(lambda connection: connection.run("DELETE FROM message"))
