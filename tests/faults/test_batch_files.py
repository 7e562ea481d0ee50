"""The engine dies right after a batch file got its name, and no message is in two files."""

import re
import signal
from pathlib import Path

from tests.functional.running import Running

BATCH = """\
  registry:
    files: {folder: out, batch: {most: 3, wait: 500ms}}
"""


def message(engine: Running, number: int) -> str:
    """Write a registration of another patient, and return its path."""
    sample = (engine.folder / "channels" / "messages" / "adt_a04.hl7").read_bytes()
    file = engine.folder / f"{number}.hl7"
    found = re.search(rb"\rPID\|[^|]*\|[^|]*\|([0-9]+)", sample)
    assert found is not None
    file.write_bytes(sample.replace(b"MERCY0000104", b"BATCH%d" % number).replace(found[1], b"7000%d" % number))
    return str(file)


def test_no_message_is_in_two_batch_files(tmp_path: Path) -> None:
    engine = Running(tmp_path)
    (tmp_path / "out").mkdir()
    channel = tmp_path / "channels" / "mercy-adt.yaml"
    channel.write_text(channel.read_text().rstrip() + "\n" + BATCH)
    engine.environment["HANDOFF_CRASH"] = "batch.renamed"
    engine.start()
    assert engine.process is not None
    engine.run("send", *(message(engine, number) for number in range(3)))
    engine.process.wait(30)
    assert engine.stop() == -signal.SIGKILL
    written = list((tmp_path / "out").glob("*.hl7"))
    assert len(written) == 1
    del engine.environment["HANDOFF_CRASH"]
    with engine:
        done = engine.run("send", *(message(engine, number) for number in range(3, 5)))
        assert done.returncode == 0, done.stderr
        for number in range(5):
            deliveries = engine.settled(f"BATCH{number}")["deliveries"]
            (registry,) = [each for each in deliveries if each["destination"] == "registry"]
            assert registry["state"] == "delivered"
            assert len(registry["attempts"]) == (2 if number < 3 else 1)
    text = b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*.hl7"))
    assert [text.count(b"|BATCH%d|" % number) for number in range(5)] == [1] * 5
