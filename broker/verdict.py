"""This module decides what follows from an attempt: the delivery's next state, and when it is tried again."""

from broker.channel import RoutePlan
from broker.delivery import Delivered, Outcome, Rejected, Retry, Suppressed, Unknown, evidence
from broker.ids import time_of
from broker.units import Claimed, Recorded


def recorded(
    plan: RoutePlan, channel: int, route: int, claimed: Claimed, outcome: Outcome, started: float, ended: float
) -> Recorded:
    """Return the end of an attempt as the store takes it; ``channel`` and ``route`` are numbers of the store."""
    state, due = _next(plan, claimed, outcome, ended)
    delivery = claimed.delivery
    return Recorded(
        id=delivery.id,
        channel=channel,
        route=route,
        lane=claimed.lane,
        number=delivery.attempt,
        started_at=started,
        ended_at=ended,
        outcome=type(outcome).__name__.lower(),
        state=state,
        open=state == "waiting" or (state in {"held", "dead"} and plan.on_dead == "block"),
        due_at=due,
        reason=None if isinstance(outcome, Delivered) else outcome.reason,
        location=outcome.location or None if isinstance(outcome, Rejected) else None,
        detail=evidence(outcome.reference if isinstance(outcome, Delivered) else "", outcome.response),
        via=tuple(outcome.via) if outcome.via is not None else None,
        away=claimed.away + _reached_nobody(outcome),
    )


def _next(plan: RoutePlan, claimed: Claimed, outcome: Outcome, now: float) -> tuple[str, float | None]:
    """Say which state follows from an outcome, and when a waiting delivery is due."""
    if isinstance(outcome, Delivered):
        return "delivered", None
    if isinstance(outcome, Rejected | Suppressed):
        return ("dead" if isinstance(outcome, Rejected) else "suppressed"), None
    is_unknown = isinstance(outcome, Unknown)
    if is_unknown and plan.unknown == "hold":
        return "held", None
    policy, expiry = plan.policy, _began(claimed) + plan.policy.expire
    # What surely had no effect expires when it would be sent next; what may have had one is not called expired.
    if _is_spent(plan, claimed, outcome) or (is_unknown and now >= expiry):
        return "dead", None
    due = now + policy.wait(claimed.spent, outcome.after if isinstance(outcome, Retry) else None)
    return "waiting", due if is_unknown else min(due, max(expiry, now))


def _is_spent(plan: RoutePlan, claimed: Claimed, outcome: Outcome) -> bool:
    """Say whether there may be no other attempt: an outage must not make dead letters of what nobody refused.

    Where another destination stands by, it is to have its turn, so every attempt counts.
    """
    if plan.fallback:
        return plan.policy.is_spent(claimed.spent)
    return not _reached_nobody(outcome) and plan.policy.is_spent(claimed.spent - claimed.away)


def _reached_nobody(outcome: Outcome) -> bool:
    return isinstance(outcome, Retry) and outcome.is_away


def _began(claimed: Claimed) -> float:
    """Return since when the delivery's age counts: the message's arrival, or a replay's own first attempt."""
    if claimed.spent == claimed.delivery.attempt:
        return time_of(claimed.delivery.id)
    return claimed.delivery.first_at


def plain(unit: Recorded) -> Recorded:
    """Return a record without anything that the other side said, for a store that refuses it otherwise."""
    reason = None if unit.reason is None else "not kept: the store refused what came with it"
    return unit._replace(reason=reason, location=None, detail=b"", via=None)
