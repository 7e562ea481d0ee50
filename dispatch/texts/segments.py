"""This module counts the short messages that a text takes, which is what a gateway is paid for."""

from pydantic import Field

from broker.errors import StepError
from broker.spec import Spec
from broker.wire.gsm import LONGEST, Cut, cut


class SegmentsSpec(Spec):
    """How many short messages a text may take."""

    most: int = Field(
        ge=1, le=10, description="The most short messages that one text may take; a longer one fails before it is sent."
    )


def counted(text: str, most: int | None) -> Cut:
    """Cut a text into short messages; raise `StepError` where it takes more than ``most``."""
    found = cut(text)
    if most is not None and found.segments > most:
        alone, shared = LONGEST[found.encoding]
        room = alone if most == 1 else most * shared
        raise StepError(
            f"sms: the text takes {found.segments} short messages in {found.encoding} and may take {most} "
            f"({room} characters in that alphabet); shorten it, or raise `segments: {{most: {most}}}`"
        )
    return found
