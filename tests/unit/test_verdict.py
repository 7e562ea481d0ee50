"""What follows from an attempt: the delivery's next state, and whether it is tried again."""

import time

import pytest

from broker.channel import RoutePlan
from broker.delivery import Delivery, Outcome, Rejected, Retry, Unknown
from broker.retry import RetryPolicy
from broker.units import Claimed
from broker.verdict import recorded
from dispatch.prm import PatientStore

_AWAY = Retry("nobody there", is_away=True)
_BUSY = Retry("try later")


def _end(outcome: Outcome, *, spent: int, away: int = 0, fallback: str | None = None) -> tuple[str, int]:
    """Return the state and the count of attempts that reached nobody, where three attempts are allowed."""
    plan = RoutePlan(
        name="ehr",
        destination=PatientStore("sqlite:///nowhere", "adt"),
        policy=RetryPolicy(attempts=3),
        fallback=fallback,
    )
    now = time.time()
    delivery = Delivery(id=int(now * 1000) << 22, route=1, key="", request=b"", attempt=spent, first_at=now)
    unit = recorded(plan, 1, 1, Claimed(delivery, 7, spent, away), outcome, now, now)
    return unit.state, unit.away


@pytest.mark.parametrize(
    ("outcome", "spent", "away", "ended"),
    [
        (_BUSY, 2, 0, ("waiting", 0)),
        (_BUSY, 3, 0, ("dead", 0)),
        (Unknown("no answer"), 3, 0, ("dead", 0)),
        (_AWAY, 1, 0, ("waiting", 1)),
        (_AWAY, 500, 499, ("waiting", 500)),
        (_BUSY, 501, 500, ("waiting", 500)),
        (_BUSY, 503, 500, ("dead", 500)),
        (_AWAY, 503, 500, ("waiting", 501)),
        (Rejected("no"), 1, 0, ("dead", 0)),
    ],
)
def test_only_attempts_that_reached_somebody_count(
    outcome: Outcome, spent: int, away: int, ended: tuple[str, int]
) -> None:
    """However long a partner is away, its deliveries wait; what it answers, or leaves unanswered, counts."""
    assert _end(outcome, spent=spent, away=away) == ended


@pytest.mark.parametrize(("spent", "ended"), [(2, ("waiting", 2)), (3, ("dead", 3))])
def test_where_another_stands_by_every_attempt_counts(spent: int, ended: tuple[str, int]) -> None:
    """So that the other one has its turn."""
    assert _end(_AWAY, spent=spent, away=spent - 1, fallback="other") == ended
