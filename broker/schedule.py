"""This module says when something is due: an interval or a cron expression, within active hours, without holidays.

It is pure: who asks brings the time. Times are POSIX seconds; a clock face has a meaning only in the schedule's zone.
"""

import datetime as dt
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from broker.spec import Seconds, Spec

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY: Final = 1440  # minutes
_FIELDS: Final = 5  # of a cron expression; with a sixth, seconds, cronsim knows nothing of summer time
_AGAIN: Final = 30.0  # seconds until hours are looked at again whose end comes twice, or not at all, that night
LOOK: Final = 10.0  # seconds: the longest sleep, after which a clock that was set is noticed
_STEPS: Final = 1000  # due times that are looked at, or days that are stepped over, before it is called never

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _clock(value: str) -> str:
    hours, colon, minutes = value.partition(":")
    if (
        not (colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == len("00"))
        or int(minutes) >= 60  # noqa: PLR2004 - minutes of an hour
        or _minutes(value) > _DAY
    ):
        raise ValueError('needs a time of day from "00:00" to "24:00", such as "08:00"')
    return value


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _cron(value: str) -> str:
    if len(value.split()) != _FIELDS:
        raise ValueError('needs five fields (minute, hour, day, month, weekday), such as "0 6 * * 1-5"')
    try:
        CronSim(value, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    except CronSimError as error:
        raise ValueError(f'is no cron expression ({error}); one is "0 6 * * 1-5"') from None
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is not a time zone; needs a name such as Europe/Berlin or America/Chicago") from None
    return value


Clock = Annotated[str, AfterValidator(_clock), WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2}$"})]
Zone = Annotated[str, AfterValidator(_zone)]
# Whoever reads a channel puts the dates where the name of a file stood.
_DATES: Final = {"type": "array", "items": {"type": "string", "format": "date"}}
Holidays = Annotated[list[dt.date], WithJsonSchema({"anyOf": [_DATES, {"type": "string"}]})]


CatchUp = Annotated[
    Seconds,
    Field(le=604_800, description="How late a due time may be made up for that passed while we were stopped."),
]


class ActiveSpec(Spec):
    """The hours and days in which anything is due; hours that end before they begin go past midnight."""

    begin: Clock = Field(default="00:00", alias="from", description="The time of day at which they begin.")
    end: Clock = Field(default="24:00", alias="to", description="The time of day before which they end.")
    days: list[Day] = Field(
        default=list(_DAYS), min_length=1, description="The days on which they begin, such as `[mon, tue]`."
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if _minutes(self.begin) == _minutes(self.end) or _minutes(self.begin) == _DAY:
            raise ValueError("`from` and `to` leave no time between them")
        return self

    def hours(self, zone: str) -> "Schedule":
        """Return these hours in a time zone, as a schedule in which nothing is due."""
        return Schedule(
            zone=ZoneInfo(zone),
            begin=_minutes(self.begin),
            end=_minutes(self.end),
            weekdays=frozenset(_DAYS.index(day) for day in self.days),
        )


class ScheduleSpec(Spec):
    """When something is due."""

    every: Seconds | None = Field(
        default=None, ge=1, le=86_400, description="How often; what divides a day is counted from midnight UTC."
    )
    cron: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None, description="Instead of `every`: minute, hour, day, month and weekday, such as `0 6 * * 1-5`."
    )
    zone: Zone = Field(
        default="UTC", description="The time zone of `cron`, `active` and `holidays`, such as `Europe/Berlin`."
    )
    active: ActiveSpec | None = Field(
        default=None, description="The hours and days in which anything is due; without it, all of them."
    )
    holidays: Holidays = Field(
        default=[], description="Dates on which nothing is due, such as `[2026-12-25]`, or the name of a file of such."
    )

    @model_validator(mode="after")
    def _happens(self) -> Self:
        if (self.every is None) == (self.cron is None):
            raise ValueError("needs exactly one of `every` and `cron`")
        if self.schedule().after(time.time()) is None:
            raise ValueError("is never due: none of its times is within `active`, or all of them are holidays")
        return self

    def schedule(self) -> "Schedule":
        """Return the schedule."""
        hours = (self.active or ActiveSpec()).hours(self.zone)
        return replace(hours, every=self.every, cron=self.cron or "", holidays=frozenset(self.holidays))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When something is due. Due times depend on nothing but the schedule, so that a restart finds the same ones.

    Where clocks go forward, a cron time that is skipped is due right after the gap; where they go back, one that comes
    twice is due once (as in Debian's cron). Intervals and cron expressions with ``*`` hours follow the elapsed time.
    """

    every: float | None = None  # seconds
    cron: str = ""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    begin: int = 0  # minutes of the day
    end: int = _DAY
    weekdays: frozenset[int] = frozenset(range(7))
    holidays: frozenset[dt.date] = frozenset()

    def after(self, moment: float) -> float | None:
        """Return the first due time later than ``moment``; None where there is none in years."""
        for _ in range(_STEPS):
            due = self._candidate(moment)
            if due is None or self._is_active(due):
                return due
            opening = self._opening(due)
            if opening is None:
                return None
            moment = max(due, opening - 0.001)  # what is due as the hours begin counts
        return None

    def wait(self, looked: float, now: float) -> float:
        """Return the seconds to sleep until something is due after ``looked``, at most `LOOK`; 0 where it is."""
        due = self.after(looked)
        return LOOK if due is None else min(max(due - now, 0.0), LOOK)

    def latest(self, after: float, until: float) -> float | None:
        """Return the last due time later than ``after`` and not later than ``until``."""
        found = None
        for due in self._within(after, until):
            found = due
        return found

    def active_for(self, moment: float) -> float:
        """Return the seconds for which the active hours that hold at a moment go on; 0 where none hold."""
        if not self._is_active(moment):
            return 0.0
        local = dt.datetime.fromtimestamp(moment, self.zone)
        past_midnight = self.begin >= self.end and local.hour * 60 + local.minute >= self.begin
        days, minutes = divmod(self.end, _DAY)
        day = local.date() + dt.timedelta(days=days + past_midnight)
        closing = dt.datetime.combine(day, dt.time(*divmod(minutes, 60)), self.zone).timestamp()
        return max(closing - moment, _AGAIN)

    def _within(self, after: float, until: float) -> Iterator[float]:
        due = self.after(after)
        while due is not None and due <= until:
            yield due
            due = self.after(due)

    def _candidate(self, moment: float) -> float | None:
        """Return the first time later than ``moment`` by interval or cron alone."""
        if self.every is not None:
            return (math.floor(moment / self.every) + 1) * self.every
        # Cronsim counts from a whole second, exclusive; in an hour that comes twice, from the first of the two.
        since = dt.datetime.fromtimestamp(math.floor(moment), self.zone)
        later = (due.timestamp() for due in CronSim(self.cron, since))
        return next((due for due in later if due > moment), None)

    def _is_active(self, moment: float) -> bool:
        local = dt.datetime.fromtimestamp(moment, self.zone)
        minute, day = local.hour * 60 + local.minute, local.date()
        if self.begin < self.end:
            return self.begin <= minute < self.end and self._counts(day)
        if minute >= self.begin:
            return self._counts(day)
        return minute < self.end and self._counts(day - dt.timedelta(days=1))

    def _counts(self, day: dt.date) -> bool:
        return day.weekday() in self.weekdays and day not in self.holidays

    def _opening(self, moment: float) -> float | None:
        """Return when the active hours begin next; None where they do not in years."""
        day = dt.datetime.fromtimestamp(moment, self.zone).date()
        for _ in range(_STEPS):
            hour, minute = divmod(self.begin, 60)
            opening = dt.datetime.combine(day, dt.time(hour, minute), self.zone).timestamp()
            if self._counts(day) and opening > moment:
                return opening
            day += dt.timedelta(days=1)
        return None
