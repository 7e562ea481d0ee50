"""This module says where we differ from peers on purpose, and why; `docs/reference/verdicts.md` shows the same rows."""

import re
from collections.abc import Callable
from typing import Final

from broker.wire.er7 import Message

Place = tuple[int, int, int, int]
_BREAK: Final = re.compile(r"\\\.br\\|\\X0[Aa]\\|\\X000[Aa]\\|\\X0[Dd]\\")


def _hapi(ours: str | None, theirs: str, _message: Message, _place: Place) -> bool:
    """HAPI trims blanks, keeps escapes of line breaks, and stops reading a text where a line is wrapped."""
    if ours is None:
        return False
    ours, theirs = _joined(ours), _joined(_BREAK.sub("\n", theirs))
    return _is_cut(theirs, ours) or ours.strip() == theirs.strip() or ours.startswith(theirs + "\n")


def _joined(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n\n", "\n")


def _is_cut(theirs: str, ours: str) -> bool:
    """Say whether a value of the dump is the beginning of ours: the dumps hold the first 1,500 characters."""
    start, mark, _ = theirs.rpartition("...<")
    return bool(mark) and ours.startswith(start)


def _python_hl7(ours: str | None, theirs: str, message: Message, _place: Place) -> bool:
    """python-hl7 takes ``&`` for a separator where MSH-2 defines none, and wrapped lines for segments."""
    if ours is None:
        return False
    if not message.separators.subcomponent and theirs in ours.split("&"):
        return True
    return _is_cut(theirs, ours) or ours.strip() == theirs.strip() or ours.startswith(theirs + "\n")


VALUES: Final[dict[str, Callable[[str | None, str, Message, Place], bool]]] = {"hapi": _hapi, "python-hl7": _python_hl7}

# By how our first error begins, or by what HAPI or hl7apy said.
VERDICTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "refused": (
        ("MSH-10 ", "MSH-10 is empty: no acknowledgment could name the message, and a duplicate could not be told"),
        ("MSH-9 ", "MSH-9 is empty: nobody can say what the message is"),
        ("MSH-12 ", "MSH-12 is empty or no version of HL7: the sender is asked what it speaks"),
        ("MSH-18 ", "MSH-18 names no character set, or the bytes are not in it: text would be read wrong"),
        ("MSH-2 ", "MSH-2 is damaged (fuzzing): what separates is not known"),
        ("MSH-1 ", "MSH-1 is damaged (fuzzing): what separates is not known"),
        ("there is a NUL", "a NUL character inside: part of the message was lost, or was never filled in"),
        ("MSH ", "there is no MSH that can be read"),
        ("PID ", "a message about a patient without PID: nobody can say whom it is about"),
        ("BHS ", "the batch breaks its own rules: a message before or behind its envelope, or a wrong count"),
        ("FHS ", "the file breaks its own rules: a message before or behind its envelope, or a wrong count"),
        ("BTS", "the batch's count is wrong: a message may be missing, so the sender must know"),
        ("FTS", "the file's count is wrong: a batch may be missing, so the sender must know"),
    ),
    "accepted": (
        ("Determine encoding", "bytes before MSH (a byte order mark, framing) do not matter"),
        ("Invalid or incomplete encoding characters", "MSH-2 may define fewer than four characters"),
        ("is invalid for version", "OBX-2 names a data type of another version; its text is read all the same"),
        ("must be specified", "OBX-2 is empty; OBX-5 is read as text"),
        ("Can't determine message structure", "MSH-9 may have one component; EVN-1 has the trigger, or none is needed"),
        ("Can't find version ID", "MSH-12 is read as its first component"),
        ("The HL7 version", "MSH-12 is read as its first component"),
        ("No match", "the structure is not needed to read a message"),
        ("Missing required encoding chars", "MSH-2 may define fewer than four characters"),
        ("Found 5 encoding chars", "MSH-2 may define a fifth character, for what was cut, since 2.7"),
        ("Invalid name for Segment", "a segment that HL7 does not have, or a wrapped line, is kept and not looked at"),
        ("Invalid message", "a batch is taken apart, and each of its messages is read by itself"),
    ),
}
