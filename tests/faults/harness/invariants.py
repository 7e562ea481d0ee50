"""This module waits until an engine has nothing left to do, and then checks that it kept its promises.

It reads the databases themselves, beside the engine and without its code paths; only the seal is opened with its key.
"""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from broker import states
from broker.ids import message_of
from broker.seal import Sealer
from broker.sql import Connection, connect
from broker.wire.header import read_header
from tests.faults.harness.engine import Engine
from tests.faults.harness.feed import Ledger, Sent
from tests.faults.harness.sender import Sender
from tests.faults.harness.sink import Sink

_BUSY = (
    "SELECT (SELECT count(*) FROM message WHERE state = 'received') + "
    "(SELECT count(*) FROM delivery WHERE state IN ('waiting', 'sending'))"
)
_LOOK = 0.03
_FINAL = {state for state, following in states.DELIVERY.items() if not following} | {"held", "dead"}


@dataclass(slots=True)
class Stored:
    """One message as the store holds it, with its deliveries by destination."""

    id: int
    state: str
    control_id: str
    body: bytes = field(repr=False)
    step: str | None = None
    reason: str | None = None
    deliveries: dict[str, "Delivered"] = field(default_factory=dict)


@dataclass(slots=True)
class Delivered:
    """One delivery as the store holds it."""

    id: int
    state: str
    attempts: int
    kind: str | None  # of the last outcome


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Connect to a database beside the engine, for reading only."""
    connection = connect(url, writer=False)
    try:
        yield connection
    finally:
        connection.close()


async def drain(engine: Engine, seconds: float = 30.0) -> float:
    """Wait until every message is through and every delivery has ended; return the seconds that took."""
    began = time.monotonic()
    with reading(engine.store) as connection:
        while left := connection.rows(_BUSY)[0][0]:
            assert engine.pid, f"the engine ended with {engine.code} while it drained:\n{engine.said[-3000:]}"
            message = f"{left} messages and deliveries were left after {seconds:g} s: {_left(connection)}"
            assert time.monotonic() - began < seconds, message + engine.said[-2000:]
            await asyncio.sleep(_LOOK)
    return time.monotonic() - began


def _left(connection: Connection) -> list[Any]:
    return [
        connection.rows("SELECT 'message', state, count(*) FROM message GROUP BY state"),
        connection.rows(
            "SELECT destination, state, open, due_at IS NULL, after_id IS NULL, count(*), max(attempts) "
            "FROM delivery JOIN route ON route.id = route_id GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2"
        ),
    ]


def stored(engine: Engine) -> dict[str, list[Stored]]:
    """Return all messages in the store by control id, opened with the engine's key."""
    sealer = Sealer((engine.data / "handoff.key").read_bytes())
    found: dict[str, list[Stored]] = defaultdict(list)
    by_id: dict[int, Stored] = {}
    with reading(engine.store) as connection:
        rows = connection.rows(
            "SELECT m.id, m.state, m.step, m.reason, c.data FROM message m JOIN content c ON c.id = m.id ORDER BY m.id"
        )
        for identifier, state, step, reason, data in rows:
            body = sealer.open("content", identifier, bytes(data))
            control_id = read_header(body).control_id.decode("latin-1")
            by_id[identifier] = Stored(identifier, state, control_id, body, step, reason)
            found[control_id].append(by_id[identifier])
        for identifier, destination, *rest in connection.rows(
            "SELECT d.id, r.destination, d.state, d.attempts, d.class FROM delivery d JOIN route r ON r.id = d.route_id"
        ):
            by_id[message_of(identifier)].deliveries[destination] = Delivered(identifier, *rest)
    return found


async def reach(engine: Engine, control_id: str, destination: str, state: str, seconds: float = 15.0) -> Delivered:
    """Wait until a delivery is in a state; return it."""
    began = time.monotonic()
    while True:
        found = [one.deliveries[destination] for one in stored(engine).get(control_id, []) if one.deliveries]
        if found and found[0].state == state:
            return found[0]
        where = f"{destination} is {found[0].state if found else 'not there'} and not {state} after {seconds:g} s"
        assert time.monotonic() - began < seconds, f"{where}:\n{engine.said[-2000:]}"
        await asyncio.sleep(_LOOK)


def check(engine: Engine, ledger: Ledger, sink: Sink, sender: Sender | None = None) -> list[str]:
    """Return every promise that was broken; call it when the engine has drained."""
    found = stored(engine)
    wrong = [*_lost(found, ledger), *_unexpected(found, ledger)]
    wrong += [*_effects(found, sink), *_order(ledger, sink), *_patients(engine, found, ledger)]
    wrong += [f"shown: {place}" for place in engine.secrets_shown()]
    wrong += [f"reported as a bug: {notice}" for notice in engine.notices("bug")]
    if "Traceback" in engine.said:
        wrong.append(f"a traceback in the log: {engine.said[engine.said.index('Traceback') :][:1500]}")
    return wrong + (sender.faults if sender is not None else [])


