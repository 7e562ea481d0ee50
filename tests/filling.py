"""This module fills a store for tests of what reads it: messages, deliveries and attempts, as the engine would."""

import time
from collections.abc import Callable
from typing import Any

from broker import ids
from broker.delivery import Via
from broker.seal import Sealer
from broker.store import Store
from broker.units import Finished, NewDelivery, NewMessage, Recorded
from tests.committing import accept, finish, record

SEALER = Sealer(b"k" * 32)
BASE = (1 << 60) + 54321 * 64  # large ids: small ones hide mistakes


class Filling:
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
        return (await accept(self.store, message)).id

    async def finish(
        self,
        message: int,
        state: str = "processed",
        *,
        step: str | None = None,
        location: str | None = None,
        reason: str | None = None,
    ) -> None:
        """End the steps; a processed message gets a delivery to prm and one to ehr that waits for it."""
        routes = self.registered.routes
        prm = NewDelivery(id=message + 1, route=routes["prm"], lane=message, after=None, eager=True, request=b"a")
        ehr = NewDelivery(
            id=message + 2, route=routes["ehr"], lane=message, after=message + 1, eager=True, request=b"b"
        )
        await finish(
            self.store,
            Finished(
                id=message,
                channel=self.registered.channel,
                revision=self.registered.revision,
                state=state,
                at=time.time(),
                deliveries=(prm, ehr) if state == "processed" else (),
                step=step,
                location=location,
                reason=reason,
            ),
        )

    async def end(
        self, message: int, state: str, outcome: str, reason: str | None = None, via: Via | None = None
    ) -> None:
        """Record the first attempt of the delivery to prm."""
        now = time.time()
        await record(
            self.store,
            Recorded(
                id=message + 1,
                channel=self.registered.channel,
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
                via=tuple(via) if via else None,
            ),
        )
