"""This module makes the messages of the fault tests, and keeps the ledger of what was sent and what was answered.

A line is on disk before its message goes out, and another after its acknowledgment came: what the ledger says was
acknowledged must be found again, whatever happened to the engine in between.
"""

import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# Names that no log, metric or error may show, and that no sealed store may hold in the clear.
CANARIES: Final = ("CANARYOKAFOR", "CANARYADAEZE", "CANARYSTREET")

_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: its control id, whom it is about, the how-manieth of that patient it is (from 1), and its bytes."""

    control_id: str
    patient: str
    seq: int
    body: bytes = field(repr=False)


def adt(control_id: str, patient: str, seq: int, trigger: str = "A08", extra: Sequence[str] = ()) -> bytes:
    """Return an ADT message; later ones of a patient say a later time, and the house number is the sequence number."""
    moment = (_EPOCH + timedelta(seconds=seq)).strftime("%Y%m%d%H%M%S+0000")
    segments = [
        f"MSH|^~\\&|FAULTS|MERCY|HANDOFF|PRM|{moment}||ADT^{trigger}^ADT_A01|{control_id}|P|2.5.1",
        f"EVN|{trigger}|{moment}|||^SMITH|{moment}",
        f"PID|1||{patient}^^^MERCY^MR||{CANARIES[0]}^{CANARIES[1]}||19620910|F|||{seq} {CANARIES[2]}^^SPRINGFIELD^IL"
        "^62701^USA||+12025550143^PRN^CP",
        f"PV1|1|I|3W^301^A|||||||MED||||||||V{patient}^^^MERCY^VN",
        *extra,
    ]
    return "\r".join(segments).encode() + b"\r"


class Feed:
    """Makes messages of many patients; control ids and record numbers begin at large random numbers."""

    def __init__(self, seed: int, patients: int = 40) -> None:
        self._dice = random.Random(seed)
        self._ids: Iterator[int] = iter(range(self._dice.randrange(1 << 40, 1 << 50), 1 << 62))
        first = self._dice.randrange(1 << 40, 1 << 50)
        self.patients = [str(first + number) for number in range(patients)]
        self._seq = dict.fromkeys(self.patients, 0)

    def next(self, patients: Sequence[str] = (), trigger: str = "A08", extra: Sequence[str] = ()) -> Sent:
        """Return the next message of one of these patients."""
        patient = self._dice.choice(patients or self.patients)
        self._seq[patient] += 1
        control_id = str(next(self._ids))
        return Sent(
            control_id, patient, self._seq[patient], adt(control_id, patient, self._seq[patient], trigger, extra)
        )

    def share(self, number: int, of: int) -> list[str]:
        """Return the patients of one of so many connections: all of a patient's messages come over the same one."""
        return self.patients[number::of]


class Ledger:
    """What was sent and what was answered; every line is on disk before its method returns."""

    def __init__(self, path: Path) -> None:
        self.sent: dict[str, Sent] = {}
        self.answers: dict[str, list[str]] = {}
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        """Return the ledger."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._file.close()

    def note_sent(self, messages: Iterable[Sent]) -> None:
        """Note messages that are about to be sent for the first time."""
        lines = []
        for one in messages:
            self.sent[one.control_id] = one
            lines.append(("sent", one.control_id, one.patient, one.seq, sha256(one.body).hexdigest()))
        self._write(lines)

    def note_answers(self, answers: Sequence[tuple[str, str]]) -> None:
        """Note acknowledgments that came: control id and MSA-1."""
        for control_id, code in answers:
            self.answers.setdefault(control_id, []).append(code)
        self._write([("answered", *answer) for answer in answers])

    @property
    def acknowledged(self) -> list[Sent]:
        """Messages that were positively acknowledged, in the order in which they were first sent."""
        return [one for key, one in self.sent.items() if {"AA", "CA"} & set(self.answers.get(key, ()))]

    def _write(self, lines: Sequence[tuple[object, ...]]) -> None:
        if lines:
            self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            os.fdatasync(self._file.fileno())
