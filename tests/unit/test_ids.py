"""Ids grow, sort by time, and read back what they show."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import ids


def test_next_grows_even_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An id never repeats and never goes back."""
    clock = iter([1_800_000_000.0, 1_700_000_000.0, 1_700_000_000.0, 1_800_000_001.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    maker = ids.Ids()
    made = [maker.next() for _ in range(4)]
    assert made == sorted(set(made))


def test_next_begins_after_the_largest_id_of_the_store() -> None:
    """After a restart with a clock far behind, ids go on where they were."""
    last = 1 << 62
    assert ids.Ids(last + 5).next() > last + ids.DELIVERIES


@given(st.integers(min_value=0, max_value=(1 << 63) - 1))
def test_read_gives_back_what_show_wrote(identifier: int) -> None:
    """People's form of an id is exact, in any case."""
    assert ids.read(ids.show(identifier)) == identifier
    assert ids.read(ids.show(identifier).lower()) == identifier


@pytest.mark.parametrize("text", ["", "12", "U" * 13, "0" * 14, "no id at all"])
def test_read_refuses_what_is_no_id(text: str) -> None:
    """What is not an id says what one looks like."""
    with pytest.raises(ValueError, match="13 letters and digits"):
        ids.read(text)


def test_deliveries_lie_between_their_message_and_the_next() -> None:
    """A journey is one range of keys."""
    maker = ids.Ids()
    message, following = maker.next(), maker.next()
    assert message + ids.DELIVERIES < following
    assert ids.message_of(message + ids.DELIVERIES) == message
    assert ids.hour_of(message) == ids.hour_of(message + ids.DELIVERIES)
