"""This module draws the tree of errors that the engine raises on purpose.

::

    HandoffError
    ├── ConfigError        the configuration is wrong; carries every finding at once
    ├── NotReady           the environment refuses (port taken, key unreadable, database newer)
    ├── NotFound           what an operator named is not there
    ├── Away               what a way in reads from cannot be read now; says how long it asks us to wait
    ├── NotAccepted        a message was refused; says how to acknowledge that
    ├── MessageError       the bytes are not the message they claim to be; carries a location
    ├── StepError          a step failed on a message; carries step and location
    └── StoreError         the store could not commit
        ├── StoreFatal     … and must not go on (disk full, failed fsync, damaged file)
        └── StoreUnavailable  … because the database is away; it may come back

Errors say where, what was found, what was expected and what to do. They never carry a body, a name or an identifier.
"""

from typing import Final, NamedTuple


class HandoffError(Exception):
    """Anything that the engine refuses, in one clear sentence."""


class ConfigError(HandoffError):
    """The configuration cannot be used; ``str()`` is the whole report, every finding at once."""


class NotReady(HandoffError):
    """The environment does not allow a start: a port, a key file, a database or a disk."""


class NotFound(HandoffError):
    """What an operator named is not there."""


class Away(HandoffError):
    """What a way in reads from, or needs for that, cannot be had now; it is tried again.

    ``str()`` holds no value and no name of a file. ``after`` is how many seconds the other side asks us to wait.
    """

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class MessageError(HandoffError):
    """The bytes cannot be read as the message they claim to be.

    ``location`` is an HL7 location such as ``PID-3.1`` (empty when none fits), ``condition`` a code of HL7 table 0357.
    """

    def __init__(self, text: str, *, location: str = "", condition: int = 207) -> None:
        super().__init__(text)
        self.location = location
        self.condition = condition


_INTERNAL: Final = 207  # HL7 table 0357: application internal error


class NotAccepted(HandoffError):
    """The message was refused and nothing was stored for it.

    ``code`` is of HL7 table 0008: AR where this is no message that we take, whatever is in it; AE where something in
    it, or we, stood in the way. ``condition`` is of table 0357: 207 says that it was us.
    """

    def __init__(self, text: str, *, code: str = "AE", condition: int = 207, location: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.condition = condition
        self.location = location

    @property
    def is_ours(self) -> bool:
        """Whether the same bytes may be taken later: nothing is wrong with them."""
        return self.code == "AE" and self.condition == _INTERNAL


def refused(error: MessageError) -> NotAccepted:
    """Return the refusal of a message that cannot be read.

    What its bytes are, and what MSH-18 says of them, is an error in the message (AE); an MSH that cannot be read, or is
    not of a kind that we take, is a rejection (AR). HL7 v2.5.1, 2.9.2.2, and table 0008.
    """
    code = "AE" if error.location == "MSH-18" else "AR"
    return NotAccepted(str(error), code=code, condition=error.condition, location=error.location)


class Breach(NamedTuple):
    """One thing that is wrong with a message, as its sender is told it; ``text`` holds no value of it.

    ``location`` is an HL7 location (empty where there is none), ``condition`` a code of HL7 table 0357.
    """

    location: str
    condition: int
    text: str


MOST_BREACHES: Final = 20  # of a message, that its sender is told


class StepError(HandoffError):
    """A step could not do its work; ``step`` names it, ``location`` the place in the message where known.

    ``condition`` is a code of HL7 table 0357; ``breaches`` is all that is wrong with the message, where the step knows.
    """

    def __init__(
        self,
        text: str,
        *,
        step: str = "",
        location: str = "",
        condition: int = _INTERNAL,
        breaches: tuple[Breach, ...] = (),
    ) -> None:
        super().__init__(text)
        self.step = step
        self.location = location
        self.condition = condition
        self.breaches = breaches


class StoreError(HandoffError):
    """The store could not commit; nothing of the unit of work took effect."""


class StoreFatal(StoreError):
    """The store must not go on: the disk is full, an fsync failed or the file is damaged. Nothing took effect."""


class StoreUnavailable(StoreError):
    """The database is away; whether the last commit took effect is unknown until it is asked again."""
