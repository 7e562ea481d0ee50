"""This module is the one door into the engine: it reads just enough of a message to keep it, and keeps it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.crash import crash_point
from broker.delivery import Report
from broker.endings import Conclusions, Endings
from broker.errors import MessageError, NotAccepted, StoreError, refused
from broker.formats.reading import Format, Index
from broker.ids import Ids
from broker.message import Conclusion, Ended, Inbound, Receipt
from broker.notices import ControlIdReused, MessagesAccepted, Notice
from broker.notices import Quarantined as QuarantinedNotice
from broker.notices_pressure import QuarantineDropped, QuarantineFull
from broker.notices_texts import DeliveryReported
from broker.passing import named_after
from broker.pressure import Pressure
from broker.seal import Sealer
from broker.store import Store
from broker.units import Accepted, Commit, NewMessage, Passed, Quarantine, Recorded
from broker.writes_quarantine import ENTRY
from broker.writes_reports import note_reports

_KEPT: Final = 65_536  # bytes of a quarantined body that are kept
_FULL: Final = "they made room for others"

# Called on the loop in the order of commits: id, received at, body.
HandOver = Callable[[int, float, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What the intake knows of one channel: its number, how to read it, and who takes its messages on."""

    number: int
    name: str
    format: Format
    index: Index
    hand_over: HandOver
    places: Mapping[str, int] = field(default_factory=dict)  # of its destinations, by name


