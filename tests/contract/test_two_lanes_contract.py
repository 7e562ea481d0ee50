"""What concerns two records stands in the lanes of both, on SQLite and on PostgreSQL alike."""

import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import alembic.autogenerate
import alembic.migration
import pytest
import sqlalchemy

from broker import migrations, writes
from broker.ids import time_of
from broker.migrate import bring_up, migrate, sqlalchemy_url
from broker.schema import metadata
from broker.sql import connect
from broker.units import Act, Placed
from tests.contract.test_store_contract import IDS, Bench, opened

_LANES = ("a", "b", "c")


@pytest.fixture
async def bench(laid_urls: str) -> AsyncIterator[Bench]:
    """An open store on each database."""
    async with opened(laid_urls, inside=False) as store:
        yield store


async def act(bench: Bench, kind: str, *placed: Placed) -> int:
    """Do what an operator does."""
    ids = tuple(one.delivery.id for one in placed)
    return (await bench.store.act(Act(act=kind, ids=ids, actor="ops", reason="test", at=time.time()))).count


@pytest.mark.parametrize("eager", [False, True])
async def test_merge_waits_for_what_is_before_it_in_either_lane(bench: Bench, eager: bool) -> None:
    """An update of the record that ceases goes first, and one that comes later follows; the other record's likewise."""
    (ceasing,) = await bench.deliver("prm", lane="ceases")
    (merge,) = await bench.deliver("prm", lane="stays", other="ceases", eager=eager)
    (later,) = await bench.deliver("prm", lane="ceases", eager=eager)
    (other,) = await bench.deliver("prm", lane="stays", eager=eager)
    assert {one.state for one in (merge, later, other)} == {"waiting"}
    assert await bench.claim("prm") == [ceasing.delivery.id]
    assert await bench.claim("prm") == []
    assert await bench.end(ceasing, "delivered") == {bench.routes["prm"]}
    assert await bench.claim("prm") == [merge.delivery.id]
    assert await bench.claim("prm") == []
    await bench.end(merge, "delivered")
    assert await bench.claim("prm") == [later.delivery.id, other.delivery.id]


async def test_merge_in_free_lanes_begins_at_once_and_holds_both(bench: Bench) -> None:
    """As any delivery does in one."""
    (merge,) = await bench.deliver("prm", lane="stays", other="ceases", eager=True)
    (later,) = await bench.deliver("prm", lane="ceases", eager=True)
    (second,) = await bench.deliver("prm", lane="new", other="ceases", eager=True)
    assert [one.state for one in (merge, later, second)] == ["sending", "waiting", "waiting"]
    await bench.end(merge, "waiting", is_open=True, due_at=time.time() - 1)
    assert await bench.claim("prm") == [merge.delivery.id]
    await bench.end(merge, "delivered")
    assert await bench.claim("prm") == [later.delivery.id]
    await bench.end(later, "delivered")
    assert await bench.claim("prm") == [second.delivery.id]


@pytest.mark.parametrize("blocks", [False, True])
async def test_dead_merge_frees_or_blocks_both_lanes(bench: Bench, blocks: bool) -> None:
    """By policy; what an operator then does sets both free."""
    (merge,) = await bench.deliver("prm", lane="stays", other="ceases", eager=True)
    others = [(await bench.deliver("prm", lane=lane))[0].delivery.id for lane in ("stays", "ceases")]
    await bench.end(merge, "dead", is_open=blocks)
    assert await bench.claim("prm") == ([] if blocks else others)
    if blocks:
        await act(bench, "discard", merge)
        assert await bench.claim("prm") == others


async def test_replayed_merge_waits_for_what_is_on_the_wire_in_either_lane(bench: Bench) -> None:
    """Never two of a lane at a time, and then the oldest goes first."""
    (merge,) = await bench.deliver("prm", lane="stays", other="ceases", eager=True)
    await bench.end(merge, "dead")
    (wire,) = await bench.deliver("prm", lane="stays", eager=True)
    (due,) = await bench.deliver("prm", lane="ceases")
    await act(bench, "replay", merge)
    assert await bench.claim("prm") == []
    await bench.end(wire, "waiting", is_open=True, due_at=time.time() - 1)
    assert await bench.claim("prm") == [wire.delivery.id]
    await bench.end(wire, "delivered")
    assert await bench.claim("prm") == [merge.delivery.id]
    await bench.end(merge, "delivered")
    assert await bench.claim("prm") == [due.delivery.id]


