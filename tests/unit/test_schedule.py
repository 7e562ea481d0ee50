"""This module shows when things are due: given clocks, zones, summer time, active hours and holidays."""

import datetime as dt
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from broker.schedule import LOOK, ActiveSpec, Schedule, ScheduleSpec

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def schedule(**options: Any) -> Schedule:
    return ScheduleSpec.model_validate(options).schedule()


def dues(given: Schedule, since: str, count: int, zone: str = "UTC") -> list[str]:
    """Return so many due times as clocks in the zone show them."""
    moment, found = at(since, zone), []
    for _ in range(count):
        due = given.after(moment)
        assert due is not None
        found.append(dt.datetime.fromtimestamp(due, ZoneInfo(zone)).isoformat()[:16])
        moment = due
    return found


@pytest.mark.parametrize(
    ("hours", "moment", "hours_left"),
    [
        ({"from": "21:00", "to": "08:00"}, "2026-11-28T20:59", 0),
        ({"from": "21:00", "to": "08:00"}, "2026-11-28T21:00", 11),
        ({"from": "21:00", "to": "08:00"}, "2026-11-29T06:00", 2),
        ({"from": "21:00", "to": "08:00"}, "2026-11-29T08:00", 0),
        ({"from": "12:00", "to": "14:00"}, "2026-11-28T13:00", 1),
        ({"from": "20:00", "to": "24:00"}, "2026-11-28T22:00", 2),
        ({"from": "21:00", "to": "08:00", "days": ["sat"]}, "2026-11-29T06:00", 2),  # Sunday: of the night before
        ({"from": "21:00", "to": "08:00", "days": ["sat"]}, "2026-11-29T22:00", 0),
        ({"from": "21:00", "to": "08:00"}, "2026-03-28T23:00", 8),  # summer time begins: an hour is skipped
        ({"from": "21:00", "to": "08:00"}, "2026-10-24T23:00", 10),  # it ends: an hour comes twice
    ],
)
def test_hours_go_on_until_their_end_by_the_clock(hours: dict[str, Any], moment: str, hours_left: float) -> None:
    assert ActiveSpec.model_validate(hours).hours(BERLIN).active_for(at(moment, BERLIN)) == hours_left * 3600


def test_hours_whose_end_comes_twice_or_never_are_looked_at_again() -> None:
    hours = ActiveSpec.model_validate({"from": "21:00", "to": "02:30"}).hours(BERLIN)
    second = dt.datetime(2026, 10, 25, 2, 15, fold=1, tzinfo=ZoneInfo(BERLIN)).timestamp()
    assert hours.active_for(second) == 30.0
    assert hours.active_for(second + 900) == 0.0
    assert hours.active_for(at("2026-03-29T01:59", BERLIN)) > 0
    assert hours.active_for(at("2026-03-29T03:31", BERLIN)) == 0.0


def test_interval_is_due_at_the_same_times_whenever_it_is_asked() -> None:
    every = schedule(every="30s")
    assert every.after(100.0) == 120.0
    assert every.after(119.999) == 120.0
    assert every.after(120.0) == 150.0


def test_cron_is_due_on_the_clock_of_its_zone() -> None:
    weekdays = schedule(cron="0 6 * * 1-5", zone=BERLIN)
    assert dues(weekdays, "2026-11-27T05:00", 2, BERLIN) == ["2026-11-27T06:00", "2026-11-30T06:00"]
    assert weekdays.after(at("2026-11-27T06:00", BERLIN) - 0.5) == at("2026-11-27T06:00", BERLIN)


def test_time_that_clocks_skip_is_due_right_after_the_gap() -> None:
    found = dues(schedule(cron="30 2 * * *", zone=BERLIN), "2026-03-28T12:00", 2, BERLIN)
    assert found == ["2026-03-29T03:00", "2026-03-30T02:30"]


def test_time_that_comes_twice_is_due_once() -> None:
    found = dues(schedule(cron="30 2 * * *", zone=BERLIN), "2026-10-24T12:00", 2, BERLIN)
    assert found == ["2026-10-25T02:30", "2026-10-26T02:30"]


def test_time_that_comes_twice_is_not_due_again_when_it_is_asked_for_between_the_two() -> None:
    nightly = schedule(cron="30 2 * * *", zone=BERLIN)
    for second_hour in ("2026-10-25T01:00", "2026-10-25T01:10", "2026-10-25T01:50"):  # 02:00 to 02:50 once more
        assert nightly.after(at(second_hour)) == at("2026-10-26T02:30", BERLIN)


@pytest.mark.parametrize("cron", ["30 2 * * *", "0 * * * *", "*/20 2 * * *", "15,45 1-3 * * *"])
@pytest.mark.parametrize("day", ["2026-03-28T12:00", "2026-10-24T12:00"])
def test_every_due_time_is_later_than_what_was_asked_when_clocks_change(cron: str, day: str) -> None:
    given = schedule(cron=cron, zone=BERLIN)
    first = at(day)
    for moment in range(int(first), int(first) + 86_400, 300):
        due = given.after(moment + 0.5)
        assert due is not None
        assert due > moment + 0.5


