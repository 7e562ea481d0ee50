"""This module draws the tree of errors that the engine raises on purpose.

::

    HandoffError
    ├── ConfigError        the configuration is wrong; carries every finding at once
    ├── NotReady           the environment refuses (port taken, key unreadable, database newer)
    ├── NotAccepted        a message was refused; says how to acknowledge that
    ├── MessageError       the bytes are not the message they claim to be; carries a location
    ├── StepError          a step failed on a message; carries step and location
    └── StoreError         the store could not commit
        ├── StoreFatal     … and must not go on (disk full, failed fsync, damaged file)
        └── StoreUnavailable  … because the database is away; it may come back

Errors say where, what was found, what was expected and what to do. They never carry a body, a name or an identifier.
"""


class HandoffError(Exception):
    """Anything that the engine refuses, in one clear sentence."""


class ConfigError(HandoffError):
    """The configuration cannot be used; ``str()`` is the whole report, every finding at once."""


class NotReady(HandoffError):
    """The environment does not allow a start: a port, a key file, a database or a disk."""


class MessageError(HandoffError):
    """The bytes cannot be read as the message they claim to be.

    ``location`` is an HL7 location such as ``PID-3.1`` (empty when none fits), ``condition`` a code of HL7 table 0357.
    """

    def __init__(self, text: str, *, location: str = "", condition: int = 207) -> None:
        super().__init__(text)
        self.location = location
        self.condition = condition


class NotAccepted(HandoffError):
    """The message was refused and nothing was stored for it.

    ``code`` is AE (our fault, try again) or AR (the message's fault), HL7 table 0008; ``condition`` is of table 0357.
    """

    def __init__(self, text: str, *, code: str = "AE", condition: int = 207, location: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.condition = condition
        self.location = location


class StepError(HandoffError):
    """A step could not do its work; ``step`` names it, ``location`` the place in the message where known."""

    def __init__(self, text: str, *, step: str = "", location: str = "") -> None:
        super().__init__(text)
        self.step = step
        self.location = location


class StoreError(HandoffError):
    """The store could not commit; nothing of the unit of work took effect."""


class StoreFatal(StoreError):
    """The store must not go on: the disk is full, an fsync failed or the file is damaged. Nothing took effect."""


class StoreUnavailable(StoreError):
    """The database is away; whether the last commit took effect is unknown until it is asked again."""
