"""A destination that fails in any way costs nothing but time: one effect, the same bytes, and the others go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from broker.ids import show
from tests.faults.harness.bench import Bench, set_up
from tests.faults.harness.channels import channel
from tests.faults.harness.feed import Sent
from tests.faults.harness.invariants import Delivered, drain, reach
from tests.faults.harness.sink import FAIL, FAIL_AFTER, HANG, HANG_WITHOUT, OK, REFUSE, RESET, Treatment, busy

_TIMEOUT: Final = 1.0  # seconds that a destination may take, as the channel says
_ASKED: Final = 2  # seconds of Retry-After
_DESTINATION: Final = {"fhir": "ehr", "sms": "texts"}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(60)]


class Look(Bench):
    """A running engine, and short ways to look at what came of a message."""

    async def treat(self, kind: str, *treatments: Treatment) -> str:
        """Send one message that the other side treats so; return its control id."""
        sent = self.message()
        self.sink.treat(kind, sent.control_id, *treatments)
        await self.send(sent)
        return sent.control_id

    def message(self) -> Sent:
        """Return a message of a patient of its own: each in a lane of its own."""
        return self.feed.next([self.feed.patients.pop()])

    async def reach(self, control_id: str, kind: str, state: str, seconds: float = 15.0) -> Delivered:
        """Wait for a state of one delivery, and see that the other destinations had the message all the same."""
        found = await reach(self.engine, control_id, _DESTINATION[kind], state, seconds)
        for other in {"patients", "ehr", "texts"} - {_DESTINATION[kind]}:
            await reach(self.engine, control_id, other, "delivered", 3.0)
        return found

    def effects(self, kind: str, control_id: str) -> int:
        """Return how often a message took effect."""
        return self.sink.effects[kind][control_id]

    def same_bytes(self, kind: str, control_id: str) -> int:
        """Return how many writes came for a message, all with the same bytes and under the same key."""
        came = self.sink.attempts(kind, control_id)
        assert len({request.body for request in came}) == 1
        assert len({request.headers["x-request-id"] for request in came}) == 1
        return len(came)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Look]:
    folder = tmp_path_factory.mktemp("destinations")
    async with set_up(folder, channel(timeout=f"{_TIMEOUT:g}s"), patients=200) as found:
        await found.engine.start()
        yield Look(found.engine, found.sink, found.ledger, found.feed)
        assert not found.engine.secrets_shown()
        assert not found.engine.notices("bug")


@pytest.mark.parametrize(
    ("treatment", "writes"),
    [(HANG, 1), (HANG_WITHOUT, 2), (RESET, 1), (FAIL_AFTER, 1), (FAIL, 2)],
    ids=["hangs with the effect", "hangs without", "resets with the effect", "500 with the effect", "500 without"],
)
async def test_unknown_outcome_at_a_server_that_can_be_asked_is_retried_to_one_effect(
    bench: Look, treatment: Treatment, writes: int
) -> None:
    began = time.monotonic()
    control_id = await bench.treat("fhir", treatment)
    acknowledged = time.monotonic()
    await bench.reach(control_id, "fhir", "delivered")
    assert bench.effects("fhir", control_id) == 1
    assert bench.same_bytes("fhir", control_id) == writes
    took = time.monotonic() - began
    assert took < _TIMEOUT + 4.0, "the timeout of the destination does not hold"
    assert treatment.then != "hang" or took > _TIMEOUT * 0.9
    assert acknowledged - began < _TIMEOUT, "the acknowledgment waited for a destination"


@pytest.mark.parametrize("treatment", [HANG, RESET, FAIL_AFTER], ids=["hangs", "resets", "500"])
async def test_unknown_outcome_of_a_text_is_held_until_an_operator_replays_it(
    bench: Look, treatment: Treatment
) -> None:
    control_id = await bench.treat("sms", treatment)
    held = await bench.reach(control_id, "sms", "held")
    assert held.attempts == 1
    await asyncio.sleep(0.5)  # longer than any retry would take
    assert bench.effects("sms", control_id) == bench.same_bytes("sms", control_id) == 1
    letters = {each["id"]: each for each in bench.engine.cli("dead", "list", "--json")["dead"]}
    letter = letters[show(held.id)]
    assert (letter["state"], letter["destination"], letter["class"]) == ("held", "texts", "unknown")
    done = bench.engine.cli("dead", "replay", letter["id"], "--yes", "--reason", "the gateway lost it", "--json")
    assert done["count"] == 1
    await bench.reach(control_id, "sms", "delivered")
    assert bench.same_bytes("sms", control_id) == 2


@pytest.mark.parametrize("kind", ["fhir", "sms"])
async def test_too_many_requests_is_tried_again_when_the_other_side_asked(bench: Look, kind: str) -> None:
    control_id = await bench.treat(kind, busy(_ASKED), OK)
    await bench.reach(control_id, kind, "delivered")
    first, second = (request.at for request in bench.sink.attempts(kind, control_id))
    assert _ASKED - 0.05 <= second - first <= _ASKED + 1.0
    assert bench.same_bytes(kind, control_id) == 2
    assert bench.effects(kind, control_id) == 1


@pytest.mark.parametrize("kind", ["fhir", "sms"])
async def test_refused_request_is_dead_at_the_first_attempt_and_can_be_replayed(bench: Look, kind: str) -> None:
    control_id = await bench.treat(kind, REFUSE)
    dead = await bench.reach(control_id, kind, "dead")
    assert (dead.attempts, dead.kind) == (1, "rejected")
    assert bench.effects(kind, control_id) == 0
    bench.engine.cli("dead", "replay", "--all", "--yes", "--json")
    await bench.reach(control_id, kind, "delivered")
    assert bench.effects(kind, control_id) == 1
    assert bench.same_bytes(kind, control_id) == 2


async def test_destination_that_is_down_gets_everything_in_order_when_it_is_up_again(bench: Look) -> None:
    """What is refused at the door has surely had no effect: texts are tried again too."""
    await bench.sink.close()
    patient = bench.feed.patients.pop()
    messages = [bench.feed.next([patient]) for _ in range(12)]
    await bench.send(*messages)
    for one in messages:
        await reach(bench.engine, one.control_id, "patients", "delivered", 3.0)
    await asyncio.sleep(0.5)
    assert not bench.sink.attempts("sms", messages[0].control_id)
    await bench.sink.open()
    await drain(bench.engine, 20)
    keys = [one.control_id for one in messages]
    for kind, order in bench.sink.order.items():
        assert [key for key in order if key in keys] == keys
        assert [bench.effects(kind, key) for key in keys] == [1] * len(keys)


async def test_random_failures_lead_to_one_effect_each_in_order(bench: Look) -> None:
    """A fifth of all writes end in a way that leaves the outcome open."""
    patients = [bench.feed.patients.pop() for _ in range(10)]
    messages = [bench.feed.next(patients) for _ in range(100)]
    for number, one in enumerate(messages):
        if number % 5 == 0:
            bench.sink.treat("fhir", one.control_id, (RESET, FAIL_AFTER, FAIL, busy(0))[number // 5 % 4])
    await bench.send(*messages)
    await drain(bench.engine, 30)
    for one in messages:
        assert bench.effects("fhir", one.control_id) == 1
        bench.same_bytes("fhir", one.control_id)
    told = [key for key in bench.sink.order["fhir"] if key in bench.ledger.sent]
    last: dict[str, int] = {}
    for one in (bench.ledger.sent[key] for key in told):
        assert one.seq > last.get(one.patient, 0)
        last[one.patient] = one.seq


async def test_two_dead_destinations_do_not_slow_the_third(bench: Look) -> None:
    """With every write to the server and the gateway hanging, the patient store keeps its pace."""
    bench.sink.usual = {"fhir": HANG_WITHOUT, "sms": HANG_WITHOUT}
    try:
        messages = [bench.message() for _ in range(60)]
        began = time.monotonic()
        await bench.send(*messages)
        for one in messages:
            await reach(bench.engine, one.control_id, "patients", "delivered", 3.0)
        assert time.monotonic() - began < 3.0
    finally:
        bench.sink.usual = {"fhir": OK, "sms": OK}
