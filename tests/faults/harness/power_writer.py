"""This program drives the engine's store, and writes a line to standard output after each acknowledged message.

Arguments: the data folder (with a migrated ``handoff.db``), the value of SQLite's ``synchronous`` to use (empty: the
store's own), and how many rounds to write. It is run under strace, which records what reaches the disk and when.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from broker.ids import Ids
from broker.seal import Sealer
from broker.sql import Sqlite
from broker.store import Store
from broker.units import Finished, NewDelivery, NewMessage
from tests.committing import accept

SEALER = Sealer(b"p" * 32)
_CHECKPOINT = 60  # pages; with the store's own 8000 a short run would never checkpoint
_LARGEST_GROUP = 6


def main() -> None:
    """Write and tell, until all rounds are done."""
    folder, synchronous, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    asyncio.run(_write(folder, synchronous, rounds))


async def _write(folder: Path, synchronous: str, rounds: int) -> None:
    prepare = Sqlite._prepare

    def prepare_otherwise(self: Sqlite, *, writer: bool) -> None:
        prepare(self, writer=writer)
        if writer:
            self.run(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
            if synchronous:
                self.run(f"PRAGMA synchronous={synchronous}")

    Sqlite._prepare = prepare_otherwise  # type: ignore[method-assign]
    store = Store(f"sqlite:///{folder / 'handoff.db'}", SEALER, lambda _notice: None, inside=True)
    await store.open()
    registered = await store.register("power", "r1", "content", ["ehr"])
    dice, ids = random.Random(7), Ids(1 << 61)
    for _ in range(rounds):
        messages = [_message(ids, registered.channel, dice) for _ in range(dice.randint(1, _LARGEST_GROUP))]
        finishing = []
        for message, accepted in zip(messages, [accept(store, one) for one in messages], strict=True):
            await accepted
            os.write(1, b"acknowledged %d\n" % message.id)
            finishing.append(store.finish([_finished(message, registered)]))
        await asyncio.gather(*finishing)
    # As if the power went: nothing is closed in order.
    os.write(1, b"end\n")
    os._exit(0)


def _message(ids: Ids, channel: int, dice: random.Random) -> NewMessage:
    number = ids.next()
    body = dice.randbytes(dice.randint(200, 3000))
    return NewMessage(
        id=number,
        channel=channel,
        received_at=time.time(),
        type="ADT^A08",
        peer="127.0.0.1:1",
        sender=SEALER.sender_hash(b"power", b"%d" % number),
        digest=SEALER.digest(body),
        body=body,
        hashes=(SEALER.search_hash("power", "control_id", str(number)),),
    )


def _finished(message: NewMessage, registered: Any) -> Finished:
    delivery = NewDelivery(
        id=message.id + 1, route=registered.routes["ehr"], lane=1, after=None, eager=False, request=message.body[:500]
    )
    return Finished(
        id=message.id,
        channel=message.channel,
        revision=registered.revision,
        state="processed",
        at=time.time(),
        deliveries=(delivery,),
    )


if __name__ == "__main__":
    main()
