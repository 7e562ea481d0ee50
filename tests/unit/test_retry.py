"""Backoff stays within its bounds and its budgets."""

import pytest

from broker.retry import RetryPolicy


@pytest.mark.parametrize(("spent", "bound"), [(1, 1.0), (2, 2.0), (5, 16.0), (60, 300.0)])
def test_wait_is_jittered_below_an_exponential_bound(spent: int, bound: float) -> None:
    """Full jitter: anything from nothing to the bound, and not always the same."""
    policy = RetryPolicy()
    waits = [policy.wait(spent) for _ in range(300)]
    assert all(0 <= wait <= bound for wait in waits)
    assert max(waits) > bound / 2 > min(waits)


def test_wait_is_never_shorter_than_the_other_side_asked() -> None:
    """Retry-After is kept, also beyond our own bound."""
    assert RetryPolicy().wait(1, asked=1000.0) >= 1000.0


@pytest.mark.parametrize(("attempts", "spent", "is_spent"), [(3, 2, False), (3, 3, True), (0, 10_000, False)])
def test_budget_is_spent_by_attempts(attempts: int, spent: int, is_spent: bool) -> None:
    """Nought means without limit."""
    assert RetryPolicy(attempts=attempts).is_spent(spent) is is_spent
