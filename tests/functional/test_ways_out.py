"""This module shows the shipped engine as it writes to files, to SFTP, a bucket, a database, and to another channel."""

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer

from broker.wire.er7 import Message
from tests.conftest import Need
from tests.functional.running import ROOT, Running
from tests.sshd import Sshd

NAMES: Final = ("adt_a04", "adt_a01", "adt_a08", "adt_a03")
CHANNEL: Final = """\
channel: mercy-adt
listen:
  mllp: {{endpoint: 127.0.0.1:2575}}
order: PID-3[5=MR].1
steps:
  - canonical: {{}}
deliver:
  {deliver}
"""
PATIENTS: Final = """\
channel: patient-feed
listen:
  channel: {}
index: {mrn: "PID-3[5=MR].1"}
steps:
  - canonical: {}
deliver:
  patient-store:
    prm: {}
"""


def raw(name: str) -> bytes:
    return (ROOT / "channels" / "messages" / f"{name}.hl7").read_bytes()


def control_id(name: str) -> str:
    return Message.parse(raw(name)).get("MSH-10") or ""


def engine(folder: Path, deliver: str, settings: str = "", **environment: str) -> Running:
    running = Running(folder)
    (folder / "channels" / "mercy-adt.yaml").write_text(CHANNEL.format(deliver=deliver))
    with (folder / "handoff.yaml").open("a") as file:
        file.write(settings)
    running.environment |= environment
    return running


def deliver_all(running: Running) -> None:
    running.send(*NAMES)
    for name in NAMES:
        for delivery in running.settled(control_id(name))["deliveries"]:
            assert delivery["state"] == "delivered", delivery


def test_files_are_there_once_each_whatever_happens_to_the_engine(tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = engine(
        tmp_path, 'billing:\n    files: {folder: out, name: "{{ MSH-10 }}.hl7"}\n    retry: {first: 100ms}'
    )
    with running:
        running.send(*NAMES[:2])
        # The folder is not there yet, and the engine dies with two messages waiting.
        running.stop(signal.SIGKILL)
        out.mkdir()
        running.start()
        running.send(*NAMES[2:])
        for name in NAMES:
            (delivery,) = running.settled(control_id(name))["deliveries"]
            assert delivery["state"] == "delivered", delivery
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        f"{control_id(name)}.hl7": raw(name) for name in NAMES
    }


def test_openssh_gets_batches_with_counts(tmp_path: Path, need: Need) -> None:
    server = Sshd(need("sshd"))
    server.start()
    try:
        key = " ".join(server.host_key.export_public_key().decode().split()[:2])
        settings = (
            f"places:\n  registry:\n    sftp: {{host: 127.0.0.1, port: {server.port}, user: {server.user},\n"
            f'           private_key: "${{env:REGISTRY_KEY}}", host_key: "{key}"}}\n'
        )
        batch = f"registry:\n    sftp: {{place: registry, folder: {server.folder}/files, batch: {{wait: 2s}}}}"
        private = server.key.export_private_key().decode()
        with engine(tmp_path, batch, settings, REGISTRY_KEY=private) as running:
            deliver_all(running)
            assert private.splitlines()[1] not in running.log.read_text()
        files = [path.read_bytes().split(b"\r") for path in (server.folder / "files").iterdir()]
    finally:
        server.remove()
    counted = sum(int(next(line for line in lines if line.startswith(b"BTS")).split(b"|")[1]) for lines in files)
    headers = [line.split(b"|")[9].decode() for lines in files for line in lines if line.startswith(b"MSH")]
    assert counted == len(NAMES)
    assert sorted(headers) == sorted(control_id(name) for name in NAMES)


