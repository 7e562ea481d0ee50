"""This module measures what reading one message costs, and prints it as JSON: `python bench/reading.py`.

The message is the one that the load generator sends: ADT^A08 of 12 segments and about 1.4 kB.
"""

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.load import templates
from broker.wire.er7 import Location, Message

ROUNDS: Final = 400  # the best of them is the least disturbed
CALLS: Final = 50
LOOK_UPS: Final = (
    *("MSH-9.1", "MSH-9.2", "MSH-10", "PID-3[5=MR].1", "PID-5.1", "PID-5.2", "PID-7", "PID-8", "PV1-19.1", "PV1-44"),
)


def message() -> bytes:
    """Return the message, without its frame."""
    return b"".join(b"%b%b" % (part, b"C0000001" if place < 2 else b"") for place, part in enumerate(templates()[0]))[
        1:-2
    ]


def microseconds(call: Callable[[], object], calls: int = CALLS, rounds: int = ROUNDS) -> float:
    """Return the CPU time of one call in microseconds: the best of several rounds."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time_ns()
        for _ in range(calls):
            call()
        best = min(best, time.process_time_ns() - begin)
    return round(best / calls / 1000, 2)


def look_ups() -> dict[str, float]:
    """Measure parsing alone, and parsing with ten look-ups."""
    raw = message()
    locations = [Location.parse(text) for text in LOOK_UPS]

    def read() -> None:
        get = Message.parse(raw).get
        for location in locations:
            get(location)

    return {"bytes": len(raw), "parse_us": microseconds(lambda: Message.parse(raw)), "look_ups_us": microseconds(read)}


def document(size: int = 5_000_000) -> dict[str, float]:
    """Measure a document of ``size`` bytes in OBX-5.5: time, and memory beyond the bytes that came."""
    raw = message() + b"OBX|1|ED|PDF^Report||^application^pdf^Base64^" + b"QUJD" * (size // 4) + b"||||||F\r"

    def read() -> object:
        return Message.parse(raw).get("OBX-5.5")

    taken = microseconds(read, calls=1, rounds=10)
    tracemalloc.start()
    read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"bytes": len(raw), "read_ms": round(taken / 1000, 2), "memory_times_size": round(peak / len(raw), 2)}


def measure() -> dict[str, Any]:
    """Measure everything."""
    return {"look_ups": look_ups(), "document": document()}


def main() -> None:
    """Measure everything, and print it."""
    print(json.dumps(measure(), indent=2))


if __name__ == "__main__":
    main()
