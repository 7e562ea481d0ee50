"""This module checks on each database what the intake takes for a message that came before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from broker.errors import NotAccepted, StoreUnavailable
from broker.formats.hl7 import Hl7
from broker.formats.reading import no_index
from broker.formats.tree import Json
from broker.ids import show
from broker.intake import Door, StoreIntake
from broker.message import Inbound, Receipt
from broker.migrate import migrate
from broker.notices import Bug, ControlIdReused, Notice
from broker.sql import Sqlite
from broker.store import Store
from broker.units import Recorded
from tests.filling import SEALER, Filling


async def test_key_decides_where_a_listener_says_so(filling: Filling) -> None:
    """A sender that counts its attempts in the body brings one event; else other bytes are another message."""
    notices: list[Notice] = []
    intake = StoreIntake(filling.store, SEALER, filling.ids, notices.append)
    handed: list[int] = []
    door = Door(
        number=filling.registered.channel,
        name="hooks",
        format=Json(),
        index=no_index,
        hand_over=lambda message, _at, _body: handed.append(message),
    )
    intake.admit(door)

    async def accept(body: bytes, key: bytes, *, key_decides: bool) -> Receipt:
        return await intake.accept(Inbound(channel="hooks", body=body, key=key, key_decides=key_decides))

    first = await accept(b'{"attempt": 1}', b"e1", key_decides=True)
    again = await accept(b'{"attempt": 2}', b"e1", key_decides=True)
    assert (again.message_id, again.duplicate) == (first.message_id, True)
    assert not (await accept(b'{"attempt": 1}', b"e2", key_decides=True)).duplicate
    assert not (await accept(b'{"attempt": 1}', b"", key_decides=True)).duplicate
    assert not (await accept(b'{"attempt": 1}', b"", key_decides=True)).duplicate
    assert not any(isinstance(one, ControlIdReused) for one in notices)
    assert not (await accept(b'{"attempt": 1}', b"e3", key_decides=False)).duplicate
    assert not (await accept(b'{"attempt": 2}', b"e3", key_decides=False)).duplicate
    assert sum(isinstance(one, ControlIdReused) for one in notices) == 1
    assert len(handed) == 6


async def test_what_no_database_keeps_is_refused_or_left_out_before_it_gets_there(filling: Filling) -> None:
    """PostgreSQL keeps no NUL, so none may come into the type of a message, or anything else that is written."""
    intake = StoreIntake(filling.store, SEALER, filling.ids, lambda _notice: None)
    for name, form in (("adt", Hl7()), ("json", Json())):
        door = Door(
            number=filling.registered.channel, name=name, format=form, index=no_index, hand_over=lambda *_: None
        )
        intake.admit(door)

    async def accept(channel: str, body: bytes) -> Receipt:
        return await intake.accept(Inbound(channel=channel, body=body))

    message = b"MSH|^~\\&|A|B|C|D|2026||ADT^A08|1|P|2.5\rPID|1||0012||Okafor\r"
    for broken in (message.replace(b"A08", b"A\x0008"), message.replace(b"Oka", b"O\0ka")):
        with pytest.raises(NotAccepted, match="there is a NUL character") as refused:
            await accept("adt", broken)
        assert (refused.value.code, refused.value.is_ours) == ("AE", False)
    assert not (await accept("adt", message + b"\0\0\0")).duplicate
    assert not (await accept("json", b'{"resourceType": "Pat\\u0000ient"}')).duplicate


class Behind:
    """An intake with one channel, ``behind``, to which deliveries of another are passed on."""

    def __init__(self, filling: Filling) -> None:
        self.filling = filling
        self.handed: list[int] = []
        self.intake = StoreIntake(filling.store, SEALER, filling.ids, lambda _notice: None)

    async def open(self) -> None:
        """Register it."""
        self.number = (await self.filling.store.register("behind", "digest-2", "{}", [])).channel
        hand_over: Callable[[int, float, bytes], None] = lambda message, _at, _body: self.handed.append(message)  # noqa: E731
        self.intake.admit(Door(number=self.number, name="behind", format=Json(), index=no_index, hand_over=hand_over))

    async def pass_on(self, message: int) -> tuple[Recorded, Sequence[int] | Exception]:
        """Pass on what the first delivery of a message is."""
        commit = self.intake.pass_on(Inbound(channel="behind", body=b"{}", key=b"k1"))
        assert self.intake.pressure.waiting > 0
        registered = self.filling.registered
        route = registered.routes["prm"]
        ended = Recorded(
            message + 1, registered.channel, route, message, 1, 1.0, 2.0, "delivered", "delivered", open=False
        )
        told = await commit(ended)
        assert self.intake.pressure.waiting == 0
        return told

    async def kept(self) -> list[int]:
        """Return the ids of its messages."""
        rows = await self.filling.store.read(
            lambda connection: connection.rows("SELECT id FROM message WHERE channel_id = ?", (self.number,))
        )
        return [row[0] for row in rows]

    async def delivered(self) -> int:
        """Return how many deliveries were delivered."""
        rows = await self.filling.store.read(
            lambda connection: connection.rows("SELECT count(*) FROM delivery WHERE state = 'delivered'")
        )
        return int(rows[0][0])


@contextlib.asynccontextmanager
async def passing(
    tmp_path: Path, notify: Callable[[Notice], None], *, inside: bool = False
) -> AsyncIterator[tuple[Behind, int]]:
    """Open a store of its own, and give a message in it whose deliveries wait."""
    url = f"sqlite:///{tmp_path / 'handoff.db'}"
    migrate(url)
    store = Store(url, SEALER, notify, inside=inside)
    await store.open()
    try:
        behind = Behind(Filling(store, await store.register("adt", "digest-1", "{}", ["prm", "ehr"])))
        await behind.open()
        message = await behind.filling.receive("C1")
        await behind.filling.finish(message)
        yield behind, message
    finally:
        await store.close()


async def test_what_is_passed_on_is_committed_with_the_end_of_its_delivery(filling: Filling) -> None:
    """Under a key that is known already the delivery ends all the same, named after the message that is there."""
    behind = Behind(filling)
    await behind.open()
    for number in range(2):
        message = await filling.receive(f"C{number}")
        await filling.finish(message)
        recorded, due = await behind.pass_on(message)
        assert not isinstance(due, Exception)
        assert set(due) == {filling.registered.routes["ehr"]}  # it waited for this one
        assert recorded.detail == show(behind.handed[0]).encode() + b"\n\n"
        assert await behind.delivered() == number + 1
    assert behind.handed == await behind.kept()
    assert len(behind.handed) == 1


async def test_who_is_stopped_over_it_leaves_what_was_passed_on_to_the_other_channel(tmp_path: Path) -> None:
    notices: list[Notice] = []
    async with passing(tmp_path, notices.append) as (behind, message):
        waiting = asyncio.create_task(behind.pass_on(message))
        await asyncio.sleep(0)  # it is handed over …
        waiting.cancel()  # … and nobody waits for it
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    assert len(behind.handed) == 1
    assert behind.intake.pressure.waiting == 0
    assert not [notice for notice in notices if isinstance(notice, Bug)]


async def test_commit_of_which_nobody_heard_passes_on_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with passing(tmp_path, lambda _notice: None, inside=True) as (behind, message):
        whole, deaf = Sqlite.transaction, [True]

        @contextlib.contextmanager
        def transaction(connection: Sqlite) -> Iterator[None]:
            with whole(connection):
                yield
            if deaf and deaf.pop():
                raise StoreUnavailable("it went away after the commit")

        monkeypatch.setattr(Sqlite, "transaction", transaction)
        recorded, due = await behind.pass_on(message)
        assert not isinstance(due, Exception)
        assert not deaf
        assert behind.handed == await behind.kept()
        assert recorded.detail == show(behind.handed[0]).encode() + b"\n\n"
        assert await behind.delivered() == 1
