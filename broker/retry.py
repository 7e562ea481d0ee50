"""This module says when to try again, and when to give up."""

from dataclasses import dataclass
from typing import Final

from tenacity import RetryCallState, Retrying, wait_random_exponential
from tenacity.wait import wait_base


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff with full jitter, within a budget of attempts (0: no limit) and of age in seconds."""

    attempts: int = 10
    first: float = 1.0  # seconds: upper bound of the first wait
    max: float = 300.0  # seconds: upper bound of any wait
    expire: float = 86_400.0  # seconds since the message arrived

    def wait(self, spent: int, asked: float | None = None) -> float:
        """Return the seconds to wait after ``spent`` attempts; never less than the other side ``asked`` for."""
        chosen = wait_after(wait_random_exponential(multiplier=self.first, max=self.max), spent)
        return max(chosen, asked or 0.0)

    def is_spent(self, spent: int) -> bool:
        """Say whether so many attempts are all that there may be."""
        return bool(self.attempts and spent >= self.attempts)


_NOTHING: Final = Retrying()


def wait_after(strategy: wait_base, attempts: int) -> float:
    """Return the seconds that a strategy of tenacity lets pass after so many attempts."""
    state = RetryCallState(_NOTHING, None, (), {})
    state.attempt_number = attempts
    return strategy(state)