@pytest.fixture
def bucket() -> Iterator[tuple[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    base = f"http://{host}:{port}"
    urlopen(Request(f"{base}/moto-api/reset", method="POST")).close()  # every server of a process has the same buckets
    client = boto3.client(
        "s3", endpoint_url=base, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.create_bucket(Bucket="archive-of-mercy")
    yield base, client
    client.close()
    server.stop()


def test_bucket_has_every_message_under_its_name(tmp_path: Path, bucket: tuple[str, Any]) -> None:
    base, client = bucket
    settings = (
        f"places:\n  archive:\n    s3: {{base: {base}, bucket: archive-of-mercy, access_key: AKIA, "
        'secret: "${env:S3_SECRET}"}\n'
    )
    archive = 'archive:\n    s3: {place: archive, prefix: adt/, name: "{{ MSH-10 }}.hl7"}'
    with engine(tmp_path, archive, settings, S3_SECRET="s3cret") as running:
        deliver_all(running)
    found = {
        each["Key"]: client.get_object(Bucket="archive-of-mercy", Key=each["Key"])["Body"].read()
        for each in client.list_objects_v2(Bucket="archive-of-mercy")["Contents"]
    }
    assert found == {f"adt/{control_id(name)}.hl7": raw(name) for name in NAMES}


def test_database_has_one_row_for_each_visit(tmp_path: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dwh")
        connection.execute("CREATE TABLE dwh.visit (mrn text PRIMARY KEY, family text, born date, heard integer)")
        connection.execute("CREATE TABLE dwh.message (id text UNIQUE, kind text, key text UNIQUE)")
        settings = f"databases:\n  warehouse: {{url: {postgres_url}}}\n"
        deliver = """\
visit:
    database:
      database: warehouse
      table: dwh.visit
      key: [mrn]
      values:
        mrn: "{{ patient.mrn.value }}"
        family: "{{ patient.family }}"
        born: "{{ patient.birth_date }}"
        heard: 1
  message:
    database:
      database: warehouse
      table: dwh.message
      delivery_column: key
      values: {id: "{{ MSH-10 }}", kind: "{{ event.kind }}"}
"""
        with engine(tmp_path, deliver, settings) as running:
            deliver_all(running)
        rows = connection.execute("SELECT mrn, family, born::text FROM dwh.visit").fetchall()
        told = connection.execute("SELECT id FROM dwh.message ORDER BY id").fetchall()
    assert ("70031882", "Okafor", "1962-09-10") in rows
    assert {mrn for mrn, _, _ in rows} == {Message.parse(raw(name)).get("PID-3") for name in NAMES}
    assert told == sorted((control_id(name),) for name in NAMES)


def test_other_channel_gets_each_message_once_and_both_journeys_are_told(tmp_path: Path) -> None:
    running = engine(tmp_path, "on:\n    channel: patient-feed")
    (tmp_path / "channels" / "patient-feed.yaml").write_text(PATIENTS)
    with running:
        running.send(*NAMES[:2])
        running.stop(signal.SIGKILL)
        running.start()
        running.send(*NAMES[2:])
        for name in NAMES:
            running.settled(control_id(name))
        with contextlib.closing(sqlite3.connect(tmp_path / "var" / "handoff.db", timeout=30)) as connection:
            peers = connection.execute("SELECT peer FROM message WHERE peer LIKE 'channel:%'").fetchall()
        arrived = listed(running, "patient-feed")
        whole = running.read("trace", control_id(NAMES[0]))
        (passed,) = whole["deliveries"]
        part = running.read("trace", passed["then"]["id"])
        shown = running.run("trace", control_id(NAMES[0])).stdout
    assert len(arrived) == len(peers) == len(NAMES)
    assert all(peer.startswith("channel:mercy-adt/") for (peer,) in peers)
    assert (whole["channel"], whole["came_from_id"], passed["became_id"]) == ("mercy-adt", None, part["id"])
    assert (part["channel"], part["came_from_id"]) == ("patient-feed", whole["id"])
    assert [each["destination"] for each in part["deliveries"]] == ["patient-store"]
    assert f"● passed on by channel mercy-adt, message {whole['id']}" in shown


def listed(running: Running, channel: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.read("messages", "--channel", channel)["messages"]
    return found
