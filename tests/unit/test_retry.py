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


@pytest.mark.parametrize(
    ("spent", "age", "is_spent"), [(2, 0.0, False), (3, 0.0, True), (1, 59.9, False), (1, 60.0, True)]
)
def test_budget_is_spent_by_attempts_or_age(spent: int, age: float, is_spent: bool) -> None:
    """Either budget ends it."""
    assert RetryPolicy(attempts=3, expire=60.0).is_spent(spent, age) is is_spent


def test_no_limit_of_attempts_leaves_the_age() -> None:
    """Nought attempts means that only the age counts."""
    assert not RetryPolicy(attempts=0).is_spent(10_000, 1.0)
