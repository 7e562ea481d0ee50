"""This module holds what validation finds in a message: place, HL7 table 0357 code, severity, and a sentence."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from broker.errors import MOST_BREACHES, Breach
from broker.wire.ack import bad_code

ERROR: Final = "error"
WARNING: Final = "warning"
INFORMATION: Final = "information"
SEVERITIES: Final = (ERROR, WARNING, INFORMATION)
MOST: Final = 100  # findings of one severity that are kept; more are counted

_OTHER: Final = 199
_LONGEST_REASON: Final = 2000  # characters


class Kind(NamedTuple):
    """One way to breach the standard: its code of table 0357, and how bad it is by the book, and in practice."""

    condition: int
    strict: str
    lenient: str


SEGMENT_UNKNOWN: Final = Kind(100, ERROR, WARNING)
NAME_IN_SMALL: Final = Kind(100, ERROR, WARNING)
SEGMENT_ORDER: Final = Kind(100, ERROR, WARNING)
SEGMENT_MISSING: Final = Kind(100, ERROR, WARNING)
PATIENT_MISSING: Final = Kind(100, ERROR, ERROR)
FIELD_MISSING: Final = Kind(101, ERROR, WARNING)
ESCAPE_LOST: Final = Kind(102, WARNING, WARNING)
WRONG_TYPE: Final = Kind(102, ERROR, WARNING)
TOO_MANY_PARTS: Final = Kind(102, ERROR, WARNING)
CODE_UNKNOWN: Final = Kind(103, ERROR, WARNING)
SITE_CODE_UNKNOWN: Final = Kind(103, WARNING, INFORMATION)  # the standard only suggests these codes
TOO_LONG: Final = Kind(104, ERROR, ERROR)  # lengths are checked where a profile says so, and nowhere else
REPEATS: Final = Kind(198, ERROR, WARNING)
TOO_MUCH: Final = Kind(198, ERROR, ERROR)  # of everything: it is not looked at
NOT_DEFINED: Final = Kind(199, ERROR, WARNING)  # withdrawn, or beyond what the version defines
STRUCTURE_UNKNOWN: Final = Kind(200, ERROR, WARNING)
EVENT_UNKNOWN: Final = Kind(201, ERROR, WARNING)
PROCESSING_UNKNOWN: Final = Kind(202, ERROR, WARNING)
VERSION_UNKNOWN: Final = Kind(203, ERROR, WARNING)
VERSION_NEAR: Final = Kind(203, INFORMATION, INFORMATION)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in a message; ``text`` never holds a value of it.

    ``location`` is an HL7 location, empty for the message as a whole; ``condition`` a code of HL7 table 0357;
    ``severity`` one of `SEVERITIES`.
    """

    location: str
    condition: int
    severity: str
    text: str

    def __str__(self) -> str:
        """Write place and sentence."""
        return f"{self.location}: {self.text}" if self.location else self.text

    def as_json(self) -> dict[str, Any]:
        """Return the finding as JSON takes it, with stable keys."""
        return {
            "location": self.location,
            "condition": self.condition,
            "severity": self.severity,
            "text": self.text,
        }


class Findings:
    """Collects findings at one level; of each severity the first `MOST` are kept, and all are counted.

    ``warned`` counts the warnings by their code.
    """

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._kept: list[Finding] = []
        self.counts = dict.fromkeys(SEVERITIES, 0)
        self.warned: dict[int, int] = {}

    def add(self, kind: Kind, location: str, text: str, *, enforced: bool = False) -> None:
        """Add one; what a profile ``enforced`` is an error at every level."""
        severity = ERROR if enforced else kind.strict if self._strict else kind.lenient
        self.counts[severity] += 1
        if severity == WARNING:
            self.warned[kind.condition] = self.warned.get(kind.condition, 0) + 1
        if self.counts[severity] <= MOST:
            self._kept.append(Finding(location, kind.condition, severity, text))

    def told(self) -> list[Finding]:
        """Return what was kept in the order of the message, and at the end how many more there were."""
        more = [
            Finding("", 199, severity, f"and {count - MOST} more of severity {severity}")
            for severity, count in self.counts.items()
            if count > MOST
        ]
        return self._kept + more


def acknowledgment(findings: Iterable[Finding]) -> str:
    """Return the code of HL7 table 0008 that findings call for: AA, AE, or AR where the kind of message is refused."""
    conditions = {finding.condition for finding in findings if finding.severity == ERROR}
    return bad_code(conditions) if conditions else "AA"


def breaches(findings: Iterable[Finding]) -> tuple[Breach, ...]:
    """Return the errors as the sender is told them: the first ones, and how many more there are."""
    errors = [each for each in findings if each.severity == ERROR]
    told = [Breach(each.location, each.condition, each.text) for each in errors[:MOST_BREACHES]]
    if len(errors) > MOST_BREACHES:
        told[-1] = Breach("", _OTHER, f"and {len(errors) - MOST_BREACHES + 1} more errors")
    return tuple(told)


def reason(findings: Iterable[Finding]) -> str:
    """Return all errors as one text of bounded length, the first ones in full."""
    errors = [str(finding) for finding in findings if finding.severity == ERROR]
    text = errors[0] if errors else ""
    for number, each in enumerate(errors[1:], 1):
        if len(text) + len(each) > _LONGEST_REASON:
            return f"{text}; and {len(errors) - number} more errors"
        text += f"; {each}"
    return text
