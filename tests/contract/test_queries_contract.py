"""The reads give the same answers on SQLite and on PostgreSQL."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker import ids, queries
from broker.delivery import Via
from broker.keys import Keys
from broker.queries import Filter
from broker.queries_disclosed import disclosed
from broker.seal import Sealer
from broker.sql import Connection
from broker.store import Store
from broker.units import Quarantine
from tests.filling import SEALER, Filling


@pytest.fixture
async def filling(laid_urls: str) -> AsyncIterator[Filling]:
    """An open store on each database."""
    store = Store(laid_urls, SEALER, lambda _notice: None, inside=True)  # so that it can run `_sort`
    await store.open()
    try:
        yield Filling(store, await store.register("adt", "digest-1", '{"channel": {}}', ["prm", "ehr"]))
    finally:
        await store.close()


async def test_messages_come_newest_first_with_control_ids_and_deliveries(filling: Filling) -> None:
    """The list shows what an operator looks for, and no body."""
    first, second = await filling.receive("C1"), await filling.receive("C2")
    await filling.finish(first)
    rows = await filling.read(queries.messages, Filter())
    assert [(row.id, row.control_id, row.state) for row in rows] == [
        (second, "C2", "received"),
        (first, "C1", "processed"),
    ]
    assert [(d.destination, d.state) for d in rows[1].deliveries] == [("prm", "sending"), ("ehr", "waiting")]
    assert rows[1].revision == "digest-1"
    assert [row.id for row in await filling.read(queries.messages, Filter(limit=1, before=second))] == [first]


async def test_messages_are_narrowed_by_every_filter(filling: Filling) -> None:
    """Each filter finds its message, and filters add up."""
    begun = time.time()
    one, other = await filling.receive("C1", "77"), await filling.receive("C2", "78")
    await filling.finish(one)
    await filling.end(one, "dead", "rejected", "422")
    await filling.finish(other, "failed", step="canonical", reason="PID-7 is not a date")

    async def found(**wanted: Any) -> list[int]:
        return [row.id for row in await filling.read(queries.messages, Filter(**wanted))]

    assert await found(control_id="C1") == await found(index=(("mrn", "77"),)) == [one]
    assert await found(state="dead") == await found(state="waiting") == [one]
    assert await found(state="failed") == await found(control_id="C2", state="failed") == [other]
    assert await found(control_id="C2", state="processed") == []
    assert await found(state="held") == await found(channel="other") == await found(state="nonsense") == []
    assert await found(since=begun - 1) == [other, one]
    assert await found(since=time.time() + 100) == []


def _sort(connection: Connection, _sealer: Sealer) -> None:
    keys = Keys()
    keys.load(connection)
    keys.sort(connection)


async def test_messages_are_found_by_index_after_their_hashes_were_sorted_too(filling: Filling) -> None:
    """Old and new messages are found alike."""
    one = await filling.receive("C1", "77")
    await filling.store.call(_sort)
    other = await filling.receive("C2", "77")
    rows = await filling.read(queries.messages, Filter(index=(("mrn", "77"),)))
    assert [row.id for row in rows] == [other, one]


async def test_trace_holds_deliveries_and_attempts(filling: Filling) -> None:
    """A journey is whole, and a delivery's id finds it too."""
    message = await filling.receive("C1")
    await filling.finish(message)
    await filling.end(message, "waiting", "retry", "503")
    journey = await filling.read(queries.trace, message + 2)
    prm, ehr = journey.deliveries
    assert (journey.message.id, journey.message.control_id, journey.content) == (message, "C1", '{"channel": {}}')
    assert (prm.destination, prm.state, prm.class_, prm.reason) == ("prm", "waiting", "retry", "503")
    assert prm.due_at > time.time()
    assert [(a.number, a.outcome, a.reason) for a in prm.attempts] == [(1, "retry", "503")]
    assert prm.attempts[0].ended_at - prm.attempts[0].started_at == pytest.approx(0.25, abs=0.01)
    assert (ehr.after, ehr.attempts) == ("prm", ())
    assert await filling.read(queries.trace, message + 64) is None


async def test_trace_shows_an_attempt_that_delivered_at_once(filling: Filling) -> None:
    """The store keeps no row of its own for it; the journey shows it all the same."""
    message = await filling.receive("C1")
    await filling.finish(message)
    await filling.end(message, "delivered", "delivered")
    prm, ehr = (await filling.read(queries.trace, message)).deliveries
    assert [(a.number, a.outcome, a.reason) for a in prm.attempts] == [(1, "delivered", None)]
    assert prm.attempts[0].started_at <= prm.attempts[0].ended_at == prm.done_at
    assert ehr.attempts == ()


HOSPITAL = Via("192.0.2.7:443", "TLSv1.3", "CN=ehr.example", "ab" * 32)


