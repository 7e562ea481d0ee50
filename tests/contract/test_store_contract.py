"""The store keeps its promises on SQLite and on PostgreSQL alike."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker import acts, ids, keys
from broker.errors import StoreFatal
from broker.seal import Sealer
from broker.store import Store
from broker.units import Act, Claim, Finished, NewDelivery, NewMessage, Placed, Quarantine, Recorded
from tests.committing import accept, finish, record

SEALER = Sealer(b"k" * 32)
IDS = ids.Ids((1 << 60) + 12345)  # large ids from the start: small ones hide mistakes
_OUTCOMES = {"delivered": "delivered", "dead": "rejected", "held": "unknown", "suppressed": "suppressed"}


class Bench:
    """A store with one registered channel of three destinations, and short ways to use it."""

    def __init__(self, store: Store, registered: acts.Registered) -> None:
        self.store = store
        self.channel = registered.channel
        self.revision = registered.revision
        self.routes = registered.routes

    def message(self, control_id: str = "1", body: bytes = b"MSH|1") -> NewMessage:
        """Return a message to accept."""
        return NewMessage(
            id=IDS.next(),
            channel=self.channel,
            received_at=time.time(),
            type="ADT^A08",
            peer="127.0.0.1:1",
            sender=SEALER.sender_hash(b"a", control_id.encode()),
            digest=SEALER.digest(body),
            body=body,
            hashes=(SEALER.search_hash("a", "control_id", control_id),),
        )

    async def deliver(
        self, *routes: str, lane: str = "p1", eager: bool = False, after: str = "", other: str = ""
    ) -> list[Placed]:
        """Accept and finish a message with deliveries of one lane, or of another one as well."""
        message = self.message(str(IDS.next()))
        await accept(self.store, message)
        places = {route: message.id + place for place, route in enumerate(routes, 1)}
        deliveries = tuple(
            NewDelivery(
                id=places[route],
                route=self.routes[route],
                lane=SEALER.lane(lane),
                after=places.get(after) if route != after else None,
                eager=eager,
                request=b"request",
                other_lane=SEALER.lane(other) if other else None,
            )
            for route in routes
        )
        return await finish(self.store, self.finished(message.id, deliveries))

    def finished(self, message: int, deliveries: tuple[NewDelivery, ...] = (), state: str = "processed") -> Finished:
        """Return the end of a message's steps."""
        return Finished(
            id=message,
            channel=self.channel,
            revision=self.revision,
            state=state,
            at=time.time(),
            deliveries=deliveries,
        )

    async def claim(self, route: str, limit: int = 10, expire: float = 9e9, now: float = 0.0) -> list[int]:
        """Claim, and return the ids."""
        now = now or time.time() + 1
        unit = Claim(channel=self.channel, route=self.routes[route], limit=limit, now=now, expire=expire)
        return [claimed.delivery.id for claimed in (await self.store.claim(unit)).claimed]

    async def end(self, placed: Placed, state: str, *, is_open: bool = False, due_at: Any = None) -> frozenset[int]:
        """Record the end of an attempt."""
        delivery = placed.delivery
        return await record(
            self.store,
            Recorded(
                id=delivery.id,
                channel=self.channel,
                route=delivery.route,
                lane=delivery.lane,
                number=1,
                started_at=1.0,
                ended_at=time.time(),
                outcome=_OUTCOMES.get(state, "retry"),
                state=state,
                open=is_open,
                due_at=due_at,
                detail=b"said",
            ),
        )

    async def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """Read beside the writer."""
        return list(await self.store.read(lambda connection: connection.rows(sql, parameters)))

    async def states(self) -> dict[str, int]:
        """Count deliveries by state."""
        return dict(await self.rows("SELECT state, count(*) FROM delivery GROUP BY state"))


@contextlib.asynccontextmanager
async def opened(url: str, *, inside: bool) -> AsyncIterator[Bench]:
    """Open a store; ``inside`` has its writer where a test can reach it."""
    store = Store(url, SEALER, lambda _notice: None, inside=inside)
    await store.open()
    try:
        yield Bench(store, await store.register("adt", "r1", "content", ["prm", "sms", "ehr"]))
    finally:
        await store.close()


@pytest.fixture
async def bench(laid_urls: str) -> AsyncIterator[Bench]:
    """An open store on each database, with its writer in a process as always."""
    async with opened(laid_urls, inside=False) as store:
        yield store


