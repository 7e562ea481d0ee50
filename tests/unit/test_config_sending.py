"""How a destination is sent to, as an analyst writes it, and what that becomes."""

from typing import Any

import pytest
from pydantic import ValidationError

from broker.formats.hl7 import Hl7
from broker.rate import Rate
from config.channel import DeliverPlan, load_pure
from config.program import Exit, Program
from config.sending import BreakerSpec, RateSpec, SendingSpec
from tests.faults.harness.feed import adt


def plan(**options: Any) -> DeliverPlan:
    """Return a text's plan with these options beside it."""
    sms = {"gateway": "g", "to": "1", "text": "t"}
    listen = {"mllp": {"endpoint": "127.0.0.1:0"}}
    tree = {"channel": "feed", "listen": listen, "deliver": {"a": {"sms": sms, **options}, "b": {"prm": {}}}}
    return load_pure(tree).deliver[0]


@pytest.mark.parametrize(
    ("written", "count", "seconds", "burst"),
    [
        ("10/s", 10, 1.04, 1.2),
        ("600/m", 600, 60.04, 1.2),
        ("5000/h", 5000, 3600.04, 1.0278),
        ({"limit": "100/s", "burst": 20}, 100, 1.04, 20),
        ({"limit": "1/d"}, 1, 86_400.04, 1.0),
    ],
)
def test_rate_holds_for_a_little_longer_than_it_says(written: Any, count: int, seconds: float, burst: float) -> None:
    spec = SendingSpec.model_validate({"rate": written}).rate
    assert spec is not None
    rate = spec.rate()
    assert isinstance(rate, Rate)
    assert [rate.count, rate.seconds, rate.burst] == pytest.approx([count, seconds, burst], abs=1e-3)


@pytest.mark.parametrize("written", ["10", "0/s", "1.5/s", "10/w", "10 / s", "-1/s", 10, "٣/s"])
def test_rate_needs_a_number_and_a_time(written: object) -> None:
    with pytest.raises(ValidationError, match="such as 10/s"):
        RateSpec.model_validate({"limit": written})


def test_breaker_has_defaults_and_a_long_first_time_lifts_the_longest() -> None:
    policy = BreakerSpec().policy()
    assert (policy.failures, policy.first, policy.longest) == (5, 1.0, 60.0)
    assert BreakerSpec.model_validate({"first": "5m"}).policy().longest == 300.0


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ({"from": "21:00", "to": "08:00"}, "zone"),
        ({"from": "21:00", "zone": "UTC"}, "needs `from` and `to`"),
        ({"from": "21:00", "to": "21:00", "zone": "UTC"}, "leave no time"),
        ({"from": "21:00", "to": "08:00", "zone": "patient"}, "is not a time zone"),
    ],
)
def test_quiet_hours_need_a_beginning_an_end_and_a_clock(hours: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        SendingSpec.model_validate({"quiet_hours": hours})


def test_concurrency_of_the_destination_overrides_that_of_its_kind() -> None:
    """The kind opens as many connections."""
    assert getattr(plan().spec, "concurrency", None) == 8
    assert getattr(plan(concurrency=3).spec, "concurrency", None) == 3
    assert plan(concurrency=3).sending.concurrency == 3


def program(*exits: tuple[str, str, set[int]]) -> Program:
    """Return a program whose destinations (name, whether wanted, for whom they stand by) render their names."""
    return Program([], None, [_exit(*each) for each in exits], Hl7().document)


def _exit(name: str, told: str, instead: set[int]) -> Exit:
    return Exit(name, lambda _: told == "yes", lambda _: name.encode(), frozenset(instead))


def rendered(made: Program) -> list[str]:
    """Return what was rendered, in order."""
    (state, *_, deliveries), requests = made.process(adt("1", "7", 1), 0.0)
    assert state == "processed"
    assert len(deliveries) == len(requests)
    return [request.decode() for request in requests]


def test_stand_in_is_rendered_after_those_that_it_stands_in_for_and_only_with_one_of_them() -> None:
    chain = (("letter", "yes", {1}), ("mail", "yes", {2}), ("text", "yes", set[int]()))
    assert rendered(program(*chain)) == ["text", "mail", "letter"]
    assert rendered(program(*chain[:2], ("text", "no", set()))) == []
    assert rendered(program(chain[0], ("mail", "no", {2}), chain[2])) == ["text"]
    assert rendered(program(("a", "no", set()), ("b", "yes", set()), ("c", "yes", {0, 1}))) == ["b", "c"]
