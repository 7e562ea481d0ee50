"""This module measures how fast messages are validated, beside hl7apy on the same message, and prints that as JSON.

``python bench/reading_validation.py``: CPU time of this process, the best of several rounds, so that a busy machine
changes little. What is sound, and what has findings, are measured apart: the long way is taken for findings alone.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7apy.validation import Validator as Hl7apy

from bench.load import END, START, templates
from broker.wire.er7 import Message
from transforms.validation import Validator

_ROUNDS: Final = 100
_CALLS: Final = 10
_WARM: Final = 5  # messages after which everything that they hold is compiled
_LOOPS: Final = 100_000
_CONTROL_ID: Final = b"000001"
_MRN: Final = b"100001"


def measure() -> dict[str, Any]:
    """Return microseconds for each message; ``bytes`` is its size, ``findings`` are those of the message with mistakes.

    ``loop_ns`` is a round of an empty loop, for comparing machines and hours.
    """
    before, middle, rest = templates()[0]
    raw = (before + _CONTROL_ID + middle + _MRN + rest).removeprefix(START).removesuffix(END)
    wrong = raw.replace(b"PV1|1|", b"PV1|one|").replace(b"DG1|1|", b"DG1|one|")
    sound, faulty = Message.parse(raw), Message.parse(wrong)
    began = time.process_time()
    lenient, strict = Validator("lenient"), Validator("strict")
    lenient(sound)
    first = (time.process_time() - began) * 1e6
    for validator in (lenient, strict):
        for _ in range(_WARM):
            validator(sound)
    return {
        "bytes": len(raw),
        "loop_ns": round(_best(_empty_loop, calls=1) * 1e3 / _LOOPS, 1),
        "findings": sum(strict(faulty).counts.values()),
        "lenient_us": _best(lambda: lenient(sound)),
        "strict_us": _best(lambda: strict(sound)),
        "strict_with_mistakes_us": _best(lambda: strict(faulty)),
        "parse_and_lenient_us": _best(lambda: lenient(Message.parse(raw))),
        "first_message_us": round(first),
        "hl7apy_us": _best(lambda: _hl7apy(raw.decode()), rounds=2, calls=2),
    }


def _empty_loop() -> None:
    for _ in range(_LOOPS):
        pass


def _hl7apy(text: str) -> None:
    Hl7apy.validate(parse_message(text, validation_level=VALIDATION_LEVEL.TOLERANT))


def _best(call: Callable[[], Any], rounds: int = _ROUNDS, calls: int = _CALLS) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - began) / calls)
    return round(min(times) * 1e6, 1)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
