"""What never became a message is kept on each database, and no more of it than there is room for."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from broker import acts, queries, writes_quarantine
from broker.formats.reading import no_index
from broker.formats.tree import Json
from broker.ids import Ids
from broker.intake import Door, StoreIntake
from broker.limits import Limits
from broker.notices_pressure import QuarantineDropped, QuarantineFull
from broker.pressure import Pressure
from broker.sql import connect
from broker.store import Store
from broker.units import Quarantine
from broker.writes_quarantine import ENTRY
from tests.filling import SEALER, Filling

SIZE = 1000  # bytes of a body
SEALED = len(SEALER.seal("quarantine", 1, bytes(SIZE)))
ROOM = 16 * (SEALED + ENTRY)  # bytes of sixteen entries; 14 of them are left when it has been passed


def junk(filling: Filling, channel: int, room: int = ROOM, peer: str = "p") -> Quarantine:
    """Return something to keep."""
    return Quarantine(
        id=filling.ids.next(), channel=channel, at=1.0, peer=peer, reason="junk", size=SIZE, body=bytes(SIZE), room=room
    )


async def keep(filling: Filling, peers: Iterable[str], room: int = ROOM) -> list[int]:
    """Keep something of each of these peers, in their order; return the ids."""
    units = [junk(filling, filling.registered.channel, room, peer) for peer in peers]
    await asyncio.gather(*map(filling.store.quarantine, units))
    return [unit.id for unit in units]


async def kept(filling: Filling) -> list[int]:
    """Return the ids of what is kept, the oldest first."""
    return sorted(row.id for row in await filling.read(queries.quarantined, queries.LAST, queries.MOST))


async def test_oldest_go_when_a_channel_has_no_room_and_others_keep_theirs(filling: Filling) -> None:
    store, channel = filling.store, filling.registered.channel
    other = (await store.register("other", "digest-1", "{}", [])).channel
    quiet = junk(filling, other)
    assert await store.quarantine(quiet) == 0
    units = [junk(filling, channel) for _ in range(16)]
    assert await asyncio.gather(*map(store.quarantine, units)) == [0] * 16
    more = junk(filling, channel)
    assert await store.quarantine(more) == 3
    assert await kept(filling) == [quiet.id, *(unit.id for unit in units[3:]), more.id]
    flood = [junk(filling, channel) for _ in range(200)]
    dropped = sum(await asyncio.gather(*map(store.quarantine, flood)))
    left = await kept(filling)
    assert dropped == 14 + 200 - (len(left) - 1)
    assert 14 <= len(left) - 1 <= 16
    assert left == [quiet.id, *(unit.id for unit in flood[-(len(left) - 1) :])]


async def test_peer_that_floods_pushes_out_its_own(filling: Filling) -> None:
    early = await keep(filling, [f"10.0.0.1:{port}" for port in range(3)])
    flood = [f"10.0.0.9:{port}" for port in range(30)]
    await keep(filling, flood)
    late = await keep(filling, [f"[2001:db8::{port}]:4000" for port in range(3)])
    last = await keep(filling, flood)
    left = await kept(filling)
    assert [one for one in left if one in {*early, *late}] == [*early, *late]
    assert 14 <= len(left) <= 16
    assert left[6:] == last[6 - len(left) :]


async def test_oldest_of_who_floods_are_found_behind_many_of_others(filling: Filling) -> None:
    room = 60 * ROOM  # of 960 entries
    quiet = await keep(filling, [f"10.0.0.{host}:1" for host in range(1, 11)] * 52, room)
    flood = await keep(filling, [f"10.0.1.1:{port}" for port in range(500)], room)
    left = await kept(filling)
    assert left == [*quiet, *flood[len(quiet) - len(left) :]]
    assert 840 <= len(left) <= 960


async def test_two_that_flood_share_what_others_leave(filling: Filling) -> None:
    quiet = await keep(filling, ["10.0.0.1:1"])
    await keep(filling, [f"10.0.0.8:{port}" for port in range(15)])
    await keep(filling, [f"[2001:db8::{port:x}]:4000" for port in range(40)])  # one machine has all of a network
    peers = Counter([row.peer.rpartition(":")[0][:9] for row in await filling.read(queries.quarantined)])
    assert set(await kept(filling)) >= set(quiet)
    assert peers["10.0.0.8"] >= 6
    assert peers["[2001:db8"] >= 6


async def test_many_addresses_that_hold_little_each_push_out_nobody_else(filling: Filling) -> None:
    room = 10 * ROOM  # of 160 entries; two for each that is told apart
    first = await keep(filling, ["10.0.0.1:1"], room)
    flood = [f"10.1.{number % 250}.{number // 250}:{port}" for number in range(300) for port in (5, 6)]
    await keep(filling, flood[:200], room)
    much = await keep(filling, ["10.0.0.2:1", "10.0.0.2:2", "10.0.0.2:3"], room)
    await keep(filling, flood[200:], room)
    left = await kept(filling)
    assert set(left) >= {*first, *much}
    assert 140 <= len(left) <= 160


async def test_oldest_go_where_there_are_no_addresses(filling: Filling) -> None:
    files = [f"day-{number // 4}.csv:{number}" for number in range(40)]
    ids = await keep(filling, files)
    left = await kept(filling)
    assert left == ids[-len(left) :]


async def test_room_is_made_without_a_look_at_other_channels(laid_urls: str) -> None:
    async with filled(laid_urls) as filling:
        others = [(await filling.store.register(f"other-{number}", "d", "{}", [])).channel for number in range(20)]
        await asyncio.gather(*(filling.store.quarantine(junk(filling, each)) for each in others for _ in range(15)))
        connection, channel = connect(laid_urls), filling.registered.channel
        connection.run("ANALYZE quarantine")  # the server of PostgreSQL decides by what there is
        explain = "EXPLAIN QUERY PLAN" if connection.dialect == "sqlite" else "EXPLAIN"
        for statement, parameters in (
            (writes_quarantine._BY_HOST, (channel,)),
            (writes_quarantine._ENTRIES, (channel, 0, 512)),
        ):
            plan = connection.rows(f"{explain} {statement}", parameters)
            assert "quarantine_channel" in str(plan)
        connection.close()


@contextlib.asynccontextmanager
async def filled(url: str) -> AsyncIterator[Filling]:
    """Open a store, again where it was there before."""
    store = Store(url, SEALER, lambda _notice: None)
    await store.open()
    try:
        found = await store.read(acts.find)
        filling = Filling(store, await store.register("adt", "digest-1", "{}", []))
        filling.ids = Ids(found.last_id)
        yield filling
    finally:
        await store.close()


async def test_bound_holds_after_a_start_and_after_a_group_that_was_rolled_back(laid_urls: str) -> None:
    async with filled(laid_urls) as filling:
        store, channel = filling.store, filling.registered.channel
        (quiet,) = await keep(filling, ["10.0.0.1:1"])
        for _ in range(15):
            await store.quarantine(junk(filling, channel))
        broken = store.call(acts.unsend, 1)  # an argument is missing: the group is taken apart
        assert await store.quarantine(junk(filling, channel)) == 3
        with pytest.raises(TypeError):
            await broken
    async with filled(laid_urls) as filling:
        store, channel = filling.store, filling.registered.channel
        assert [await store.quarantine(junk(filling, channel)) for _ in range(3)] == [0, 0, 3]
        smaller = 4 * (SEALED + ENTRY)  # as the setting may have become since
        assert await store.quarantine(junk(filling, channel, smaller)) == 12
        left = await kept(filling)
        assert len(left) == 3
        assert quiet in left


def opened(filling: Filling, limits: Limits, notices: list[Any]) -> StoreIntake:
    """Return an intake with one channel."""
    intake = StoreIntake(filling.store, SEALER, filling.ids, notices.append, Pressure(limits))
    intake.admit(
        Door(number=filling.registered.channel, name="adt", format=Json(), index=no_index, hand_over=lambda *_one: None)
    )
    return intake


def of(notices: list[Any], kind: type[Any]) -> list[Any]:
    """Return the notices of a kind."""
    return [one for one in notices if type(one) is kind]


async def settled(intake: StoreIntake) -> None:
    """Wait until nothing waits for its commit."""
    async with asyncio.timeout(10):
        while intake.pressure.waiting:  # noqa: ASYNC110 - nothing tells when it has
            await asyncio.sleep(0.005)
    await asyncio.sleep(0)


async def test_flood_of_junk_is_bounded_counted_and_told_once(filling: Filling) -> None:
    notices: list[Any] = []
    intake = opened(filling, Limits(quarantine=ROOM), notices)
    for _ in range(10):
        for _ in range(10):
            intake.quarantine("adt", "10.0.0.1:5", "no end block", bytes(SIZE))
        await settled(intake)
    left = len(await kept(filling))
    assert 14 <= left <= 16
    assert sum(one.count for one in of(notices, QuarantineDropped)) == 100 - left
    assert of(notices, QuarantineFull) == [QuarantineFull(channel="adt", limit=ROOM)]


async def test_junk_that_waits_is_counted_and_not_kept_where_there_is_no_room_in_memory(filling: Filling) -> None:
    notices: list[Any] = []
    intake = opened(filling, Limits(waiting=4 * (SIZE + ENTRY), unfinished=1, free_space=1), notices)
    for _ in range(20):
        intake.quarantine("adt", "10.0.0.1:5", "no end block", bytes(SIZE))
    assert intake.pressure.waiting == 8 * (SIZE + ENTRY)
    assert intake.pressure.state == "busy"
    await settled(intake)
    assert intake.pressure.state == "open"
    assert len(await kept(filling)) == 8
    assert of(notices, QuarantineDropped) == [
        QuarantineDropped(channel="adt", count=1, reason="too much waits for the store")
    ] * (20 - 8)
    intake.pressure.look(0)
    intake.quarantine("adt", "10.0.0.1:5", "no end block", b"x")
    assert of(notices, QuarantineDropped)[-1].reason == "the disk is nearly full"
    assert len(await kept(filling)) == 8


async def test_junk_that_the_store_did_not_take_is_counted(filling: Filling) -> None:
    notices: list[Any] = []
    intake = opened(filling, Limits(), notices)
    intake.quarantine("adt", "10.0.0.1:5", "broken \0 text" if "postgres" in filling.store.dialect else "x", b"x")
    await settled(intake)
    assert [one.count for one in of(notices, QuarantineDropped)] == [1] * ("postgres" in filling.store.dialect)
