"""This module applies deliveries to the patient store: a batch in one transaction, each delivery at most once.

Within the transaction everything that the batch is about is locked first. Then merges part the batch into runs: a run
is read, worked out in memory in order, and written with a few bulk statements, so that each event sees the effect of
those before it.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from broker.crash import crash_point
from broker.delivery import Delivered, Delivery, Outcome, Rejected
from broker.sql import Connection
from dispatch.patients import identity, records, writes
from dispatch.patients.consents import apply_consents, is_consent
from dispatch.patients.known import Held, Known
from dispatch.patients.permissions import write_permissions
from dispatch.patients.said import Key, Said, merged_said, read

_ITSELF = Rejected(
    "merge: the surviving and the retired medical record number are the same; correct it at the sender",
    location="merge.mrn",
)
_REVERSED = Rejected(
    "merge: the surviving patient was itself merged into the retired one before; undo that merge first",
    location="merge.mrn",
)
_ELSEWHERE = Rejected(
    "merge: the retired patient was merged into another survivor before; undo that merge first",
    location="merge.mrn",
)

DELIVERED = Delivered()

_APPLIED = ("SELECT delivery_id FROM applied WHERE delivery_id IN ({v})", "bigint")


class CommitUnknown(Exception):
    """The commit itself failed, so nobody knows yet whether the batch took effect; trying again is safe."""


class Batch:
    """One transaction's worth of deliveries."""

    def __init__(self, connection: Connection, channel: str, now: float, known: Known | None = None) -> None:
        self._connection = connection
        self._known = known or Known(connection)
        self._channel = channel
        self._now = now
        self._created: set[int] = set()
        self._found: identity.Found = {}  # whom the keys of the batch meant when it was locked …
        self._merged = False  # … which a merge of its own has changed since
        self._held = Held()  # … and what is known of them, which changes with it

    def apply(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """Apply all in one transaction; return one outcome each. Raises what the database raises, then nothing holds.

        Raises `CommitUnknown` when the commit itself failed.
        """
        outcomes: dict[int, Outcome] = {}
        events: list[Said] = []
        consents: list[Delivery] = []
        for delivery in deliveries:
            if is_consent(delivery.request):
                consents.append(delivery)
                continue
            said = read(delivery)
            if isinstance(said, Rejected):
                outcomes[delivery.id] = said
            elif said.retired == said.key:
                outcomes[delivery.id] = _ITSELF
            else:
                events.append(said)
        committing = False
        try:
            with self._connection.transaction():
                self._held = self._known.take()
                if consents:
                    apply_consents(self._connection, consents, self._now)
                self._apply(events, outcomes)
                committing = True
                crash_point("prm.before_commit")
        except Exception as error:
            if committing:
                raise CommitUnknown from error
            raise
        crash_point("prm.after_commit")
        self._known.keep(self._held)
        return [outcomes.get(delivery.id, DELIVERED) for delivery in deliveries]

    def _apply(self, events: Sequence[Said], outcomes: dict[int, Outcome]) -> None:
        if not events:
            return
        self._claim(events)
        for merges, run in groupby(self._fresh(events), lambda said: said.retired is not None):
            if merges:
                self._merge_each(run, outcomes)
            else:
                self._run(list(run))
        if self._created:  # for merges that were refused
            writes.forget(self._connection, self._created)
            self._held = Held()

    def _fresh(self, events: Sequence[Said]) -> list[Said]:
        """Return the events that were not applied before, each once."""
        done = {row[0] for row in self._connection.bulk(*_APPLIED, [(said.delivery_id,) for said in events])}
        fresh = []
        for said in events:
            if said.delivery_id not in done:
                done.add(said.delivery_id)
                fresh.append(said)
        return fresh

    def _merge_each(self, events: Iterable[Said], outcomes: dict[int, Outcome]) -> None:
        for said in events:
            self._held = Held()  # a merge changes whom keys mean, and who there is
            refused = self._merge(said, said.retired) if said.retired is not None else None
            if refused is None:
                self._run([said])
            else:
                outcomes[said.delivery_id] = refused

    def _claim(self, events: Sequence[Said]) -> None:
        sources = writes.source_ids(self._connection, self._channel, {said.sender for said in events})
        keys: dict[Key, Said] = {}
        retired = set()
        for said in events:
            said.source_id = sources[said.sender]
            keys.setdefault(said.key, said)
            if said.retired is not None:
                keys.setdefault(said.retired, said)
                retired.add(said.retired)
        self._found, self._created = identity.claim(self._connection, keys, retired, self._held, self._now)

    def _run(self, events: Sequence[Said]) -> None:
        found = identity.resolve(self._connection, self._meant({said.key for said in events}), self._held)
        told = [(found[said.key], said) for said in events]
        identity.read_details(self._connection, told, self._created)
        now = self._now
        rows = [
            (who.id, said.delivery_id, said.source_id, said.kind, said.occurred_at, now, *records.apply(who, said))
            for who, said in told
        ]
        written = {record.id: record for record in found.values()}
        writes.write_records(self._connection, written.values(), self._now)
        writes.write_events(self._connection, rows)
        write_permissions(
            self._connection, [(who.id, said.delivery_id, said.permission) for who, said in told], self._now
        )
        for record in written.values():
            record.settle()
        self._created.difference_update(written)

    def _meant(self, keys: set[Key]) -> identity.Found:
        if self._merged:
            return identity.look_up(self._connection, list(keys))
        return {key: self._found[key] for key in keys}

    def _merge(self, said: Said, old: Key) -> Rejected | None:
        patient, before = identity.find(self._connection, said.key)
        survivor = before or patient
        retired, target = identity.find(self._connection, old)
        if survivor == retired:
            return _REVERSED
        if target is not None and target != survivor:
            return _ELSEWHERE
        if target is None:
            self._merged = True
            writes.retire(self._connection, retired, survivor, self._now, (said.delivery_id, said.source_id))
            writes.add_identifiers(self._connection, retired, merged_said(said) | {old}, said.delivery_id)
            self._created -= {survivor, retired}
        return None
