"""This module measures what mapping to the canonical model costs, and prints it as JSON.

``python bench/reading_canonical.py``: the ADT^A08 of the load generator (12 segments, about 1.4 kB), for patients that
come again and again and for patients never seen before, and an SIU^S12; parsing is not counted.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.load import templates
from broker.wire.er7 import Message
from transforms.map_message import map_message

ROUNDS: Final = 10  # the best of them is the least disturbed
COUNT: Final = 2000
PATIENTS: Final = 1000
BOOKING: Final = (
    "MSH|^~\\&|SCH|GENHOSP|HANDOFF|PRM|20261120103045||SIU^S12^SIU_S12|C{0}|P|2.5.1\r"
    "SCH|P{0}|F{0}||||NEW^New|CHECKUP^Check-up|NORMAL|30|min||||||||||||||Booked\rTQ1|||||||20261201093000|20261201100000\r"
    "PID|1||P{0:06}^^^GENHOSP^MR||Okafor^Ada||19620910|F|||1 Harbor Street^^Springfield^IL^62701||217-5550100^PRN^PH\r"
    "RGS|1\rAIS|1|A|99213^Visit^C4|20261201093000|||30|min\rAIL|1||CLINIC^R1^^GENHOSP\rAIP|1||1234^Lind^Maja|ATT^Attending\r"
)


def registrations(first: int, patients: int) -> list[bytes]:
    """Return messages about so many patients in turn, beginning with number ``first``."""
    parts = templates()
    found = []
    for number in range(COUNT):
        before, middle, after = parts[number % len(parts)]
        patient = first + number % patients
        found.append(b"%bC%d%bP%06d%b" % (before[1:], number, middle, patient, after[:-2]))
    return found


def mapping_us(messages: Sequence[bytes]) -> float:
    """Return the CPU time of mapping one message in microseconds."""
    parsed = [Message.parse(raw) for raw in messages]
    begin = time.process_time_ns()
    for message in parsed:
        map_message(message)
    return (time.process_time_ns() - begin) / len(parsed) / 1000


def measure() -> dict[str, float]:
    """Measure all of them; times are microseconds."""
    again = registrations(0, PATIENTS)
    mapping_us(again)
    fresh = [registrations((number + 1) * 1_000_000, COUNT) for number in range(ROUNDS)]
    bookings = [BOOKING.format(number).encode() for number in range(COUNT)]
    return {
        "adt_bytes": len(again[0]),
        "adt_us": round(min(mapping_us(again) for _ in range(ROUNDS)), 1),
        "adt_never_seen_us": round(min(mapping_us(each) for each in fresh), 1),
        "siu_bytes": len(bookings[0]),
        "siu_us": round(min(mapping_us(bookings) for _ in range(ROUNDS)), 1),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