async def test_expired_and_cancelled_merges_free_both_lanes(bench: Bench) -> None:
    """Whatever ends a delivery."""
    _, text = await bench.deliver("prm", "sms", lane="stays", other="ceases", after="prm")
    IDS._last += 20 << 22  # 20 ms later
    followers = await bench.deliver("prm", "sms", lane="ceases")
    now = time.time() + 1
    assert await bench.claim("prm", now=now, expire=now - time_of(followers[0].delivery.id) + 0.005) == [
        followers[0].delivery.id
    ]
    assert await bench.claim("sms") == [followers[1].delivery.id]
    assert (await bench.states()) == {"expired": 1, "cancelled": 1, "sending": 2}
    assert text.state == "waiting"


@dataclass
class One:
    """A delivery of the story below, as it must be."""

    placed: Placed
    lanes: set[str]
    state: str  # waiting, sending, retrying, dead, delivered
    before: set[int] = field(default_factory=set)  # of later ones that were active when this was replayed

    @property
    def id(self) -> int:
        """Its id."""
        return self.placed.delivery.id


class Story:
    """Random deliveries in one or two of three lanes; whatever begins is held against the rules."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.dice = random.Random(seed)
        self.all: dict[int, One] = {}

    def of(self, *states: str) -> list[One]:
        """Return those in a state."""
        return [one for one in self.all.values() if one.state in states]

    def begin(self, one: One) -> None:
        """Note that one is on the wire, and that it may be."""
        for each in self.all.values():
            if each is not one and each.lanes & one.lanes and each.state in {"waiting", "sending", "retrying"}:
                assert each.state != "sending", f"two of a lane at a time: {each}, {one}"
                assert each.id > one.id or one.id in each.before, f"{one} overtakes {each}"
        one.state = "sending"

    async def new(self) -> None:
        lane, other = self.dice.sample(_LANES, 2)
        two = self.dice.random() < 0.5
        eager = self.dice.random() < 0.5
        (placed,) = await self.bench.deliver("prm", lane=lane, other=other if two else "", eager=eager)
        one = self.all[placed.delivery.id] = One(placed, {lane, other} if two else {lane}, "waiting")
        if placed.state == "sending":
            self.begin(one)

    async def claim(self) -> None:
        for identifier in await self.bench.claim("prm", limit=self.dice.choice((1, 9))):
            self.begin(self.all[identifier])

    async def end(self) -> None:
        if sending := self.of("sending"):
            one = self.dice.choice(sending)
            state = self.dice.choice(("delivered", "dead", "waiting"))
            again = state == "waiting"
            await self.bench.end(one.placed, state, is_open=again, due_at=time.time() - 1 if again else None)
            one.state = "retrying" if again else state

    async def replay(self) -> None:
        if dead := self.of("dead"):
            chosen = self.dice.sample(dead, self.dice.randint(1, len(dead)))
            active = {one.id for one in self.of("sending", "retrying")}
            for one in chosen:
                one.state, one.before = "waiting", one.before | active
            await act(self.bench, "replay", *[one.placed for one in chosen])


@pytest.mark.parametrize("seed", range(3))
async def test_lanes_are_kept_whatever_happens(bench: Bench, seed: int) -> None:
    """Never two of a lane at a time, nobody overtakes, and in the end everything has been delivered."""
    story = Story(bench, seed)
    for _ in range(250):
        await story.dice.choice((story.new, story.claim, story.claim, story.end, story.end, story.replay))()
    for _ in range(2 * len(story.all)):
        for one in story.of("sending"):
            await bench.end(one.placed, "delivered")
            one.state = "delivered"
        await story.claim()
    assert {one.state for one in story.all.values()} <= {"delivered", "dead"}
    assert len(story.all) > 20


def test_store_of_one_lane_is_brought_up_with_what_it_holds(store_urls: str) -> None:
    """A delivery of before stands in its one lane."""
    bring_up(store_urls, Path(migrations.__file__).parent, "0001", "alembic_version", "store")
    connection = connect(store_urls)
    try:
        values = "(id, route_id, lane, state, open, attempts, spent) VALUES (1, 1, 7, 'waiting', ?, 0, 0)"
        connection.run(f"INSERT INTO delivery {values}", (True,))
    finally:
        connection.close()
    migrate(store_urls)
    connection = connect(store_urls)
    try:
        assert connection.rows("SELECT id, lane, other_lane FROM delivery") == [(1, 7, None)]
        assert writes.promote(connection, [(1, 7)], 1.0) == {1}
    finally:
        connection.close()


def test_migrations_lead_to_the_declared_tables(store_urls: str) -> None:
    """Whoever reads the declaration knows what is there."""
    migrate(store_urls)
    engine = sqlalchemy.create_engine(sqlalchemy_url(store_urls))
    with engine.connect() as connection:
        context = alembic.migration.MigrationContext.configure(connection)
        assert alembic.autogenerate.compare_metadata(context, metadata) == []
    engine.dispose()
