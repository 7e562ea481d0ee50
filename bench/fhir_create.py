"""This module measures how many FHIR Patients a second are created over REST, each answered 201 after its commit.

``python bench/fhir_create.py [--seconds 10] [--connections 32]`` runs an engine of its own. The Patients are of US
Core's size; each connection sends one, waits for its answer, and sends the next.
"""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from bench.engine import PRM, Engine
from tests.fhir_resources import resource

CHANNEL: Final = """\
channel: bench
description: The workload of the benchmarks, over FHIR
listen:
  fhir: {endpoint: 127.0.0.1:2575, path: /fhir}
format: fhir
index: {mrn: "Patient.identifier[0].value"}
steps:
  - canonical: {}
deliver:
"""
PATIENTS: Final = 5000


async def _send(port: int, number: int, until: float, latencies: list[float]) -> int:
    """Create Patients until the time is up; return how many were not answered 201."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    patient, wrong = resource("Patient"), 0
    while time.perf_counter() < until:
        number += 1
        patient["identifier"][2]["value"] = f"MR-{number % PATIENTS}"
        body = json.dumps(patient).encode()
        head = b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: "
        began = time.perf_counter()
        writer.write(head + str(len(body)).encode() + b"\r\nPrefer: return=minimal\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        latencies.append(time.perf_counter() - began)
        wrong += not answer.startswith(b"HTTP/1.1 201")
    writer.close()
    return wrong


async def _load(port: int, connections: int, seconds: float) -> dict[str, Any]:
    latencies: list[float] = []
    began = time.perf_counter()
    wrong = await asyncio.gather(
        *(_send(port, number * 1_000_003, began + seconds, latencies) for number in range(connections))
    )
    spent = time.perf_counter() - began
    latencies.sort()
    return {
        "connections": connections,
        "created": len(latencies) - sum(wrong),
        "errors": sum(wrong),
        "created_per_second": round((len(latencies) - sum(wrong)) / spent, 1),
        "answer_ms": {
            "p50": round(latencies[len(latencies) // 2] * 1000, 3),
            "p99": round(latencies[int(len(latencies) * 0.99)] * 1000, 3),
        },
    }


def measure(seconds: float = 10, connections: int = 32) -> dict[str, Any]:
    """Run an engine, create Patients, and return how fast that was; they are mapped and applied meanwhile."""
    engine = Engine(PRM, channel=CHANNEL)
    try:
        engine.start()
        uvloop.run(_load(engine.port, connections, 1))
        before = engine.usage()
        found = uvloop.run(_load(engine.port, connections, seconds))
        found["cpu_ms_per_patient"] = round((engine.usage()["cpu"] - before["cpu"]) / found["created"] * 1000, 3)
        return found
    finally:
        engine.stop()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()
    print(json.dumps(measure(args.seconds, args.connections), indent=2))


if __name__ == "__main__":
    main()
