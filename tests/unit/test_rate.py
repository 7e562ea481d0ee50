"""A rate is never exceeded, and is nearly reached."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.rate import Bucket, Rate


def sent(rate: Rate, late: list[float], seconds: float) -> list[float]:
    """Return when sends leave that go as soon as they may, each a little late."""
    bucket, now, times = Bucket(rate, 0.0), 0.0, list[float]()
    for step in range(100_000):
        now += bucket.wait(now) + late[step % len(late)]
        if now > seconds:
            break
        while bucket.wait(now) == 0:
            bucket.take(now)
            times.append(now)
    return times


@given(
    st.integers(1, 200),
    st.sampled_from([1.0, 60.0]),
    st.floats(1, 100),
    st.lists(st.floats(0, 3), min_size=1, max_size=7),
)
def test_no_stretch_holds_more_than_the_rate(count: int, seconds: float, burst: int, late: list[float]) -> None:
    rate = Rate(count, seconds, min(burst, max(count / 2, 1)))
    times = sent(rate, late, 3 * seconds)
    for first in range(len(times) - count):
        assert times[first + count] - times[first] >= seconds * (1 - 1e-9)


@pytest.mark.parametrize(("count", "burst"), [(10, 1), (10, 1.3), (50, 2.5), (1000, 31)])
def test_pace_is_nearly_the_rate_when_timers_are_late(count: int, burst: float) -> None:
    late = [0.001] if burst == 1 else [0.001, 0.02, 0.0, 0.004]
    assert len(sent(Rate(count, 1.0, burst), late, 10)) >= 0.93 * count * 10


def test_sends_are_evenly_spread_and_a_start_gives_nothing_away() -> None:
    times = sent(Rate(10, 1.0), [0.0], 2)
    assert times[0] == pytest.approx(0.1)
    assert all(later - earlier == pytest.approx(0.1) for earlier, later in pairwise(times))


def test_what_may_leave_soon_is_known_ahead() -> None:
    bucket = Bucket(Rate(100, 1.0, 10), 0.0)
    assert (bucket.within(0.0, 0.0), bucket.within(0.0, 0.1), bucket.within(5.0, 0.0)) == (0, 9, 10)
