"""This module declares how a destination is sent to: how fast, when again, when not, and who gets what it cannot."""

import re
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from broker.breaker import BreakerPolicy
from broker.rate import Rate
from broker.retry import RetryPolicy
from broker.schedule import ActiveSpec, Zone
from broker.spec import Seconds, Spec
from config.wording import NAME_PATTERN
from dispatch.consent import ConsentSpec

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LIMIT: Final = re.compile(r"([0-9]{1,7})/([smhd])")
_LATE: Final = 0.02  # seconds by which a busy engine's timers may be late without a loss of pace
_ON_THE_WAY: Final = 0.04  # seconds by which sends may come closer on their way: it is the other side that counts


def _limit(value: object) -> object:
    if not isinstance(value, str) or not (found := _LIMIT.fullmatch(value)) or not int(found[1]):
        text = "needs a number of sends in a time (/s, /m, /h, /d), such as 10/s"
        raise ValueError(text)
    return value


_LIMIT_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": f"^{_LIMIT.pattern}$"})
Limit = Annotated[str, BeforeValidator(_limit), _LIMIT_SCHEMA]


class RetrySpec(Spec):
    """When a delivery is tried again, and when it is given up."""

    attempts: int = Field(default=10, ge=0, description="How often to try; 0 means without limit.")
    first: Seconds = Field(default=1.0, description="Longest wait after the first attempt; it doubles each time.")
    max: Seconds = Field(default=300.0, description="Longest wait between two attempts.")
    expire: Seconds = Field(default=86_400.0, gt=0, description="Age of the message at which to give up.")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if "max" in self.model_fields_set and self.max < self.first:
            text = "`max` is shorter than `first`; make it at least as long"
            raise ValueError(text)
        return self

    def policy(self) -> RetryPolicy:
        """Return it as the dispatcher takes it; a long first wait lifts the longest."""
        return RetryPolicy(attempts=self.attempts, first=self.first, max=max(self.max, self.first), expire=self.expire)


class RateSpec(Spec):
    """How much a destination may get in a time; ``rate: 10/s`` is short for ``rate: {limit: 10/s}``."""

    limit: Limit = Field(description="Most sends in any stretch of that time: 10/s, 100/m, 5000/h, 100000/d.")
    burst: int | None = Field(
        default=None,
        ge=1,
        description="How many may leave at once; taken off the steady pace, so that the limit holds. Usually one.",
    )

    @model_validator(mode="after")
    def _leaves_a_pace(self) -> Self:
        if self.burst is not None and self.burst > max(self.rate().count // 2, 1):
            text = f"burst {self.burst} leaves no steady pace of {self.limit}; make it at most half of the limit"
            raise ValueError(text)
        return self

    def rate(self) -> Rate:
        """Return it as the dispatcher takes it: the limit holds for a stretch that is a little longer."""
        number, _, unit = self.limit.partition("/")
        count, seconds = int(number), _UNITS[unit]
        return Rate(count, seconds + _ON_THE_WAY, self.burst or 1.0 + _LATE * count / seconds)


class BreakerSpec(Spec):
    """When a destination that only fails is left alone, and for how long."""

    failures: int = Field(default=5, ge=0, description="Failures in a row after which it is; 0 means never.")
    first: Seconds = Field(default=1.0, gt=0, description="How long at first, until one delivery tries; then doubling.")
    longest: Seconds = Field(default=60.0, gt=0, description="How long at most.")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if "longest" in self.model_fields_set and self.longest < self.first:
            text = "`longest` is shorter than `first`; make it at least as long"
            raise ValueError(text)
        return self

    def policy(self) -> BreakerPolicy:
        """Return it as the dispatcher takes it; a long first time lifts the longest."""
        return BreakerPolicy(failures=self.failures, first=self.first, longest=max(self.longest, self.first))


def _full(value: Any) -> Any:
    return {"limit": value} if isinstance(value, str) else value


class QuietSpec(ActiveSpec):
    """When nobody is to be disturbed; hours that end before they begin go past midnight."""

    zone: Zone = Field(description="Whose clock that is: a time zone such as America/Chicago, of those who get it.")

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if "begin" not in self.model_fields_set or "end" not in self.model_fields_set:
            raise ValueError("needs `from` and `to`, such as {from: '21:00', to: '08:00', zone: America/Chicago}")
        return self


class SendingSpec(Spec):
    """How deliveries leave for a destination, whatever its kind."""

    concurrency: int | None = Field(
        default=None, ge=1, le=1000, description="Sends under way at a time; without it, what the kind says."
    )
    rate: Annotated[
        RateSpec | None,
        BeforeValidator(_full),
        WithJsonSchema({"anyOf": [{"type": "string", "pattern": f"^{_LIMIT.pattern}$"}, RateSpec.model_json_schema()]}),
    ] = Field(default=None, description="Most sends in a time, such as 10/s; a batch that goes over at once is one.")
    breaker: BreakerSpec = Field(default=BreakerSpec(), description="When to leave it alone, and for how long.")
    fallback: Annotated[str, Field(pattern=NAME_PATTERN)] | None = Field(
        default=None,
        description="The destination that gets what this one refused, what ran out of attempts, and what expired.",
    )
    quiet_hours: QuietSpec | None = Field(
        default=None, description="The time of day in which nothing leaves; what comes then waits for its end."
    )
    consent: ConsentSpec | None = Field(
        default=None, description="What patients must have agreed to, as the patient store has it when this is sent."
    )
    hold: bool = Field(default=False, description="Whether everything waits until this is taken away again.")
    recipient: str = Field(
        default="", max_length=200, description="Who gets it, as an accounting of disclosures names them."
    )
    purpose: str = Field(
        default="", max_length=200, description="Why it is disclosed, as an accounting of disclosures says it."
    )
