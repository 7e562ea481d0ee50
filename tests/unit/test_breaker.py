"""A breaker opens on failures in a row, lets one probe go, and closes on the first answer."""

import pytest

from broker.breaker import Breaker, BreakerPolicy

FOREVER = float("inf")


def opened(failures: int = 3, now: float = 100.0) -> Breaker:
    """Return a breaker that just opened."""
    breaker = Breaker(BreakerPolicy(failures=failures, first=1.0, longest=5.0))
    assert [breaker.failed(now) for _ in range(failures)] == [*[None] * (failures - 1), 1.0]
    return breaker


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(BreakerPolicy(failures=2))
    for _ in range(5):
        assert breaker.failed(0.0) is None
        assert not breaker.succeeded()
    assert breaker.wait(0.0, 7) == 0.0


def test_one_probe_goes_when_the_time_is_over_and_nothing_else_is_under_way() -> None:
    breaker = opened()
    assert breaker.wait(100.4, 0) == pytest.approx(0.6)
    assert breaker.wait(102.0, 1) == FOREVER
    assert breaker.wait(102.0, 0) == 0.0
    assert breaker.begin()
    assert breaker.state == "half_open"
    assert breaker.wait(102.0, 0) == FOREVER
    assert breaker.succeeded()
    assert (breaker.state, breaker.wait(102.0, 9), breaker.begin()) == ("closed", 0.0, False)


def test_time_doubles_with_every_failed_probe_up_to_the_longest() -> None:
    breaker, waits = opened(), []
    for number in range(4):
        assert breaker.begin()
        waits.append(breaker.failed(200.0 + number))
    assert waits == [2.0, 4.0, 5.0, 5.0]
    assert breaker.begin()
    assert breaker.succeeded()
    assert [breaker.failed(300.0) for _ in range(3)] == [None, None, 1.0]


def test_what_was_sent_before_it_opened_changes_nothing_when_it_fails_late() -> None:
    breaker = opened()
    assert breaker.failed(100.9) is None
    assert breaker.wait(101.0, 0) == 0.0
    assert breaker.succeeded()  # but an answer is an answer


def test_nought_failures_means_never() -> None:
    breaker = Breaker(BreakerPolicy(failures=0))
    assert [breaker.failed(0.0) for _ in range(1000)] == [None] * 1000
