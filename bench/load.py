"""This module loads an MLLP listener: N connections that each send a message, wait for its AA, and send the next.

The workload is ADT^A08 of 12 segments and about 1.4 kB, 5,000 patients in turn, each message with its own control id.
"""

import argparse
import asyncio
import json
import ssl
import time
from array import array
from typing import Any, Final

import uvloop

START: Final = b"\x0b"
END: Final = b"\x1c\r"
PATIENTS: Final = 5000
_FAMILIES: Final = ("Okafor", "Lindqvist", "Marchetti", "Novak", "Sato", "Dubois", "Keller", "Rossi", "Huber", "Lopez")
_GIVEN: Final = ("Ada", "Bruno", "Chidi", "Dana", "Emeka", "Freja", "Goran", "Hana", "Iris", "Jonas")


def templates() -> list[tuple[bytes, bytes, bytes]]:
    """Return 20 messages, each in three parts: before MSH-10, up to PID-3.1, and the rest."""
    return [_template(number) for number in range(20)]


def _template(i: int) -> tuple[bytes, bytes, bytes]:
    family, given, hour = _FAMILIES[i % 10], _GIVEN[i * 7 % 10], 10 + i % 10
    birth, sex = f"19{50 + i}0{1 + i % 9}1{i % 10}", "FM"[i % 2]
    before = f"MSH|^~\\&|ADTAPP|GENHOSP|HANDOFF|PRM|20261120{hour}3045||ADT^A08^ADT_A01|"
    middle = f"|P|2.5|||||USA|UNICODE UTF-8\rEVN|A08|20261120{hour}3045||01|OPER{i:02d}^Operator^Olga\rPID|1||"
    street = f"{i + 1} Harbor Street^^Springfield^IL^6270{i % 10}^USA"
    after = "\r".join(
        (
            f"^^^GENHOSP^MR~19{i:02d}123456^^^SSA^SS||{family}^{given}^M^^Dr.||{birth}|{sex}||2106-3^White^HL70005|"
            f"{street}^H||217-555{i:04d}^PRN^PH~217-556{i:04d}^PRN^CP|217-557{i:04d}|en^English^ISO639|"
            f"M^Married^HL70002|CAT|ACC{700000 + i}^^^GENHOSP^AN|123-45-{6000 + i}|||||Springfield|||USA",
            f"PD1|||GENHOSP CLINIC^^{1000 + i}|{2000 + i}^Primary^Paula^^^Dr.",
            f"NK1|1|{family}^Partner^P|SPO^Spouse^HL70063|{street}|217-558{i:04d}|||20200101",
            f"NK1|2|{family}^Child^K|CHD^Child^HL70063|{street}|217-559{i:04d}|||20210101",
            f"PV1|1|I|W{i % 9}^R{100 + i}^B{i % 4}^GENHOSP^^N^H1||||{3000 + i}^Attending^Alois^^^Prof.^Dr.|"
            f"{4000 + i}^Referrer^Rita^^^Dr.|{5000 + i}^Consult^Carl^^^Dr.|MED|||1|1||A0|{3000 + i}^Attending^Alois|IN|"
            f"V{900000 + i}^^^GENHOSP^VN|||||||||||||||||||GENHOSP||A|||20261120{hour}0000",
            "PV2|||R07.9^Chest pain, unspecified^I10C||||||20261125||||||||||||N||||||N",
            "AL1|1|DA^Drug allergy^HL70127|70618^Penicillin^RXNORM|SV^Severe^HL70128|Anaphylaxis|20100101",
            "AL1|2|FA^Food allergy^HL70127|91935009^Peanut^SCT|MO^Moderate^HL70128|Urticaria|20120101",
            f"DG1|1||R07.9^Chest pain, unspecified^I10C||20261120{hour}3000|A|||||||||1|{3000 + i}^Attending^Alois",
            f"IN1|1|PLAN001^Prairie Health^L|10830{i:02d}|Prairie Health|1 Plaza^^Springfield^IL^62701^USA||"
            f"217-55{500000 + i}|GRP{i:03d}||||20200101||||{family}^{given}|SEL^Self^HL70063|{birth}\r",
        )
    )
    return START + before.encode(), middle.encode(), after.encode() + END


class _Load:
    def __init__(self, seconds: float, count: int, warmup: float) -> None:
        now = time.perf_counter()
        self.templates = templates()
        self.run = b"B%x-" % (time.time_ns() & 0xFFFFFFFFFF)
        self.measured_from = now + warmup
        self.until = self.measured_from + seconds
        self.count = count
        self.sent = self.acknowledged = self.errors = 0
        self.latencies = array("d")
        self.last = now


class _Sender(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._rest = b""
        self._wanted = b""
        self._sent_at = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._send()

    def _send(self) -> None:
        load, now = self._load, time.perf_counter()
        if (load.count and load.sent >= load.count) or (not load.count and now >= load.until):
            self._transport.close()
            return
        number = load.sent
        load.sent += 1
        before, middle, after = load.templates[number % 20]
        control_id = b"%s%d" % (load.run, number)
        self._wanted = b"MSA|AA|" + control_id
        self._sent_at = now
        self._transport.write(b"".join((before, control_id, middle, b"P%06d" % (number % PATIENTS), after)))

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if END not in self._rest:
            return
        load, now = self._load, time.perf_counter()
        if self._wanted in self._rest:
            load.acknowledged += 1
            load.last = now
            if now >= load.measured_from:
                load.latencies.append(now - self._sent_at)
        else:
            load.errors += 1
        self._rest = b""
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _run(args: argparse.Namespace) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    load = _Load(args.seconds, args.count, args.warmup)
    began, cpu = time.perf_counter(), time.process_time()
    host, _, port = args.to.rpartition(":")
    tls = ssl.create_default_context(cafile=args.ca) if args.ca else None
    senders = [
        (await loop.create_connection(lambda: _Sender(load), host, int(port), ssl=tls))[1]
        for _ in range(args.connections)
    ]
    await asyncio.gather(*(sender.done for sender in senders))
    latencies = sorted(load.latencies)
    seconds = load.last - max(began, load.measured_from if args.warmup else began)

    def at(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))] * 1000, 3)

    return {
        "connections": args.connections,
        "acknowledged": load.acknowledged,
        "errors": load.errors,
        "seconds": round(seconds, 3),
        "per_second": round(len(latencies) / seconds, 1),
        "acknowledgment_ms": {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)},
        "generator_cpu_seconds": round(time.process_time() - cpu, 2),
        "began": time.time() - (time.perf_counter() - began),
    }


def main() -> None:
    """Load and print what came of it as one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("to", help="host:port")
    parser.add_argument("--connections", "-c", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--warmup", type=float, default=0)
    parser.add_argument("--ca", help="file of who vouches for the listener: speak TLS")
    print(json.dumps(uvloop.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
