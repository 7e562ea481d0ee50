"""What stands by, what an operator stops and cancels, and what expires: the same on both databases."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from broker import acts
from broker.ids import EPOCH_MS
from broker.queries_deliveries import open_deliveries, waiting_ids
from broker.store import Store
from broker.units import Act, Claim, Finished, NewDelivery, NewMessage, Pause, Recorded
from tests.committing import accept, finish, record
from tests.filling import SEALER


class Bench:
    """A store with a channel of three destinations; messages have large ids, a minute old."""

    def __init__(self, store: Store, registered: acts.Registered) -> None:
        self.store = store
        self.routes = registered.routes
        self._registered = registered
        self._last = (int(time.time() * 1000) - EPOCH_MS - 60_000) << 22

    async def deliver(self, lane: str = "1", **instead: str) -> dict[str, int]:
        """Commit a message with a delivery for ``first``; each further one stands by for another; return the ids."""
        self._last += 64
        number, channel = self._last, self._registered.channel
        await accept(self.store, NewMessage(number, channel, time.time(), "ADT^A08", "p", number, 1, b"MSH|"))
        names = {"first": number + 1} | {name: number + place for place, name in enumerate(instead, 2)}
        deliveries = tuple(
            NewDelivery(
                id=identifier,
                route=self.routes[name],
                lane=SEALER.lane(lane),
                after=None,
                eager=False,
                request=name.encode(),
                instead=tuple(names[other] for other in instead.get(name, "").split()),
            )
            for name, identifier in names.items()
        )
        unit = Finished(number, channel, self._registered.revision, "processed", time.time(), deliveries=deliveries)
        await finish(self.store, unit)
        return names

    async def claim(self, name: str, expire: float = 9e9, limit: int = 10) -> Any:
        """Claim for a destination."""
        route = self.routes[name]
        return await self.store.claim(Claim(self._registered.channel, route, limit, time.time() + 1, expire))

    async def end(self, name: str, identifier: int, state: str, lane: str = "1", **more: Any) -> frozenset[int]:
        """Record the end of an attempt; return the routes with work due."""
        unit = Recorded(
            id=identifier,
            channel=self._registered.channel,
            route=self.routes[name],
            lane=SEALER.lane(lane),
            number=1,
            started_at=1.0,
            ended_at=time.time(),
            outcome="rejected",
            state=state,
            **{"open": False} | more,
        )
        return await record(self.store, unit)

    async def rows(self, sql: str) -> list[Any]:
        """Read beside the writer."""
        return list(await self.store.read(lambda connection: connection.rows(sql)))

    async def states(self) -> list[tuple[str, str]]:
        """Return the destination and the state of every delivery, by id."""
        return await self.rows("SELECT destination, state FROM delivery d JOIN route r ON r.id = d.route_id ORDER BY 1")

    def act(self, name: str, *ids: int) -> Act:
        """Return an operator's act."""
        return Act(act=name, ids=ids, actor="ann", reason="test", at=time.time())


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Bench]:
    store = Store(url, SEALER, lambda _notice: None, inside=True)
    await store.open()
    try:
        yield Bench(store, await store.register("adt", "r1", "{}", ["first", "second", "third"]))
    finally:
        await store.close()


@pytest.fixture
async def bench(laid_urls: str) -> AsyncIterator[Bench]:
    async with opened(laid_urls) as found:
        yield found


async def test_stand_in_is_born_in_the_transaction_that_gives_the_first_up(bench: Bench) -> None:
    ids = await bench.deliver(second="first")
    assert await bench.states() == [("first", "waiting")]
    await bench.claim("first")
    assert await bench.end("first", ids["first"], "dead") == {bench.routes["second"]}
    (claimed,) = (await bench.claim("second")).claimed
    assert (claimed.delivery.id, claimed.delivery.request, claimed.lane) == (ids["second"], b"second", SEALER.lane("1"))
    counted = await bench.rows("SELECT route_id, value FROM counter WHERE name = 'fallback'")
    assert counted == [(bench.routes["second"], 1)]


async def test_stand_in_is_born_once_whoever_is_given_up_and_however_often(bench: Bench) -> None:
    """One for two, and again after a replay of the first."""
    ids = await bench.deliver(second="", third="first second")
    await bench.claim("first")
    await bench.end("first", ids["first"], "dead")
    await bench.store.act(bench.act("replay", ids["first"]))
    for name in ("first", "second"):
        await bench.claim(name)
        assert await bench.end(name, ids[name], "dead") == frozenset()
    assert await bench.states() == [("first", "dead"), ("second", "dead"), ("third", "waiting")]


async def test_stand_ins_stand_in_for_each_other_in_turn(bench: Bench) -> None:
    ids = await bench.deliver(second="first", third="second")
    for name in ("first", "second"):
        await bench.claim(name)
        await bench.end(name, ids[name], "dead")
    assert await bench.states() == [("first", "dead"), ("second", "dead"), ("third", "waiting")]


@pytest.mark.parametrize("state", ["delivered", "held"])
async def test_stand_in_stays_away_where_the_first_is_not_given_up(bench: Bench, state: str) -> None:
    ids = await bench.deliver(second="first")
    await bench.claim("first")
    await bench.end("first", ids["first"], state)
    assert await bench.states() == [("first", state)]


