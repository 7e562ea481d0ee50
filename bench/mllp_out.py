"""This module measures what sending to an MLLP partner costs: the destination alone, and a whole engine in front."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import uvloop

from bench.engine import ROOT, Engine, free_port, load
from bench.load import templates
from broker.delivery import Delivered, Delivery
from broker.parts import Tools
from dispatch.mllp import MllpOutSpec

CONNECTIONS: Final = 8
COUNT: Final = 20_000
DELIVER: Final = "  partner:\n    mllp: {{endpoint: 127.0.0.1:{port}, connections: {connections}}}\n"


@contextmanager
def partner() -> Iterator[int]:
    """Run a partner that answers at once, in a process of its own; give its port."""
    port = free_port()
    command = [sys.executable, "-m", "bench.partner", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait()


async def _send_all(port: int) -> dict[str, float]:
    spec = MllpOutSpec.model_validate({"endpoint": f"127.0.0.1:{port}", "connections": CONNECTIONS})
    nothing = cast("Any", None)
    destination = spec.build(Tools("bench", nothing, lambda _: None, SimpleNamespace(root=None)))
    await destination.open()
    before, middle, after = templates()[0]
    numbers = iter(range(COUNT))
    took: list[float] = []

    async def send() -> None:
        for number in numbers:
            request = b"%s%d%sP%06d%s" % (before[1:], number, middle, number, after[:-2])
            began = time.perf_counter()
            (outcome,) = await destination.send([Delivery(id=number, route=1, key="k", request=request)])
            took.append(time.perf_counter() - began)
            assert isinstance(outcome, Delivered), outcome

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(send() for _ in range(CONNECTIONS)))
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    await destination.close()
    took.sort()
    return {
        "per_second": round(COUNT / seconds, 1),
        "cpu_us_per_message": round(used / COUNT * 1e6, 1),
        "answer_ms_p50": round(took[COUNT // 2] * 1000, 3),
        "answer_ms_p99": round(took[COUNT * 99 // 100] * 1000, 3),
    }


def measure(seconds: float, drained: Callable[[Engine, str], float]) -> dict[str, Any]:
    """Measure the destination alone over 8 connections, and an engine that passes on what it gets, all drained."""
    with partner() as port:
        found: dict[str, Any] = {"connections": CONNECTIONS, "alone": uvloop.run(_send_all(port))}
        engine = Engine(DELIVER.format(port=port, connections=CONNECTIONS))
        try:
            engine.start()
            load(engine.port, "-c", CONNECTIONS, "--count", 1000)
            drained(engine, "")
            before = engine.usage()
            loaded = load(engine.port, "-c", CONNECTIONS, "--seconds", seconds)
            end = drained(engine, "")
            after = engine.usage()
        finally:
            engine.stop()
    count = loaded["acknowledged"]
    found["engine"] = {
        "messages": count,
        "accepted_per_second": loaded["per_second"],
        "end_to_end_per_second": round(count / (end - loaded["began"]), 1),
        "cpu_ms_per_message": round((after["cpu"] - before["cpu"]) / count * 1000, 3),
    }
    return found