async def test_accept_commits_sealed_and_finds_duplicates(bench: Bench) -> None:
    """The same bytes under the same key are one message; other bytes are another one, and noticed."""
    first = await accept(bench.store, bench.message("1", b"MSH|secret"))
    again = await accept(bench.store, bench.message("1", b"MSH|secret"))
    other = await accept(bench.store, bench.message("1", b"MSH|changed"))
    assert (first.duplicate, again.duplicate, other.duplicate) == (False, True, False)
    assert again.id == first.id
    assert other.reused
    assert not first.reused
    bodies = [bytes(row[0]) for row in await bench.rows("SELECT data FROM content")]
    assert len(bodies) == 2
    assert not any(b"secret" in body for body in bodies)
    hashes = {SEALER.search_hash("a", "control_id", "1")}
    assert await bench.store.read(keys.find, hashes, 10) == [other.id, first.id]


async def test_accept_finds_duplicates_within_one_group(bench: Bench) -> None:
    """A hundred at once, of which half repeat, are fifty messages."""
    futures = [accept(bench.store, bench.message(str(number % 50))) for number in range(100)]
    accepted = await asyncio.gather(*futures)
    assert sum(one.duplicate for one in accepted) == 50
    assert await bench.rows("SELECT count(*) FROM message") == [(50,)]
    assert await bench.rows("SELECT sum(value) FROM counter WHERE name = 'received'") == [(50,)]


