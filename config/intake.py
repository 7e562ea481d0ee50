"""This module is what handoff.yaml says under ``intake``: how much may wait in memory, must be free, and is kept."""

from pydantic import Field

from broker.limits import Limits
from broker.spec import Bytes, Spec


class IntakeSpec(Spec):
    """How much is taken in at most."""

    waiting: Bytes = Field(
        default=Limits().waiting,
        ge=1024**2,
        description="Messages that wait for their commit; beyond it nothing is read, and senders wait.",
    )
    unfinished: Bytes = Field(
        default=Limits().unfinished,
        ge=1024**2,
        description="Messages of which a part has come; beyond it the connections that hold most of it are closed.",
    )
    free_space: Bytes = Field(
        default=Limits().free_space,
        description="Space that must be free where an embedded store is; below it every message is refused (AE, 503), "
        "and below four times as much there is a warning. 0 never looks.",
    )

    quarantine: Bytes = Field(
        default=Limits().quarantine,
        ge=1024**2,
        description="What each channel keeps of what never became a message; beyond it, who holds most of it loses the "
        "oldest.",
    )

    def limits(self) -> Limits:
        """Return it as the engine takes it."""
        return Limits(**self.model_dump())