class StoreIntake:
    """Accepts messages into the store; the future it gives resolves after the commit, or when the steps have ended."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        ids: Ids,
        notify: Callable[[Notice], None],
        pressure: Pressure | None = None,
    ) -> None:
        self._store = store
        self._sealer = sealer
        self._ids = ids
        self._notify = notify
        self.endings = Endings(store)
        self.conclusions = Conclusions(store, sealer)
        self.pressure = pressure or Pressure()
        self._doors: dict[str, Door] = {}
        self._full: set[str] = set()  # channels of which it was told that their quarantine is full
        self._accepted: Counter[tuple[str, bool]] = Counter()  # by channel, and whether it was a duplicate

    def count_from(self, ids: Ids) -> None:
        """Take ids from here on from ``ids``, which know the largest in the store."""
        self._ids = ids

    def admit(self, door: Door) -> None:
        """Let a channel in, or replace what is known of it."""
        self._doors[door.name] = door

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        """Resolve after the commit that holds the message, or fail with `NotAccepted`; see `broker.parts.Intake`."""
        crash_point("accept.received")
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        door = self._doors[inbound.channel]
        try:
            message = self._read(inbound, door)
            self.pressure.take(len(inbound.body))
        except NotAccepted as refusal:
            promise.set_exception(refusal)
            return promise
        self._store.accept(message, lambda told: self._committed(door, message, told, promise))
        return self._after_the_steps(promise, inbound.on_stored) if inbound.waits else promise

    def pass_on(self, inbound: Inbound) -> Commit:
        """Return what commits a message with the delivery that it is; see `broker.parts.Intake`."""
        door = self._doors[inbound.channel]
        message = self._read(inbound, door)
        self.pressure.take(len(inbound.body))
        return lambda recorded: self._pass_on(door, message, recorded)

    def _pass_on(
        self, door: Door, message: NewMessage, recorded: Recorded
    ) -> "asyncio.Future[tuple[Recorded, Sequence[int] | Exception]]":
        # It gets its id as late as this: a channel that reads on from the store does so in the order of ids, and would
        # overlook what was committed later than others under an earlier one.
        message = message._replace(id=self._ids.next())
        promise: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def committed(told: tuple[Accepted, Sequence[int]] | Exception) -> None:
            if isinstance(told, Exception):
                ended: Any = recorded, told  # it will be tried again, so its place is kept
            else:
                accepted, due = told
                self._taken(door, message, accepted)
                ended = named_after(recorded, accepted.id), due
            if not promise.done():  # who waited for it may have been stopped
                promise.set_result(ended)

        self._store.pass_on(Passed(recorded, message), committed)
        return promise

    def _after_the_steps(
        self, stored: "asyncio.Future[Receipt]", on_stored: Callable[[Receipt], None] | None
    ) -> "asyncio.Future[Receipt]":
        """Resolve with the receipt of a message when its steps have ended, too."""
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def committed(_stored: "asyncio.Future[Receipt]") -> None:
            if error := stored.exception():
                _break(promise, error)
            else:
                receipt = stored.result()
                if on_stored is not None:
                    on_stored(receipt)
                ending = self.endings.of(receipt.message_id, may_be_over=receipt.duplicate)
                ending.add_done_callback(lambda ended: _keep(promise, receipt, ended))

        stored.add_done_callback(committed)
        return promise

    def _read(self, inbound: Inbound, door: Door) -> NewMessage:
        body = inbound.body
        try:
            kind, key, control_id, values = door.format.read(inbound, door.index)
        except MessageError as error:
            raise refused(error) from None
        hashes = self._sealer.search_hash
        identifier = self._ids.next()
        return NewMessage(
            id=identifier,
            channel=door.number,
            received_at=inbound.received_at or time.time(),
            type=kind,
            peer=inbound.peer,
            # What has no key is the same as nothing else: to take two for one would lose one.
            sender=self._sealer.sender_hash(door.name.encode(), *(key or (identifier.to_bytes(8),))),
            digest=self._sealer.digest(b"" if inbound.key_decides else body),
            body=body,
            hashes=(
                hashes(door.name, "control_id", control_id),
                *[hashes(door.name, name, value) for name, value in values],
            ),
        )

    def _committed(
        self, door: Door, message: NewMessage, told: Accepted | Exception, promise: "asyncio.Future[Receipt]"
    ) -> None:
        if isinstance(told, Accepted):
            self._taken(door, message, told)
            if not promise.done():
                promise.set_result(Receipt(message_id=told.id, duplicate=told.duplicate))
            return
        self.pressure.give(len(message.body))
        if not promise.done():
            text = str(told) if isinstance(told, StoreError) else "the message could not be stored; send it again"
            promise.set_exception(NotAccepted(text, code="AE", condition=207))

    def _taken(self, door: Door, message: NewMessage, accepted: Accepted) -> None:
        self.pressure.give(len(message.body))
        if not accepted.duplicate:
            door.hand_over(message.id, message.received_at, message.body)
        self._note(door.name, accepted)

    def _note(self, channel: str, accepted: Accepted) -> None:
        if accepted.reused:
            self._notify(ControlIdReused(channel=channel, message=accepted.id))
        if not self._accepted:
            # A group of commits resolves in one turn of the loop; it is told once, after that.
            asyncio.get_running_loop().call_soon(self._tell)
        self._accepted[channel, accepted.duplicate] += 1

    def _tell(self) -> None:
        noted, self._accepted = self._accepted, Counter()
        for channel in {channel for channel, _ in noted}:
            count, duplicates = noted[channel, False], noted[channel, True]
            self._notify(MessagesAccepted(channel=channel, count=count, duplicates=duplicates))

    async def conclude(self, channel: str, message: int, destination: str = "") -> Conclusion:
        """Return how the steps or a delivery of a message ended, once they have; see `broker.parts.Intake`.

        Of a message about several patients, the delivery of the first counts.
        """
        ended = await self.endings.of(message, may_be_over=True)
        if ended.is_good and destination:
            place = self._doors[channel].places[destination]
            return await self.conclusions.of(message + 1 + place, may_be_over=True)
        return Conclusion(ended.state, ended.reason or "", ended.location or "")

    def report(self, report: Report) -> "asyncio.Future[None]":
        """Resolve after the commit that holds what another side said of a delivery; see `broker.parts.Intake`."""
        gateway, _, _reference = report.reference.partition("/")
        self._notify(DeliveryReported(by=gateway, state=report.state, code=report.code))
        return self._store.call(note_reports, (report,))

    def quarantine(self, channel: str, peer: str, reason: str, data: bytes) -> None:
        """Keep bytes that never became a message, for an operator to see; see `broker.parts.Intake`."""
        self._notify(QuarantinedNotice(channel=channel, peer=peer, reason=reason, size=len(data)))
        body = data[:_KEPT]
        held = len(body) + ENTRY
        try:
            self.pressure.take(held)
        except NotAccepted:
            self._notify(QuarantineDropped(channel=channel, count=1, reason=self.pressure.reason))
            return
        kept = self._store.quarantine(
            Quarantine(
                id=self._ids.next(),
                channel=self._doors[channel].number,
                at=time.time(),
                peer=peer,
                reason=reason,
                size=len(data),
                body=body,
                room=self.pressure.limits.quarantine,
            )
        )
        kept.add_done_callback(lambda kept: self._quarantined(channel, held, kept))

    def _quarantined(self, channel: str, held: int, kept: "asyncio.Future[int]") -> None:
        self.pressure.give(held)
        if error := kept.exception():
            self._notify(QuarantineDropped(channel=channel, count=1, reason=str(error)))
        elif dropped := kept.result():
            if channel not in self._full:
                self._full.add(channel)
                self._notify(QuarantineFull(channel=channel, limit=self.pressure.limits.quarantine))
            self._notify(QuarantineDropped(channel=channel, count=dropped, reason=_FULL))


def _keep(promise: "asyncio.Future[Receipt]", receipt: Receipt, ended: "asyncio.Future[Ended]") -> None:
    if error := ended.exception():
        _break(promise, NotAccepted(f"{error}; send it again", code="AE", condition=207))
    elif not promise.done():
        receipt.ended = ended.result()
        promise.set_result(receipt)


def _break(promise: "asyncio.Future[Receipt]", error: BaseException) -> None:
    if not promise.done():
        promise.set_exception(error)