@pytest.mark.parametrize("is_sending", [False, True])
async def test_stand_in_takes_its_place_in_its_lane(bench: Bench, is_sending: bool) -> None:
    """Older messages first and one at a time, also where the stand-in of an older one comes later."""
    old, young = await bench.deliver(second="first"), await bench.deliver(second="first")
    for ids, state in ((old, "held"), (young, "dead")):
        await bench.claim("first")
        await bench.end("first", ids["first"], state)
    if is_sending:
        await bench.claim("second")
    await bench.store.act(bench.act("replay", old["first"]))
    await bench.claim("first")
    await bench.end("first", old["first"], "dead")
    claimed = [one.delivery.id for one in (await bench.claim("second")).claimed]
    assert claimed == ([] if is_sending else [old["second"]])
    await bench.end("second", young["second"] if is_sending else old["second"], "delivered")
    (rest,) = (await bench.claim("second")).claimed
    assert rest.delivery.id == (old["second"] if is_sending else young["second"])


async def test_expired_gives_birth_to_its_stand_in(bench: Bench) -> None:
    ids = await bench.deliver(second="first")
    claims = await bench.claim("first", expire=30.0)
    assert (claims.claimed, claims.expired) == ((), 1)
    assert claims.routes == frozenset({bench.routes["second"]})
    assert (await bench.claim("second")).claimed[0].delivery.id == ids["second"]


async def test_a_replay_does_not_expire_by_the_age_of_its_message(bench: Bench) -> None:
    ids = await bench.deliver()
    await bench.claim("first")
    await bench.end("first", ids["first"], "dead")
    await bench.store.act(bench.act("replay", ids["first"]))
    assert [one.spent for one in (await bench.claim("first", expire=30.0)).claimed] == [1]


async def test_attempts_that_reached_nobody_are_counted_apart_until_a_replay(bench: Bench) -> None:
    identifier = (await bench.deliver())["first"]
    for away in (0, 1, 2):
        (claimed,) = (await bench.claim("first")).claimed
        assert (claimed.spent, claimed.away) == (away + 1, away)
        await bench.end("first", identifier, "waiting", open=True, due_at=1.0, away=away + 1)
    await bench.claim("first")
    await bench.end("first", identifier, "dead", away=3)
    await bench.store.act(bench.act("replay", identifier))
    (claimed,) = (await bench.claim("first")).claimed
    assert (claimed.delivery.attempt, claimed.spent, claimed.away) == (5, 1, 0)


async def test_what_was_interrupted_knows_how_often_it_reached_nobody(bench: Bench) -> None:
    identifier = (await bench.deliver())["first"]
    await bench.claim("first")
    await bench.end("first", identifier, "waiting", open=True, due_at=1.0, away=1)
    await bench.claim("first")
    (found,) = (await bench.store.read(acts.find)).interrupted
    assert (found.id, found.number, found.spent, found.away) == (identifier, 2, 2, 1)


async def test_cancel_ends_what_waits_and_lets_its_lane_go_on(bench: Bench) -> None:
    ids = [(await bench.deliver())["first"] for _ in range(3)]
    assert await bench.store.read(waiting_ids, SEALER, "adt", "first") == ids
    done = await bench.store.act(bench.act("cancel", ids[0], ids[1]))
    assert done.count == 2
    assert done.routes == frozenset({bench.routes["first"]})
    assert [one.delivery.id for one in (await bench.claim("first")).claimed] == [ids[2]]
    assert (await bench.store.act(bench.act("cancel", *ids))).count == 0  # what is on the wire stays
    assert await bench.states() == [("first", "cancelled"), ("first", "cancelled"), ("first", "sending")]
    ((act, subject),) = await bench.rows("SELECT act, subject FROM audit ORDER BY seq LIMIT 1")
    assert (act, subject) == ("cancel", f"2 of 2: {ids[0]},{ids[1]}")
    assert await bench.rows("SELECT value FROM counter WHERE name = 'cancelled'") == [(2,)]


async def test_open_deliveries_are_listed_newest_first_in_pages(bench: Bench) -> None:
    ids = [(await bench.deliver(lane=str(number)))["first"] for number in range(3)]
    await bench.claim("first", limit=1)
    found = await bench.store.read(open_deliveries, SEALER)
    assert [(each.id, each.state) for each in found] == list(
        zip(reversed(ids), ["waiting", "waiting", "sending"], strict=True)
    )
    assert (found[0].channel, found[0].destination, found[0].type) == ("adt", "first", "ADT^A08")
    page = await bench.store.read(open_deliveries, SEALER, "adt", "first", ids[2], 1)
    assert [each.id for each in page] == [ids[1]]
    assert await bench.store.read(open_deliveries, SEALER, None, "second") == []


async def test_pause_is_kept_until_it_is_resumed(bench: Bench) -> None:
    """A destination, and a channel's way in; each once, with who and why, and audited."""
    first = Pause("adt", "first", 5.0, "ann", "maintenance")
    way_in = Pause("adt", None, 6.0, "bob", "move")
    assert [await bench.store.call(acts.pause, asked) for asked in (first, first, way_in)] == [True, False, True]
    nowhere = Pause("adt", "nowhere", 7.0, "ann", "x")
    assert not await bench.store.call(acts.pause, nowhere)
    assert not await bench.store.call(acts.resume, nowhere)
    assert await bench.store.read(acts.read_pauses, SEALER) == [first, way_in]
    assert [await bench.store.call(acts.resume, asked) for asked in (first, first)] == [True, False]
    assert await bench.store.read(acts.read_pauses, SEALER) == [way_in]
    assert await bench.store.call(acts.resume, way_in)
    told = await bench.rows("SELECT act, subject, actor FROM audit ORDER BY seq")
    assert told[0] == ("pause", "adt/first", "ann")
    assert told[2] == ("pause", "adt", "bob")
    assert len(told) == 8
