"""This module measures what mapping results costs, and prints it as JSON: `python bench/reading_results.py`.

The messages are an ORU with 100 OBX, and one with a PDF of 5 MB as base64.
"""

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.wire.er7 import Message
from transforms.map_result import map_result

ROUNDS: Final = 60
OBSERVATIONS: Final = 100
PDF: Final = 5_000_000
HEAD: Final = (
    "MSH|^~\\&|LAB|MERCY|HANDOFF|PRM|20240501103000||ORU^R01^ORU_R01|MSG1|P|2.5.1\r"
    "PID|1||00123^^^MERCY^MR||Okafor^Ngozi||19620910|F\rPV1|1|I|4EAST^412^B\rORC|RE|P1^EHR|F1^LAB\r"
    "OBR|1|P1^EHR|F1^LAB|58410-2^CBC panel^LN|||20240501081500|||||||||1234^Adeyemi^Tunde||||||20240501102500||LAB|F\r"
)


def laboratory() -> bytes:
    """Return an ORU with many results."""
    lines = [
        f"OBX|{number}|NM|{1000 + number}-7^Analyte {number}^LN^A{number}^Local {number}^L|1|{number}.{number % 10}|"
        f"mg/dL^milligram per deciliter^UCUM|3.5-5.1|{'HNL'[number % 3]}|||F|||20240501{8 + number % 3:02}1500||77^Osei"
        for number in range(1, OBSERVATIONS + 1)
    ]
    return (HEAD + "\r".join(lines)).encode()


def report() -> bytes:
    """Return an ORU with a large PDF."""
    return f"{HEAD}OBX|1|ED|PDF^Report^L||LAB^application^pdf^Base64^JVBERi0x{'QUJD' * (PDF // 4)}||||||F".encode()


def milliseconds(call: Callable[[], object]) -> float:
    """Return the CPU time of one call: the best of several rounds, which is the least disturbed."""
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time_ns()
        call()
        best = min(best, time.process_time_ns() - begin)
    return round(best / 1e6, 3)


def peak(call: Callable[[], object]) -> int:
    """Return the most memory that a call took beyond what was there before."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure() -> dict[str, float]:
    """Measure both messages: time from bytes and from the parsed message, and memory as a multiple of the bytes."""
    small, large = laboratory(), report()
    parsed, opened = Message.parse(small), Message.parse(large)
    return {
        "observations_100_ms": milliseconds(lambda: map_result(parsed)),
        "observations_100_with_parse_ms": milliseconds(lambda: map_result(Message.parse(small))),
        "pdf_5mb_ms": milliseconds(lambda: map_result(opened)),
        "pdf_5mb_with_parse_ms": milliseconds(lambda: map_result(Message.parse(large))),
        "pdf_5mb_memory": round(peak(lambda: map_result(opened)) / len(large), 2),
        "pdf_5mb_with_parse_memory": round(peak(lambda: map_result(Message.parse(large))) / len(large), 2),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