def test_every_hour_follows_elapsed_time_when_clocks_change() -> None:
    hourly = schedule(cron="0 * * * *", zone=BERLIN)
    first = at("2026-10-25T00:30", BERLIN)
    found = [first]
    for _ in range(5):
        found.append(hourly.after(found[-1]) or 0.0)
    assert {after - before for before, after in itertools.pairwise(found[1:])} == {3600.0}


def test_nothing_is_due_outside_active_hours() -> None:
    given = schedule(every="1h", zone=BERLIN, active={"from": "08:00", "to": "10:00", "days": ["mon", "fri"]})
    assert dues(given, "2026-11-27T08:30", 4, BERLIN) == [
        "2026-11-27T09:00",
        "2026-11-30T08:00",
        "2026-11-30T09:00",
        "2026-12-04T08:00",
    ]


def test_hours_past_midnight_belong_to_the_day_on_which_they_begin() -> None:
    given = schedule(every="2h", active={"from": "22:00", "to": "03:00", "days": ["fri"]})
    assert dues(given, "2026-11-27T12:00", 4) == [
        "2026-11-27T22:00",
        "2026-11-28T00:00",
        "2026-11-28T02:00",
        "2026-12-04T22:00",
    ]


def test_nothing_is_due_on_holidays() -> None:
    given = schedule(cron="0 6 * * *", holidays=["2026-12-25", "2026-12-26"])
    assert dues(given, "2026-12-24T06:00", 1) == ["2026-12-27T06:00"]


def test_nothing_is_due_where_every_day_is_a_holiday() -> None:
    days = [(dt.date(2026, 11, 28) + dt.timedelta(days=number)).isoformat() for number in range(2000)]
    given = Schedule(every=3600, holidays=frozenset(map(dt.date.fromisoformat, days)))
    assert given.after(at("2026-11-28T00:00")) is None


def test_latest_of_several_due_times_is_found() -> None:
    every = schedule(every="10s")
    assert every.latest(100.0, 135.0) == 130.0
    assert every.latest(100.0, 110.0) == 110.0
    assert every.latest(110.0, 119.0) is None


@given(
    moment=st.floats(min_value=0, max_value=4e9),
    begin=st.integers(0, 23),
    hours=st.integers(1, 23),
    every=st.sampled_from(["1s", "7m", "1h"]),
)
def test_what_is_due_is_later_and_within_the_hours(moment: float, begin: int, hours: int, every: str) -> None:
    end = (begin + hours) % 24
    given = schedule(every=every, zone=BERLIN, active={"from": f"{begin:02}:00", "to": f"{end:02}:00"})
    due = given.after(moment)
    assert due is not None
    assert due > moment
    hour = dt.datetime.fromtimestamp(due, ZoneInfo(BERLIN)).hour
    assert begin <= hour < end if begin < end else hour >= begin or hour < end


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "exactly one of"),
        ({"every": "1m", "cron": "* * * * *"}, "exactly one of"),
        ({"every": "500ms"}, "greater than or equal to 1"),
        ({"cron": "0 6 * *"}, "needs five fields"),
        ({"cron": "0 0 6 * * *"}, "needs five fields"),
        ({"cron": "61 6 * * *"}, "is no cron expression"),
        ({"cron": "0 3 * * *", "active": {"from": "08:00", "to": "18:00"}}, "is never due"),
        ({"every": "1d", "active": {"from": "08:00", "to": "18:00"}}, "is never due"),
        ({"cron": "0 0 30 2 *"}, "is no cron expression"),
        ({"every": "1m", "zone": "Europe/Atlantis"}, "is not a time zone"),
        ({"every": "1m", "zone": "../etc/passwd"}, "is not a time zone"),
        ({"every": "1m", "active": {"from": "8"}}, "needs a time of day"),
        ({"every": "1m", "active": {"from": "08:60"}}, "needs a time of day"),
        ({"every": "1m", "active": {"to": "24:01"}}, "needs a time of day"),
        ({"every": "1m", "active": {"from": "08:00", "to": "08:00"}}, "leave no time"),
        ({"every": "1m", "active": {"from": "24:00", "to": "08:00"}}, "leave no time"),
        ({"every": "1m", "active": {"days": []}}, "at least 1 item"),
        ({"every": "1m", "holidays": ["Christmas"]}, "date"),
    ],
)
def test_schedule_that_cannot_be_meant_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ScheduleSpec.model_validate(options)


def test_who_waits_for_a_due_time_looks_at_the_clock_now_and_then() -> None:
    """It may be set meanwhile, so nobody sleeps for a night at a stretch."""
    hourly = Schedule(every=3600.0)
    assert hourly.wait(7200.0, 7201.0) == LOOK
    assert hourly.wait(7200.0, 10_796.0) == 4.0
    assert hourly.wait(7200.0, 10_800.0) == hourly.wait(7200.0, 20_000.0) == 0.0
    never = Schedule(every=3600.0, weekdays=frozenset())
    assert never.wait(7200.0, 7200.0) == LOOK
