"""This module measures how fast the patient store applies events, and prints that as JSON.

``python bench/prm_apply.py [--url postgresql://…] [--batch 256] [--moving] [--profile]``: 5,000 patients are made, then
update after update repeats what is known of them (``--moving``: each with a newer time, as a live feed has them).
"""

import argparse
import cProfile
import gc
import itertools
import json
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.canonical.model import (
    Address,
    Encounter,
    Event,
    Identifier,
    Location,
    Name,
    Patient,
    Practitioner,
    Source,
    Telecom,
)
from broker.delivery import Delivered, Delivery
from broker.ids import Ids
from broker.sql import Connection, connect
from dispatch.patients.apply import Batch
from dispatch.patients.known import Known
from dispatch.patients.migrate import migrate
from dispatch.patients.said import frame


def event(number: int, kind: str, second: int) -> Event:
    """Return an event as the canonical step makes it of an ADT^A08 of 1.4 kB."""
    mrn = Identifier(value=f"P{number:06}", system="GENHOSP", type="MR")
    account = Identifier(value=f"ACC{700000 + number}", system="GENHOSP", type="AN")
    return Event(
        kind=kind,
        source=Source(application="ADTAPP", facility="GENHOSP", control_id=f"R{number}-{second}"),
        occurred_at=f"2026-11-20T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}",
        patient=Patient(
            mrn=mrn,
            identifiers=(mrn, Identifier(value=f"19{number % 20:02}123456", system="SSA", type="SS"), account),
            names=(Name(family="Okafor", given=("Anna", "M"), prefix="Dr.", use="official"),),
            family="Okafor",
            given="Anna",
            birth_date="1962-09-10",
            sex="female",
            telecom=(
                Telecom(value=f"089-{5550000 + number}", use="home"),
                Telecom(value=f"0171-{4440000 + number}", use="mobile"),
                Telecom(value=f"089-{6660000 + number}", use="work"),
            ),
            mobile=f"+49171{4440000 + number}",
            addresses=(Address(lines=(f"Hauptstrasse {number}",), city="Musterstadt", postal_code="80331"),),
            language="de",
            marital_status="M",
            account=account,
        ),
        encounter=Encounter(
            identifier=Identifier(value=f"V{900000 + number % 20}", system="GENHOSP", type="VN"),
            status="in-progress",
            patient_class="I",
            location=Location(facility="GENHOSP", point_of_care="W3", room="R101", bed="B2", building="H1"),
            attending=Practitioner(identifier=Identifier(value="3000"), family="Arzt", given="Alois"),
            referring=Practitioner(identifier=Identifier(value="4000"), family="Referrer", given="Rita"),
            service="MED",
            admitted_at="2026-11-20T10:00:00",
        ),
    )


def request(told: Event) -> bytes:
    """Return the request for an event, as the renderer makes it."""
    return frame(told)


def feed(patients: int, kind: str, seconds: Iterator[int], ids: Ids) -> Iterator[Delivery]:
    """Yield deliveries for one patient after the other, without end."""
    for count, second in enumerate(seconds):
        yield Delivery(id=ids.next() + 1, route=1, key="", request=request(event(count % patients, kind, second)))


def run(connection: Connection, deliveries: list[Delivery], batch: int) -> dict[str, float]:
    """Apply all; return how fast that was."""
    known = Known(connection)
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, len(deliveries), batch):
        outcomes = Batch(connection, "bench", time.time(), known).apply(deliveries[start : start + batch])
        assert all(isinstance(outcome, Delivered) for outcome in outcomes)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"events_per_s": round(len(deliveries) / wall), "cpu_us_per_event": round(cpu / len(deliveries) * 1e6, 1)}


def size(connection: Connection) -> int:
    """Return how many bytes the database takes, indexes included."""
    if connection.dialect == "sqlite":
        connection.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        pages, free = (connection.rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count"))
        return int(pages - free) * int(connection.rows("PRAGMA page_size")[0][0])
    connection.run("CHECKPOINT")
    return int(connection.rows("SELECT pg_database_size(current_database())")[0][0])


def measure(url: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Make the patients, repeat updates, and return the figures."""
    migrate(url)
    connection = connect(url)
    seconds = itertools.count() if arguments.moving else itertools.repeat(0)
    ids = Ids()
    fresh = list(
        itertools.islice(feed(arguments.patients, "patient.registered", itertools.repeat(0), ids), arguments.patients)
    )
    repeat = feed(arguments.patients, "patient.updated", seconds, ids)
    first = run(connection, fresh, arguments.batch)
    run(connection, list(itertools.islice(repeat, arguments.patients)), arguments.batch)
    told = event(1, "patient.updated", 1)
    began = time.process_time()
    for _ in range(2000):
        request(told)
    rendering = (time.process_time() - began) / 2000
    before, updates = size(connection), list(itertools.islice(repeat, arguments.events))
    gc.freeze()  # as the engine does once it has started
    profile = cProfile.Profile()
    if arguments.profile:
        profile.enable()
    again = run(connection, updates, arguments.batch)
    profile.disable()
    grown = size(connection) - before
    if arguments.profile:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    connection.close()
    return {
        "database": connection.dialect,
        "batch": arguments.batch,
        "times_move": arguments.moving,
        "request_bytes": len(updates[0].request),
        "render_us_per_event": round(rendering * 1e6, 1),
        "first_time": first,
        "repeat": again | {"bytes_per_event": round(grown / arguments.events, 1)},
    }


def main() -> None:
    """Read the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--url", default="", help="an empty PostgreSQL database; default: SQLite in a folder of its own"
    )
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--patients", type=int, default=5_000)
    parser.add_argument("--moving", action="store_true", help="each event is newer than the one before")
    parser.add_argument("--profile", action="store_true", help="where the time goes, on standard error")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(arguments.url or f"sqlite:///{folder}/patients.db", arguments), indent=2))


if __name__ == "__main__":
    main()