async def test_attempt_keeps_whom_it_reached(filling: Filling) -> None:
    """Every peer is kept once, however many attempts reach it."""
    for control_id in ("C1", "C2"):
        message = await filling.receive(control_id)
        await filling.finish(message)
        await filling.end(message, "delivered", "delivered", via=HOSPITAL)
        (attempt,) = (await filling.read(queries.trace, message)).deliveries[0].attempts
        assert attempt.via == HOSPITAL
    assert await filling.read(lambda connection, _: connection.rows("SELECT count(*) FROM via")) == [(1,)]


async def test_disclosures_are_the_attempts_that_left(filling: Filling) -> None:
    """What was surely not taken on and reached nobody did not leave; everything else did, or may have."""
    ends = [
        ("delivered", "delivered", HOSPITAL),
        ("delivered", "delivered", None),
        ("held", "unknown", HOSPITAL),
        ("dead", "rejected", HOSPITAL),
        ("waiting", "retry", HOSPITAL),
        ("waiting", "retry", None),
    ]
    made = []
    for number, (state, outcome, via) in enumerate(ends):
        made.append(await filling.receive(f"C{number}", "77"))
        await filling.finish(made[-1])
        await filling.end(made[-1], state, outcome, via=via)
    on_the_wire = await filling.receive("C9", "77")
    await filling.finish(on_the_wire)
    await filling.finish(await filling.receive("other", "78"))
    found = await filling.read(disclosed, "mrn", "77")
    assert {(each.message_id, each.outcome) for each in found} == {
        *zip(made, [outcome for _, outcome, _ in ends][:5], strict=False),
        (on_the_wire, "sending"),
    }
    first = next(each for each in found if each.message_id == made[0])
    assert (first.delivery_id, first.channel, first.destination, first.type) == (made[0] + 1, "adt", "prm", "ADT^A04")
    assert (first.attempt, first.via, first.content) == (1, HOSPITAL, '{"channel": {}}')
    assert [each.started_at for each in found] == sorted(each.started_at for each in found)
    assert await filling.read(disclosed, "mrn", "77", time.time() + 9) == []


async def test_dead_letters_are_deliveries_and_failed_messages(filling: Filling) -> None:
    """Both kinds wait for the operator, with what is wrong and where."""
    one, other = await filling.receive("C1"), await filling.receive("C2")
    await filling.finish(one)
    await filling.end(one, "held", "unknown", "timed out")
    await filling.finish(other, "failed", step="canonical", location="PID-7", reason="not a date")
    failed, held = await filling.read(queries.dead)
    assert (failed.id, failed.destination, failed.step, failed.location) == (other, None, "canonical", "PID-7")
    assert (held.id, held.message_id, held.destination, held.class_) == (one + 1, one, "prm", "unknown")
    assert (held.attempts, held.state, held.location) == (1, "held", "PID-3")
    assert held.failed_at is not None
    assert await filling.read(queries.dead_ids) == await filling.read(queries.dead_ids, "adt") == [one + 1, other]
    assert await filling.read(queries.dead, "other") == await filling.read(queries.dead_ids, "other") == []
    assert [letter.id for letter in await filling.read(queries.dead, "adt", other, 5)] == [one + 1]


async def test_quarantine_is_listed(filling: Filling) -> None:
    """What never became a message is not forgotten."""
    unit = Quarantine(
        id=filling.ids.next(),
        channel=filling.registered.channel,
        at=5.0,
        peer="p",
        reason="no MSH",
        size=3,
        body=b"abc",
    )
    await filling.store.quarantine(unit)
    (row,) = await filling.read(queries.quarantined)
    assert (row.id, row.channel, row.reason, row.size, row.received_at) == (unit.id, "adt", "no MSH", 3, 5.0)


async def test_counts_and_backlog_agree_with_what_happened(filling: Filling) -> None:
    """Counts are of hours; what waits is counted as it is now."""
    one, other = await filling.receive("C1"), await filling.receive("C2")
    await filling.finish(one)
    await filling.end(one, "waiting", "retry", "503")
    hour = int(time.time() // 3600)
    table = {(c.destination, c.name): c.value for c in await filling.read(queries.counts, hour - 1)}
    assert table == {(None, "received"): 2, (None, "processed"): 1, ("prm", "attempt"): 1}
    assert await filling.read(queries.counts, 0, hour - 1) == []
    waits = {each.destination: each for each in await filling.read(queries.backlog)}
    assert {name: each.waiting for name, each in waits.items()} == {None: 1, "prm": 1, "ehr": 1}
    assert waits[None].oldest_at == pytest.approx((other >> 22) / 1000 + ids.EPOCH_MS / 1000)
    assert waits["prm"].due_at > time.time()


async def test_reads_change_nothing(filling: Filling) -> None:
    """The reader's connection may not write."""
    with pytest.raises(Exception, match="store:"):
        await filling.store.read(lambda connection: connection.run("DELETE FROM message"))
