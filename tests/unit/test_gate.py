"""A gate joins breaker, rate, the other side's wishes, and an operator's hand."""

from broker.breaker import BreakerPolicy
from broker.delivery import Delivered, Rejected, Retry, Unknown
from broker.gate import Change, Gate
from broker.rate import Rate

FOREVER = float("inf")
POLICY = BreakerPolicy(failures=2, first=1.0, longest=8.0)


def gate(rate: Rate | None = None, *, held: bool = False) -> Gate:
    """Return a gate of time nought."""
    return Gate(POLICY, rate, 0.0, held=held)


def test_gate_is_clear_until_something_speaks_against_it() -> None:
    one = gate()
    assert one.is_clear
    assert (one.wait(0.0, 5), one.wait_to_claim(0.0, 5), one.room(0.0, 4), one.state(0.0)) == (0.0, 0.0, 4, "running")
    assert not gate(Rate(1, 1.0)).is_clear
    assert not gate(held=True).is_clear
    one.judge([Unknown("")], 0.0)
    assert one.wait(0.0, 5) == 0.0  # it goes on, but nothing is born sending
    assert gate().is_clear is not one.is_clear
    one.judge([Delivered()], 0.0)
    assert gate().is_clear is one.is_clear


def test_paused_and_held_wait_for_somebody() -> None:
    one = gate()
    one.is_paused = True
    assert (one.wait(0.0, 0), one.state(0.0)) == (FOREVER, "paused")
    one.is_paused = False
    assert one.wait(0.0, 0) == 0.0
    held = gate(held=True)
    assert (held.wait(9.0, 0), held.state(9.0)) == (FOREVER, "held")


def test_quiet_hours_let_nothing_go_until_they_are_over() -> None:
    one = gate()
    one.quiet_until = 50.0
    assert (one.wait(20.0, 0), one.wait_to_claim(20.0, 0), one.state(20.0)) == (30.0, 30.0, "quiet")
    assert not one.is_clear
    assert (one.wait(50.0, 0), one.state(50.0)) == (0.0, "running")
    one.is_paused = True
    assert one.state(20.0) == "paused"


def test_circuit_opens_probes_and_closes() -> None:
    one = gate()
    assert one.judge([Unknown("")], 0.0) == []
    assert one.judge([Retry("")], 0.0) == [Change("opened", 1.0)]
    assert (one.state(0.0), one.is_probing, one.room(0.0, 8)) == ("open", True, 1)
    assert one.begin(1.0)
    assert one.state(1.0) == "half_open"
    assert one.judge([Unknown("")], 1.0) == [Change("reopened", 2.0)]
    assert one.begin(3.0)
    assert one.judge([Rejected("")], 3.0) == [Change("closed")]
    assert one.state(3.0) == "running"


def test_one_answer_of_a_batch_is_an_answer() -> None:
    one = gate()
    for _ in range(9):
        assert one.judge([Unknown(""), Delivered(), Retry("")], 0.0) == []


def test_what_the_other_side_asks_for_stops_everything_and_is_told_once() -> None:
    one = gate()
    assert one.judge([Retry("429", after=7.0)], 10.0) == [Change("busy", 7.0)]
    assert one.judge([Retry("429", after=9.0), Retry("503", after=2.0)], 10.5) == []
    assert (one.wait(10.5, 3), one.state(10.5), one.is_clear) == (9.0, "busy", False)
    assert (one.wait(19.5, 3), one.state(19.5)) == (0.0, "running")
    assert one.judge([Delivered()], 20.0) == []
    assert one.is_clear
    assert one.judge([Retry("429", after=0.0)], 20.0) == []


def test_being_asked_for_time_is_an_answer_and_opens_no_circuit() -> None:
    one = gate()
    for number in range(9):
        one.judge([Retry("429", after=1.0)], 10.0 * number)
    assert one.state(99.0) == "running"


def test_rate_lets_claim_a_little_ahead_and_send_in_time() -> None:
    one = gate(Rate(10, 1.0))
    assert round(one.wait(0.0, 0), 3) == 0.1
    assert round(one.wait_to_claim(0.0, 0), 3) == 0.05
    assert one.room(0.06, 8) == 1
    assert one.wait(0.1, 0) == 0.0
    assert not one.begin(0.1)
    assert round(one.wait(0.1, 0), 3) == 0.1
    fast = gate(Rate(1000, 1.0, 20))
    assert fast.room(1.0, 8) == 8
    assert fast.room(1.0, 100) == 69
