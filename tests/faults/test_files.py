"""The engine dies at every place of a file's journey, in a folder and on a server, and each row is there once."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Need
from tests.functional.running import Running
from tests.functional.test_files import CHANNEL, rows
from tests.sshd import Sshd

MANY: Final = 5_300  # more than after which it is noted how far a file was read
POINTS: Final = ("file.claimed", "file.fetched", "file.noted", "file.committed", "file.moved")

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def sshd(need: Need) -> Iterator[Sshd]:
    server = Sshd(need("sshd"))
    server.start()
    yield server
    server.remove()


def on_server(folder: Path, server: Sshd) -> Path:
    """Have the channel read a folder of a server instead; return that folder."""
    (folder / "key").write_text(server.key.export_private_key().decode())
    (folder / "key").chmod(0o600)
    known = " ".join(server.host_key.export_public_key().decode().split()[:2])
    with (folder / "handoff.yaml").open("a") as file:
        file.write(
            f"\nplaces:\n  partner:\n    sftp: {{host: 127.0.0.1, port: {server.port}, user: {server.user}, "
            f"private_key: '${{file:{folder}/key}}', host_key: {known}}}\n"
        )
    inbox = server.folder / "files" / folder.name
    inbox.mkdir()
    inbox.chmod(0o777)
    channel = folder / "channels" / "roster.yaml"
    channel.write_text(channel.read_text().replace("files: {folder: inbox", f"sftp: {{place: partner, folder: {inbox}"))
    return inbox


@pytest.mark.parametrize("kind", ["folder", "server"])
def test_every_row_is_there_once_when_the_engine_dies_at_any_place(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    engine = Running(tmp_path)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (tmp_path / "channels" / "roster.yaml").write_text(CHANNEL)
    if kind == "server":
        inbox = on_server(tmp_path, request.getfixturevalue("sshd"))
    (inbox / "x.part").write_text("mrn,last_name,dob\n" + "".join(f"{n},F{n},01/02/1990\n" for n in range(MANY)))
    (inbox / "x.part").chmod(0o666)
    (inbox / "x.part").rename(inbox / "big.csv")
    for point in POINTS:
        engine.environment["HANDOFF_CRASH"] = point
        engine.spawn()
        assert engine.process is not None
        code = engine.process.wait(30)
        assert code == -signal.SIGKILL, f"{point} was not reached:\n{engine.log.read_text()[-2000:]}"
    del engine.environment["HANDOFF_CRASH"]
    with engine:
        assert (inbox / "done" / "big.csv").exists()
        time.sleep(0.5)  # two looks: nothing is read again
        ((count, places),) = rows(
            engine, "SELECT count(*), count(DISTINCT peer) FROM message WHERE peer LIKE 'big.csv%'"
        )
        assert (count, places) == (MANY, MANY)
        assert "file_read" not in engine.log.read_text()
        engine.stop(signal.SIGKILL)  # what it still delivers is no concern of this test
