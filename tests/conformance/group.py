"""This module is a line of the table of conformance: what became of one group of files, or of expectations."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parents[2] / "../shared/data"
# Explained is what differs from what a peer makes of it, for a reason that is given.
COLUMNS: Final = ("read right", "refused right", "explained", "wrong", "crashed")
_GOOD: Final = COLUMNS[:3]
HEAD: Final = f"{'':<34}" + "".join(f"{name:>14}" for name in COLUMNS) + f"{'share':>10}{'target':>9}"


@dataclass(slots=True)
class Group:
    """What became of the files, or expectations, of one group; ``target`` is the share that must not be wrong."""

    name: str
    target: float = 1.0
    outcomes: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, outcome: str, note: str = "") -> None:
        """Count one; ``note`` says which, or why."""
        self.outcomes[outcome] += 1
        if note:
            self.notes.append(note)

    def compare(self, *, same: bool, note: str) -> None:
        """Count an expectation as right or wrong; ``note`` says which it is."""
        self.add("read right" if same else "wrong", "" if same else note)

    @property
    def share(self) -> float:
        """What is right or explained, of all; nothing compared is no success."""
        total = self.outcomes.total()
        return sum(self.outcomes[name] for name in _GOOD) / total if total else 0.0

    @property
    def is_met(self) -> bool:
        """Whether the target is reached, and nothing crashed."""
        return self.share >= self.target and not self.outcomes["crashed"]

    def row(self) -> str:
        """Return the group as a line of the table."""
        counts = "".join(f"{self.outcomes[name]:>14,}" for name in COLUMNS)
        missed = "" if self.is_met else "  MISSED"
        return f"{self.name:<34}{counts}{self.share:>10.2%}{self.target:>9.0%}{missed}"
