"""This module measures deliveries over HTTP: three systems on loopback at a time, beside the bare client.

python -m bench.web sink PORT         answers every request with success, and does nothing else
python -m bench.web client PORT N     sends N requests with the client that the engine uses, and prints its cost
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from bench.engine import ROOT, Engine, cpu_seconds, free_port, load
from broker.sql import connect

SYSTEMS: Final = ("crm", "desk", "partner")
CONCURRENCY: Final = 32
WARM: Final = 1000
_BODY: Final = b'{"id":"001","success":true,"created":false,"errors":[]}'
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
_DELIVER: Final = "".join(
    f"  {name}:\n    http: {{system: {name}, operation: upsert_patient, concurrency: {CONCURRENCY}}}\n"
    for name in SYSTEMS
)
_NOTHING: Final = "  crm:\n    when: patient.family == 'Nobody'\n    http: {system: crm, operation: upsert_patient}\n"


class _Sink(asyncio.Protocol):
    """Answers as soon as a request is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(_ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


async def _client(port: int, count: int) -> dict[str, float]:
    """Send requests like the engine's, as many at a time, over aiohttp and nothing else."""
    import aiohttp  # noqa: PLC0415 - the sink does not need it

    url = f"http://127.0.0.1:{port}/services/data/v67.0/sobjects/Account/MRN__c/GENHOSP%7C1"
    headers = {"Authorization": "Bearer sandbox", "Content-Type": "application/json", "Accept": "application/json"}
    body = json.dumps({"LastName": "Okafor", "FirstName": "Ada", "PersonBirthdate": "1950-01-10"}).encode()
    left = iter(range(count))

    async def turn(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.patch(url, headers=headers, data=body, allow_redirects=False) as response:
                await response.read()

    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(turn(session) for _ in range(CONCURRENCY)))
        return {
            "per_second": round(count / (time.perf_counter() - began), 1),
            "cpu_us": round((time.process_time() - cpu) / count * 1e6, 1),
        }


@contextmanager
def sink() -> Iterator[int]:
    """Run the sink in a process of its own."""
    port = free_port()
    words = [sys.executable, "-m", "bench.web", "sink", str(port)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
    finally:
        process.kill()
        process.wait()


def measure(count: int = 6000) -> dict[str, Any]:
    """Measure how many deliveries each of three systems takes a second, and what one costs beyond the bare client."""
    with sink() as port:
        words = [sys.executable, "-m", "bench.web", "client", str(port), str(count)]
        bare = json.loads(subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True).stdout)
        three = _through(_DELIVER, port, count)
        none = _through(_NOTHING, port, count)
    per_delivery = (three["engine_cpu"] - none["engine_cpu"]) / (count * len(SYSTEMS)) * 1e6
    return {
        "systems": len(SYSTEMS),
        "deliveries_per_second_each": round(count / three["seconds"], 1),
        "bare_client": bare,
        "cpu_us_per_delivery": round(per_delivery, 1),
        "cpu_us_over_bare_client": round(per_delivery - bare["cpu_us"], 1),
        "rendering_cpu_us_per_delivery": round(
            (three["workers_cpu"] - none["workers_cpu"]) / (count * len(SYSTEMS)) * 1e6, 1
        ),
    }


def _through(deliver: str, port: int, count: int) -> dict[str, float]:
    """Send messages through an engine; return the seconds until all is delivered, and CPU seconds."""
    system = {"preset": "salesforce", "base": f"http://127.0.0.1:{port}/services/data/v67.0"}
    auth = {"bearer": {"token": "${env:BENCH:-sandbox}"}}
    engine = Engine(deliver, settings={"systems": {name: system | {"auth": auth} for name in SYSTEMS}})
    try:
        engine.start()
        load(engine.port, "-c", 32, "--count", WARM)
        _drained(engine)
        before = _cpu(engine)
        began = time.perf_counter()
        load(engine.port, "-c", 32, "--count", count)
        _drained(engine)
        took = time.perf_counter() - began
        after = _cpu(engine)
        return {"seconds": took, "engine_cpu": after[0] - before[0], "workers_cpu": after[1] - before[1]}
    finally:
        engine.stop()


def _cpu(engine: Engine) -> tuple[float, float]:
    """Return CPU seconds so far, of the engine itself and of all its worker processes."""
    assert engine.process is not None
    own = cpu_seconds(engine.process.pid)
    return own, engine.usage()["cpu"] - own


def _drained(engine: Engine) -> None:
    connection = connect(f"sqlite:///{engine.folder}/var/handoff.db", writer=False)
    until = time.monotonic() + 300
    try:
        while connection.rows("SELECT 1 FROM message WHERE state = 'received' LIMIT 1") or connection.rows(
            "SELECT 1 FROM delivery WHERE open LIMIT 1"
        ):
            assert time.monotonic() < until, "not drained within 300 s"
            time.sleep(0.02)
    finally:
        connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "sink":
        uvloop.run(_serve(int(sys.argv[2])))
    else:
        print(json.dumps(uvloop.run(_client(int(sys.argv[2]), int(sys.argv[3])))))
