"""This module reads other people's MLLP wire cases: chunks of bytes as they came, and the frames that must come out."""

import base64
import itertools
from pathlib import Path
from typing import Any, Final

CASES: Final = Path(__file__).parents[1] / "../shared/data/mllp"


def wire_cases() -> list[Path]:
    """Return the files of the cases; none where they are not here."""
    return sorted(CASES.glob("[0-9]*.json"))


def connections_of(case: dict[str, Any]) -> list[list[bytes]]:
    """Return the chunks of each connection of a case."""
    if "stream_b64" in case:
        data, size = base64.b64decode(case["stream_b64"]), case["chunk_size"]
        return [[data[i : i + size] for i in range(0, len(data), size)]]
    if "generate" in case:
        made = case["generate"]
        body = base64.b64decode(made["repeat_b64"])
        count = made.get("repeat_count") or made.get("repeat") or made.get("times") or made["count"]
        suffix = base64.b64decode(made.get("suffix_b64", ""))
        return [[base64.b64decode(made["prefix_b64"]), *itertools.repeat(body, count), suffix]]
    connections: list[list[bytes]] = [[]]
    for chunk in case["chunks"]:
        if chunk.get("reconnect"):
            connections.append([])
        else:
            connections[-1].append(base64.b64decode(chunk["b64"]))
    return connections