def assert_kept(engine: Engine, ledger: Ledger, sink: Sink, sender: Sender | None = None) -> None:
    """Fail with the first promises that were broken."""
    wrong = check(engine, ledger, sink, sender)
    assert not wrong, f"{len(wrong)} promises broken:\n" + "\n".join(wrong[:20])


def _lost(found: dict[str, list[Stored]], ledger: Ledger) -> Iterator[str]:
    for sent in ledger.acknowledged:
        copies = found.get(sent.control_id, [])
        if len(copies) != 1:
            yield f"{sent.control_id} was acknowledged and is in the store {len(copies)} times"
        elif copies[0].body != sent.body:
            yield f"{sent.control_id} is stored with other bytes than were sent"
    for control_id, answers in ledger.answers.items():
        if len(answers) != 1:
            yield f"{control_id} was answered {len(answers)} times"


def _unexpected(found: dict[str, list[Stored]], ledger: Ledger) -> Iterator[str]:
    for control_id, copies in found.items():
        if control_id not in ledger.sent:
            yield f"{control_id} is in the store and was never sent"
        for one in copies:
            if one.state not in {"processed", "filtered", "failed", "discarded"}:
                yield f"{control_id} is in state {one.state}"
            for destination, delivery in one.deliveries.items():
                if delivery.state not in _FINAL:
                    yield f"{control_id} → {destination} is in state {delivery.state}"


def _effects(found: dict[str, list[Stored]], sink: Sink) -> Iterator[str]:
    """At most one effect for each key, and one where the engine says that it delivered."""
    for kind, destination in (("fhir", "ehr"), ("sms", "texts")):
        counts: Counter[str] = sink.effects[kind]
        for key, count in counts.items():
            if count > 1:
                yield f"{key} took effect {count} times at {destination}"
            if key not in found:
                yield f"{key} took effect at {destination} and is not in the store"
        for key, copies in found.items():
            for one in copies:
                delivery = one.deliveries.get(destination)
                if delivery is not None and delivery.state == "delivered" and not counts[key]:
                    yield f"{key} → {destination} is delivered and has had no effect"


def _order(ledger: Ledger, sink: Sink) -> Iterator[str]:
    for kind, keys in sink.order.items():
        yield from _inversions(kind, [ledger.sent[key] for key in keys if key in ledger.sent])


def _inversions(where: str, arrived: list[Sent]) -> Iterator[str]:
    last: dict[str, int] = {}
    for one in arrived:
        if one.seq <= last.get(one.patient, 0):
            yield f"{where}: message {one.seq} of a patient took effect after message {last[one.patient]}"
        last[one.patient] = max(one.seq, last.get(one.patient, 0))


def _patients(engine: Engine, found: dict[str, list[Stored]], ledger: Ledger) -> Iterator[str]:
    """The patient store has exactly one row for each delivery, in order, and the patient as the last of them said."""
    wanted = {
        one.deliveries["patients"].id: one
        for copies in found.values()
        for one in copies
        if "patients" in one.deliveries and one.deliveries["patients"].state == "delivered"
    }
    with reading(engine.patients) as connection:
        applied = Counter(row[0] for row in connection.rows("SELECT delivery_id FROM applied"))
        events = connection.rows("SELECT delivery_id, patient_id, late FROM patient_event ORDER BY id")
        homes: dict[int, str] = dict(connection.rows("SELECT patient_id, lines FROM patient_address"))
    timeline = Counter(row[0] for row in events)
    for identifier, one in wanted.items():
        if applied[identifier] != 1 or timeline[identifier] != 1:
            yield f"{one.control_id}: {applied[identifier]} applied, {timeline[identifier]} events in the patient store"
    for identifier in set(applied) | set(timeline):
        if identifier not in wanted:
            yield f"delivery {identifier} is in the patient store and not recorded as delivered"
    if any(late for _, _, late in events):
        yield "the patient store took an event for late although all came in order"
    told = [ledger.sent.get(wanted[row[0]].control_id) for row in events if row[0] in wanted]
    yield from _inversions("patient store", [one for one in told if one is not None])
    yield from _last_words(events, homes, wanted, ledger)


def _last_words(events: list[Any], homes: dict[int, str], wanted: dict[int, Stored], ledger: Ledger) -> Iterator[str]:
    last = {patient: wanted[delivery].control_id for delivery, patient, _ in events if delivery in wanted}
    for patient, control_id in last.items():
        sent = ledger.sent.get(control_id)
        if sent is not None and f'"{sent.seq} ' not in (homes.get(patient) or ""):
            yield f"a patient is not as message {sent.seq} said, which is the last of the timeline"
