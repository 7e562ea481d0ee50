"""What waited too long expires: nothing is sent too late, nothing dropped that may have had an effect."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker import writes
from broker.delivery import Rejected, Retry, Unknown
from broker.notices import DeliveriesExpired
from broker.retry import RetryPolicy
from broker.units import Act
from tests.dispatching import Rig, Script, rigged, sqlite


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rigged(sqlite(tmp_path)) as found:
        yield found


def told_expired(rig: Rig) -> list[int]:
    """Return how many expired, as it was told."""
    return [notice.count for notice in rig.said if isinstance(notice, DeliveriesExpired)]


@pytest.mark.parametrize("first", [None, Retry("503")])
async def test_what_is_past_its_age_when_it_would_be_sent_expires(rig: Rig, first: Retry | None) -> None:
    """Whether it was tried before or not; what was refused surely has had no effect."""
    script = Script()
    script.outcomes += [first] if first else []
    policy = RetryPolicy(attempts=0, first=500.0, max=500.0, expire=2.0)
    await rig.deliver(1, arrived=time.time() - (0.0 if first else 60.0))
    await rig.add("main", script, policy=policy).start()
    await rig.ended({"expired": 1})
    assert len(script.sent) == (1 if first else 0)
    await rig.until(lambda: told_expired(rig) == [1])


async def test_what_may_have_had_an_effect_is_tried_once_more_and_never_expires(rig: Rig) -> None:
    script = Script()
    script.outcomes += [Unknown("timed out")] * 50
    policy = RetryPolicy(attempts=0, first=3.0, max=3.0, expire=2.0)
    await rig.deliver(1)
    await rig.add("main", script, policy=policy).start()
    await rig.ended({"dead": 1})
    assert len(script.sent) >= 2


async def test_many_that_expired_do_not_stand_in_the_way_of_one_that_did_not(rig: Rig) -> None:
    script = Script()
    await rig.deliver(300, arrived=time.time() - 600)
    (fresh,) = await rig.deliver(1, lane="fresh")
    await rig.add("main", script, policy=RetryPolicy(expire=60.0)).start()
    await rig.ended({"expired": 300, "delivered": 1})
    assert [delivery.id for _, delivery in script.sent] == [fresh]


async def test_one_claim_looks_only_so_far_past_what_expired(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others get their turn; the next claim looks on."""
    monkeypatch.setattr(writes, "_LOOKS", 2)
    monkeypatch.setattr(writes, "_LOOK", 4)
    await rig.deliver(20, arrived=time.time() - 600)
    await rig.add("main", Script(), unknown="hold", policy=RetryPolicy(expire=60.0)).start()
    await rig.ended({"expired": 20})
    await rig.until(lambda: sum(told_expired(rig)) == 20)
    assert len(told_expired(rig)) >= 2


async def test_a_replay_expires_by_the_time_since_it_was_tried_first(rig: Rig) -> None:
    script = Script()
    script.outcomes += [Rejected("no"), Retry("503")]
    policy = RetryPolicy(attempts=0, first=500.0, max=500.0, expire=1.0)
    (identifier,) = await rig.deliver(1)
    made = rig.add("main", script, policy=policy)
    await made.start()
    await rig.ended({"dead": 1})
    await asyncio.sleep(1.0)  # the message is older than `expire` now
    await rig.store.act(Act(act="replay", ids=(identifier,), actor="ann", reason="", at=time.time()))
    made.due()
    await rig.ended({"expired": 1})
    assert len(script.sent) == 2
