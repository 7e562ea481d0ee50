"""This module shows that objects of a bucket become patients, once each, whatever happens to the engine meanwhile."""

import signal
import time
from pathlib import Path
from typing import Any, Final

from tests.functional.running import Running
from tests.functional.test_files import CHANNEL, count, rows
from tests.functional.test_ways_out import bucket

__all__ = ["bucket"]

HEADER: Final = "mrn,last_name,dob\n"


def read_bucket(engine: Running, base: str, options: str) -> None:
    """Have the engine's roster come from a bucket."""
    with (engine.folder / "handoff.yaml").open("a") as file:
        file.write(
            f"places:\n  partner:\n    s3: {{base: {base}, bucket: archive-of-mercy, access_key: AKIA, "
            'secret: "${env:S3_SECRET}"}\n'
        )
    engine.environment["S3_SECRET"] = "s3cret"
    listen = f"s3: {{place: partner, prefix: in/, poll: 50ms, {options}, "
    channel = CHANNEL.replace("files: {folder: inbox, ", listen).replace("settled: 100ms, poll: 50ms", "timeout: 10s")
    (engine.folder / "channels" / "roster.yaml").write_text(channel)


def keys(client: Any) -> list[str]:
    found = client.list_objects_v2(Bucket="archive-of-mercy").get("Contents", [])
    return [each["Key"] for each in found]


def test_object_is_deleted_once_its_rows_are_patients_and_never_read_again(
    tmp_path: Path, bucket: tuple[str, Any]
) -> None:
    base, client = bucket
    engine = Running(tmp_path)
    read_bucket(engine, base, "after: delete")
    text = HEADER + "".join(f"{number},Family{number},01/02/1990\n" for number in range(50))
    client.put_object(Bucket="archive-of-mercy", Key="in/day.csv", Body=text.encode())
    engine.die_at("file.committed")  # neither noted nor deleted
    assert (keys(client), count(engine)) == (["in/day.csv"], 50)
    engine.die_at("file.copied")  # noted, and not deleted
    assert keys(client) == ["in/day.csv"]
    with engine:
        client.put_object(Bucket="archive-of-mercy", Key="in/bad.csv", Body=b"")
        until = time.monotonic() + 20
        while keys(client) != ["in/failed/bad.csv"] or "processed" not in str(
            rows(engine, "SELECT state FROM message")
        ):
            assert time.monotonic() < until, engine.log.read_text()[-2000:]
            time.sleep(0.05)
        assert count(engine) == 50
        assert len({peer for (peer,) in rows(engine, "SELECT peer FROM message")}) == 50
        told = engine.log.read_text()
        assert "file=bad.csv" in told
        assert "s3cret" not in told
        engine.stop(signal.SIGKILL)  # what it still delivers is no concern of this test