async def test_keys_are_sorted_in_and_still_found(laid_urls: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates and search hashes are found in memory and in the index alike, and after a start."""
    monkeypatch.setattr(keys, "_BEHIND", 10)
    async with opened(laid_urls, inside=True) as bench:
        await _look_for_sorted_keys(bench)


async def _look_for_sorted_keys(bench: Bench) -> None:
    first = await accept(bench.store, bench.message("1"))
    for number in range(2, 26):
        await accept(bench.store, bench.message(str(number)))
    again = await accept(bench.store, bench.message("1"))
    assert (again.duplicate, again.id) == (True, first.id)
    assert (await accept(bench.store, bench.message("25"))).duplicate
    assert await bench.rows("SELECT count(*) FROM message_key") == [(20,)]
    for number in (1, 25):
        hashes = {SEALER.search_hash("a", "control_id", str(number))}
        assert len(await bench.store.read(keys.find, hashes, 10)) == 1
    fresh = keys.Keys()
    await bench.store.read(fresh.load)
    unit = bench.message("25")
    assert [d for d, _ in (await bench.store.read(fresh.known, [unit.sender]))[unit.sender]] == [unit.digest]


async def test_accept_of_the_same_unit_again_is_no_duplicate(bench: Bench) -> None:
    """A commit whose outcome was unknown can be tried again."""
    message = bench.message()
    assert not (await accept(bench.store, message)).duplicate
    assert not (await accept(bench.store, message)).duplicate
    assert await bench.rows("SELECT count(*) FROM message") == [(1,)]


async def test_one_bad_unit_does_not_take_the_others_of_its_group_along(bench: Bench) -> None:
    """The group is taken apart and everything else commits."""
    good = [accept(bench.store, bench.message(str(number))) for number in range(20)]
    bad = bench.store.call(acts.unsend, 1)  # an argument is missing
    more = [accept(bench.store, bench.message(str(number))) for number in range(20, 40)]
    await asyncio.gather(*good, *more)
    with pytest.raises(TypeError):
        await bad
    assert await bench.rows("SELECT count(*) FROM message") == [(40,)]


async def test_finish_happens_once(bench: Bench) -> None:
    """A message that is done stays as it is, and its deliveries are not made twice."""
    message = bench.message()
    await accept(bench.store, message)
    delivery = NewDelivery(id=message.id + 1, route=bench.routes["prm"], lane=1, after=None, eager=False, request=b"x")
    first = await finish(bench.store, bench.finished(message.id, (delivery,)))
    second = await finish(bench.store, bench.finished(message.id, (delivery,), state="failed"))
    assert [one.state for one in first] == ["waiting"]
    assert [one.state for one in second] == [""]
    assert await bench.rows("SELECT state FROM message") == [("processed",)]
    assert await bench.states() == {"waiting": 1}


async def test_only_the_head_of_a_lane_is_claimed(bench: Bench) -> None:
    """One of a lane at a time, in order; other lanes beside it."""
    (first,) = await bench.deliver("prm", lane="a")
    (second,) = await bench.deliver("prm", lane="a")
    (third,) = await bench.deliver("prm", lane="b")
    assert await bench.claim("prm") == [first.delivery.id, third.delivery.id]
    assert await bench.claim("prm") == []
    assert await bench.end(first, "delivered") == {bench.routes["prm"]}
    assert await bench.claim("prm") == [second.delivery.id]


async def test_an_eager_delivery_begins_only_in_a_free_lane(bench: Bench) -> None:
    """Born sending where nothing is before it, else waiting in line."""
    (first,) = await bench.deliver("prm", eager=True)
    (second,) = await bench.deliver("prm", eager=True)
    assert (first.state, second.state) == ("sending", "waiting")
    assert await bench.claim("prm") == []
    await bench.end(first, "delivered")
    assert await bench.claim("prm") == [second.delivery.id]


async def test_a_head_in_backoff_holds_its_lane_until_it_is_due(bench: Bench) -> None:
    """Order is kept over retries."""
    (first,) = await bench.deliver("prm", eager=True)
    await bench.deliver("prm")
    await bench.end(first, "waiting", is_open=True, due_at=time.time() + 3600)
    assert await bench.claim("prm") == []
    later = Claim(channel=bench.channel, route=bench.routes["prm"], limit=5, now=time.time() + 7200, expire=9e9)
    claims = await bench.store.claim(later)
    assert [(one.delivery.id, one.delivery.attempt, one.spent) for one in claims.claimed] == [(first.delivery.id, 2, 2)]
    assert claims.claimed[0].delivery.request == b"request"


@pytest.mark.parametrize(("blocks", "expected"), [(False, 1), (True, 0)])
async def test_a_dead_head_frees_or_blocks_its_lane(bench: Bench, blocks: bool, expected: int) -> None:
    """By policy, and in its own lane only."""
    (first,) = await bench.deliver("prm", eager=True)
    await bench.deliver("prm")
    await bench.deliver("prm", lane="other")
    await bench.end(first, "dead", is_open=blocks)
    assert len(await bench.claim("prm")) == expected + 1


async def test_a_follower_waits_for_the_delivery_before_it(bench: Bench) -> None:
    """`after` releases on delivered."""
    prm, sms = await bench.deliver("prm", "sms", after="prm")
    assert await bench.claim("sms") == []
    await bench.claim("prm")
    assert await bench.end(prm, "delivered") == {bench.routes["sms"]}
    assert await bench.claim("sms") == [sms.delivery.id]


async def test_discarding_cancels_what_was_to_follow(bench: Bench) -> None:
    """A text about a record that was never written must not leave."""
    prm, _sms = await bench.deliver("prm", "sms", after="prm", eager=True)
    await bench.end(prm, "dead")
    done = await bench.store.act(Act(act="discard", ids=(prm.delivery.id,), actor="ops", reason="test", at=time.time()))
    assert done.count == 1
    assert await bench.states() == {"discarded": 1, "cancelled": 1}


async def test_suppressing_cancels_what_was_to_follow(bench: Bench) -> None:
    """What was forbidden will not be delivered later, so nothing may wait for it."""
    prm, _sms = await bench.deliver("prm", "sms", after="prm", eager=True)
    await bench.end(prm, "suppressed")
    assert await bench.states() == {"suppressed": 1, "cancelled": 1}


async def test_replay_takes_the_old_place_with_the_same_bytes(bench: Bench) -> None:
    """A dead letter goes before what came later, and begins a new budget."""
    (first,) = await bench.deliver("prm", eager=True)
    (second,) = await bench.deliver("prm")
    await bench.end(first, "dead")
    done = await bench.store.act(
        Act(act="replay", ids=(first.delivery.id,), actor="ops", reason="test", at=time.time())
    )
    assert done.count == 1
    assert done.routes == {bench.routes["prm"]}
    unit = Claim(channel=bench.channel, route=bench.routes["prm"], limit=5, now=time.time() + 1, expire=9e9)
    (claimed,) = (await bench.store.claim(unit)).claimed
    assert claimed.delivery.id == first.delivery.id
    assert (claimed.delivery.attempt, claimed.spent) == (2, 1)
    assert claimed.delivery.key == SEALER.delivery_key(first.delivery.id)
    await bench.end(first, "delivered")
    assert await bench.claim("prm") == [second.delivery.id]


async def test_replay_waits_for_what_is_on_the_wire(bench: Bench) -> None:
    """Never two of a lane at a time."""
    (first,) = await bench.deliver("prm", eager=True)
    (second,) = await bench.deliver("prm")
    await bench.end(first, "dead")
    assert await bench.claim("prm") == [second.delivery.id]
    await bench.store.act(Act(act="replay", ids=(first.delivery.id,), actor="ops", reason="test", at=time.time()))
    assert await bench.claim("prm") == []
    await bench.end(second, "delivered")
    assert await bench.claim("prm") == [first.delivery.id]


async def test_replay_of_a_failed_message_makes_it_received(bench: Bench) -> None:
    """And only failed ones; the act is audited with a chained mac."""
    message = bench.message()
    await accept(bench.store, message)
    await finish(bench.store, bench.finished(message.id, state="failed"))
    act = Act(act="replay", ids=(message.id, 99), actor="ops", reason="mended", at=time.time())
    assert (await bench.store.act(act)).messages == (message.id,)
    assert (await bench.store.act(act)).count == 0
    rows = await bench.rows("SELECT seq, actor, act, reason, mac FROM audit ORDER BY seq")
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        (1, "ops", "replay", "mended"),
        (2, "ops", "replay", "mended"),
    ]
    assert rows[0][4] != rows[1][4]
    read = await bench.store.read(acts.read_received, SEALER, bench.channel, 0, 10)
    assert [(row[0], row[2]) for row in read] == [(message.id, b"MSH|1")]


async def test_what_was_never_tried_in_time_expires(bench: Bench) -> None:
    """At claim time, with what was to follow it."""
    await bench.deliver("prm", "sms", after="prm")
    assert await bench.claim("prm", expire=-9e9) == []
    assert await bench.states() == {"expired": 1, "cancelled": 1}


async def test_a_start_finds_what_an_earlier_run_left(bench: Bench) -> None:
    """Received messages, open deliveries, and what was on the wire."""
    received = bench.message("left")
    await accept(bench.store, received)
    (sending,) = await bench.deliver("prm", eager=True)
    await bench.deliver("sms")
    found = await bench.store.read(acts.find)
    assert (found.received, found.waiting) == (1, 2)
    assert [one.id for one in found.interrupted] == [sending.delivery.id]
    assert found.last_id >= received.id
    assert await bench.store.call(acts.unsend, [sending.delivery.id], time.time()) == 1
    assert await bench.claim("prm") == [sending.delivery.id]


async def test_quarantine_is_sealed_and_counted(bench: Bench) -> None:
    """Bytes that never became a message are kept, and never in the clear."""
    identifier = IDS.next()
    unit = Quarantine(
        id=identifier, channel=bench.channel, at=1.0, peer="p", reason="no end block", size=6, body=b"secret"
    )
    await bench.store.quarantine(unit)
    ((body,),) = await bench.rows("SELECT body FROM quarantine")
    assert b"secret" not in bytes(body)
    assert SEALER.open("quarantine", identifier, bytes(body)) == b"secret"
    assert await bench.rows("SELECT value FROM counter WHERE name = 'quarantined'") == [(1,)]


async def test_register_is_stable(bench: Bench) -> None:
    """The same channel, revision and destinations keep their numbers."""
    again = await bench.store.register("adt", "r1", "content", ["ehr", "prm", "sms"])
    assert (again.channel, again.revision, again.routes) == (bench.channel, bench.revision, bench.routes)
    newer = await bench.store.register("adt", "r2", "content", ["prm"])
    assert newer.revision != bench.revision


async def test_a_writer_that_is_killed_fails_what_waits_and_says_so(laid_urls: str) -> None:
    """Nobody waits for ever, and what was committed before is there."""
    async with opened(laid_urls, inside=False) as bench:
        await accept(bench.store, bench.message("1"))
        fatal: list[Exception] = []
        bench.store.on_fatal = fatal.append
        process = bench.store._link._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        accepting = accept(bench.store, bench.message("2"))
        finishing = bench.store.finish([bench.finished(1), bench.finished(2)])
        await asyncio.sleep(0)
        process.kill()
        with pytest.raises(StoreFatal, match="writer's process ended"):
            await accepting
        assert [type(one) for one in await finishing] == [StoreFatal, StoreFatal]
        with pytest.raises(StoreFatal):
            await accept(bench.store, bench.message("3"))
        assert [type(one) for one in fatal] == [StoreFatal]
        assert await bench.rows("SELECT count(*) FROM message") == [(1,)]


async def test_a_unit_says_what_it_is_and_not_what_it_carries(bench: Bench) -> None:
    """Units end up in tracebacks."""
    message = bench.message(body=b"MSH|secret")
    assert repr(message) == f"NewMessage(id={message.id})"
