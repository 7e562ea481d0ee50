"""This module shows that the real engine takes each mail once, as the docs declare it, also when it dies over one."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Need
from tests.dovecot import PASSWORD, Dovecot
from tests.functional.running import ROOT, Running
from tests.mails import mail

ACCOUNT: Final = "results@clinic.example.org"
YAML: Final = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAILS: Final = 4


def table(first: int) -> tuple[str, bytes]:
    rows = "".join(f"{number},M{number},K,4.1\r\n" for number in range(first, first + 3))
    return f"Okafor {first}.csv", f"id,mrn,test,value\r\n{rows}".encode()


@pytest.fixture
def server(need: Need) -> Iterator[Dovecot]:
    dovecot = Dovecot(need("dovecot"))
    try:
        dovecot.start()
        mails = [mail(table(10 * number), sender="results@lab.example.org", number=number) for number in range(MAILS)]
        dovecot.put(ACCOUNT, *mails, mail(table(90), sender="okafor@lab.example.com", number=90))
        yield dovecot
    finally:
        dovecot.remove()


def prepare(folder: Path, server: Dovecot) -> Running:
    """Return an engine with what the page on mail declares, but for where the mailbox is and how often it is read."""
    engine = Running(folder)
    engine.environment["RESULTS_PASSWORD"] = PASSWORD
    blocks = YAML.findall((ROOT / "docs/howto/receive-mail.md").read_text())
    settings, channel = (next(each for each in blocks if each.startswith(begin)) for begin in ("# handoff", "channel:"))
    here = f"127.0.0.1:{server.tls_port}\n    certificates: {{ca: {server.authority.file}}}"
    assert "imap.example.org:993" in settings
    with (folder / "handoff.yaml").open("a") as file:
        file.write(re.sub(r"imap\.example\.org:993.*", here, settings))
    (folder / "out").mkdir()
    channel = channel.replace("/srv/handoff/results", str(folder / "out")).replace("every: 1m", "every: 1s")
    (folder / "channels" / "mailed-results.yaml").write_text(channel)
    return engine


def test_each_mail_is_taken_once_when_the_engine_dies_between_commit_and_move(server: Dovecot, tmp_path: Path) -> None:
    engine = prepare(tmp_path, server)
    engine.die_at("poll.committed:2")
    assert (count(engine), len(server.flags(ACCOUNT))) == (6, MAILS)  # of five mails one was moved
    with engine:
        until = time.monotonic() + 30
        while len(list((tmp_path / "out").glob("*.txt"))) < 3 * MAILS or server.flags(ACCOUNT):
            assert time.monotonic() < until, engine.log.read_text()[-2000:]
            time.sleep(0.05)
        assert count(engine) == 3 * MAILS
        assert (tmp_path / "out" / "12.txt").read_text() == "M12 K 4.1"
        assert [len(server.flags(ACCOUNT, f"Handoff-{folder}")) for folder in ("Done", "Failed")] == [MAILS, 1]
        log = engine.log.read_text()
    assert log.count("mail_refused") == 1
    assert "mail_failed" not in log
    assert "poll_failed" not in log
    assert "okafor" not in log.lower()


def count(engine: Running) -> int:
    """Return how many messages are committed."""
    with contextlib.closing(sqlite3.connect(engine.folder / "var" / "handoff.db", timeout=30)) as store:
        return int(store.execute("SELECT count(*) FROM message").fetchone()[0])
