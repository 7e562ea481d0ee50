"""This module is the ceiling: the engine's own listener and group commit, with no parsing, no steps, no deliveries."""

import asyncio
import sys
import time

from broker.delivery import Report
from broker.ids import Ids
from broker.message import Conclusion, Inbound, Receipt
from broker.migrate import migrate
from broker.notices import Notice
from broker.parts import Tools
from broker.seal import Sealer
from broker.store import Store
from broker.units import Accepted, Commit, NewMessage
from console.reactor import run
from listeners.mllp import MllpSpec


class BareIntake:
    """Commits bytes."""

    def __init__(self, store: Store, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._ids = Ids()

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        """Commit the bytes of a message, and nothing else of it."""
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        number = self._ids.next()
        message = NewMessage(
            id=number,
            channel=1,
            received_at=inbound.received_at,
            type="",
            peer=inbound.peer,
            sender=number,
            digest=number,
            body=inbound.body,
        )

        def committed(told: Accepted | Exception) -> None:
            if isinstance(told, Exception):
                promise.set_exception(told)
            else:
                promise.set_result(Receipt(message_id=told.id))

        self._store.accept(message, committed)
        return promise

    def pass_on(self, _inbound: Inbound) -> Commit:
        """Refuse."""
        raise NotImplementedError

    async def conclude(self, *_asked: object) -> Conclusion:
        """Refuse."""
        raise NotImplementedError

    def report(self, report: Report) -> "asyncio.Future[None]":
        """Refuse."""
        raise NotImplementedError

    def quarantine(self, channel: str, peer: str, reason: str, data: bytes) -> None:
        """Refuse."""
        raise NotImplementedError


async def main(port: int, url: str) -> None:
    """Serve until killed."""

    def notify(_notice: Notice) -> None:
        """Tell nobody."""

    migrate(url)
    sealer = Sealer(b"k" * 32)
    store = Store(url, sealer, notify)
    await store.open()
    tools = Tools("bare", BareIntake(store, sealer), notify, None)
    await MllpSpec.model_validate({"endpoint": f"127.0.0.1:{port}"}).build(tools).start()
    sys.stdout.write(f"{time.time()}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main(int(sys.argv[1]), sys.argv[2]))
