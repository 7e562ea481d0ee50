"""The commands that ask a running engine print what it answers, and end with the promised exit codes."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker import ids
from broker.delivery import Via
from broker.engine import DestinationStatus
from broker.notices import ConfigurationRefused
from config.serving import ConsoleTls
from console.cli import main
from tests.certificates import Authority
from tests.console_engine import Aside, serving_aside


@dataclass
class Command:
    """Runs `handoff` in this process, against a console in another thread."""

    aside: Aside
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return exit code, stdout and stderr."""
        self.capture.readouterr()
        code = main.invoke(list(arguments))
        told = self.capture.readouterr()
        return code, told.out, told.err

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Return the one JSON document that stdout must be."""
        found, out, err = self(*arguments, "--json")
        assert found == code, err
        return json.loads(out)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Settings with a data folder of the test's own."""
    settings = SimpleNamespace(
        data=tmp_path,
        root=tmp_path,
        console=SimpleNamespace(endpoint="127.0.0.1:0", tls=None),
        sandbox=SimpleNamespace(endpoint="127.0.0.1:1"),
    )
    monkeypatch.setattr(main.Options, "settings", lambda _options: settings)
    return settings


@pytest.fixture
def handoff(settings: Any, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command, and a console with one message that is half delivered and one that is dead."""
    with serving_aside(settings.data) as aside:
        yield Command(aside, capsys)


@pytest.fixture
def dead(handoff: Command) -> tuple[int, int]:
    """Two messages whose first delivery is dead."""
    filling = handoff.aside.practice.filling

    async def fill() -> tuple[int, int]:
        found = []
        for name in ("C1", "C2"):
            found.append(await filling.receive(name, f"MRN-{name}"))
            await filling.finish(found[-1])
            await filling.end(found[-1], "dead", "rejected", "422 unprocessable")
        return found[0], found[1]

    first, second = handoff.aside.do(fill())
    return first, second


def test_messages_are_listed_for_people_and_programs(handoff: Command, dead: tuple[int, int]) -> None:
    """The same rows in both forms."""
    rows = handoff.json("messages")["messages"]
    assert [row["control_id"] for row in rows] == ["C2", "C1"]
    assert handoff.json("messages", "--mrn", "MRN-C1")["messages"] == rows[1:]
    assert handoff.json("messages", "--control-id", "C2", "--state", "dead", "--since", "1h")["messages"] == rows[:1]
    assert handoff.json("messages", "--index", "mrn=MRN-C1", "--channel", "adt")["messages"] == rows[1:]
    code, out, err = handoff("messages", "--limit", "1")
    head, line = out.splitlines()
    assert (code, err) == (0, "")
    assert head.split()[:3] == ["ID", "RECEIVED", "CHANNEL"]
    assert ids.show(dead[1]) in line
    assert "prm dead, ehr waiting" in line


def test_trace_shows_the_journey(handoff: Command, dead: tuple[int, int]) -> None:
    """Steps, deliveries, attempts; by id and by control id."""
    found = handoff.json("trace", ids.show(dead[0]))
    assert found == handoff.json("trace", "C1")
    assert found["deliveries"][0]["attempts"][0]["reason"] == "422 unprocessable"
    code, out, _ = handoff("trace", "C1")
    assert code == 0
    for part in ("● received from 127.0.0.1:1", "● filter", "▲ prm: dead", "attempt 1 at", "rejected in 250 ms: 422"):
        assert part in out
    assert "○ ehr: waiting, after prm" in out
    code, out, err = handoff("trace", "nobody")
    assert (code, out) == (1, "")
    assert "no message has" in err


def test_disclosures_are_listed_and_the_trace_says_whom_an_attempt_reached(handoff: Command) -> None:
    """When, for whom, what; the fingerprint of the certificate is short for people and whole for programs."""
    filling = handoff.aside.practice.filling
    via = Via("192.0.2.7:443", "TLSv1.3", "CN=ehr.example", "0123456789abcdef" * 4)

    async def fill() -> None:
        message = await filling.receive("C7", "MRN-7")
        await filling.finish(message)
        await filling.end(message, "delivered", "delivered", via=via)

    handoff.aside.do(fill())
    assert "reached 192.0.2.7:443 (TLSv1.3, CN=ehr.example, SHA-256 0123456789abcdef…)" in handoff("trace", "C7")[1]
    assert handoff.json("trace", "C7")["deliveries"][0]["attempts"][0]["via"] == via._asdict()
    (entry,) = handoff.json("disclosures", "--mrn", "MRN-7")["disclosures"]
    assert (entry["recipient"], entry["address"], entry["outcome"]) == ("prm", "192.0.2.7:443", "delivered")
    assert handoff.json("disclosures", "--index", "mrn=MRN-7", "--since", "1h")["disclosures"] == [entry]
    assert handoff.json("disclosures", "--mrn", "nobody")["disclosures"] == []
    assert "192.0.2.7:443  ADT^A04" in handoff("disclosures", "--mrn", "MRN-7")[1]
    assert handoff("disclosures")[0] == handoff("disclosures", "--index", "mrn")[0] == main.USAGE


def test_dead_letters_are_listed_and_acted_on(handoff: Command, dead: tuple[int, int]) -> None:
    """Listing shows class, reason and place; acting tells how many."""
    letters = handoff.json("dead", "list")["dead"]
    assert [(each["class"], each["location"]) for each in letters] == [("rejected", "PID-3")] * 2
    assert "422 unprocessable" in handoff("dead", "list")[1]
    assert handoff.json("dead", "replay", letters[0]["id"], "--yes") == {"asked": 1, "count": 1}
    code, out, _ = handoff("dead", "discard", "--all", "--yes", "--reason", "test data")
    assert (code, out) == (0, "1 of 1 discarded\n")
    act = handoff.aside.practice.engine.acts[-1]
    assert (act.reason, act.actor.endswith("(command line)")) == ("test data", True)
    assert handoff("dead", "replay", letters[1]["id"], "--yes")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay"], "say which"),
        (["replay", "0010000000001", "--all"], "say which"),
        (["discard", "--all", "--yes"], "--reason"),
        (["replay", "--all"], "--yes"),
        (["replay", "nonsense", "--yes"], "not an id"),
    ],
)
def test_dead_refuses_what_is_not_clear(handoff: Command, arguments: list[str], told: str) -> None:
    """Usage errors end with 2 and change nothing."""
    code, _, err = handoff("dead", *arguments)
    assert code == 2
    assert told in err
    assert handoff.aside.practice.engine.acts == []


def test_pause_and_resume_say_what_changed(handoff: Command) -> None:
    """Status tells who paused what; a second time changes nothing; a reason is needed to pause."""
    assert handoff("pause", "adt/ehr", "--reason", "maintenance") == (0, "adt/ehr paused\n", "")
    assert handoff("pause", "adt/ehr", "--reason", "again")[1] == "adt/ehr was paused already\n"
    assert handoff.json("pause", "adt", "--reason", "move") == {"changed": True}
    told = handoff("status")[1]
    assert re.search(r"^adt/ehr: paused since 20.* by .* \(command line\): maintenance$", told, re.MULTILINE)
    assert re.search(r"^adt: paused since .*: move$", told, re.MULTILINE)
    assert [each["destination"] for each in handoff.json("status")["pauses"]] == ["ehr", None]
    assert handoff("resume", "adt/ehr")[1] == "adt/ehr resumed\n"
    assert handoff("resume", "adt/ehr")[1] == "adt/ehr was not paused\n"
    assert handoff("pause", "adt/ehr")[0] == main.USAGE
    assert handoff("pause", "adt/ehr", "--reason", " ")[0] == main.USAGE


def test_status_says_how_destinations_are_that_nothing_is_sent_to(handoff: Command) -> None:
    """In an analyst's words; a channel that is paused is no failure."""
    state = handoff.aside.practice.engine.state
    handoff.aside.do(handoff.aside.practice.filling.receive("C1"))
    states = ("held", "open")
    state.destinations = [DestinationStatus(name, how) for name, how in zip(("prm", "ehr"), states, strict=True)]
    state.state = "paused"
    code, out, _ = handoff("status")
    assert code == 0
    assert "adt/prm: held by its channel file" in out
    assert "adt/ehr: fails; left alone for a while" in out


def test_deliveries_that_wait_are_listed_and_cancelled(handoff: Command, dead: tuple[int, int]) -> None:
    """For good, with a reason; what does not wait is left alone."""
    waiting = [each for each in handoff.json("deliveries", "list")["deliveries"] if each["state"] == "waiting"]
    assert [(each["destination"], each["id"]) for each in waiting] == [
        ("ehr", ids.show(message + 2)) for message in reversed(dead)
    ]
    assert handoff.json("deliveries", "list", "--channel", "adt", "--destination", "prm")["deliveries"] == []
    assert waiting[0]["id"] in handoff("deliveries", "list", "--limit", "1")[1]
    assert handoff("deliveries", "cancel", waiting[0]["id"])[0] == main.USAGE
    reason = ("--reason", "sent by hand", "--yes")
    assert handoff.json("deliveries", "cancel", waiting[0]["id"], *reason) == {"asked": 1, "count": 1}
    assert handoff("deliveries", "cancel", waiting[0]["id"], *reason)[0] == main.FINDINGS
    assert handoff("deliveries", "cancel", "--all", "--destination", "ehr", *reason)[1] == "1 of 1 cancelled\n"
    assert handoff("deliveries", "cancel", *reason)[0] == main.USAGE
    assert handoff("deliveries", "cancel", "--all", "--destination", "ehr", *reason)[1] == "0 of 0 cancelled\n"


def test_status_quarantine_and_reload(handoff: Command) -> None:
    """The operator's round."""
    assert handoff.json("status")["channels"][0]["endpoints"] == ["127.0.0.1:2575"]
    assert handoff("status")[1].splitlines()[1].split()[:3] == ["adt", "running", "127.0.0.1:2575"]
    assert handoff.json("quarantine") == {"quarantine": []}
    assert handoff("reload")[:2] == (0, "channels running: 1\n")
    engine = handoff.aside.practice.engine
    engine.reloaded = ConfigurationRefused(findings=1, report="adt.yaml:3:1: error")
    assert handoff("reload")[:2] == (1, "adt.yaml:3:1: error\n")
    engine.state.state = "failed"
    assert handoff("status")[0] == 3


def test_wrong_token_ends_with_5(handoff: Command, settings: Any) -> None:
    """Not allowed is not the same as not there."""
    (settings.data / "console.token").write_text("another\n")
    code, out, err = handoff("messages")
    assert (code, out) == (5, "")
    assert "console.token" in err


def test_token_that_others_can_read_is_not_used(handoff: Command, settings: Any) -> None:
    """As the engine refuses it."""
    (settings.data / "console.token").chmod(0o644)
    code, out, err = handoff("messages")
    assert (code, out) == (5, "")
    assert f"run: chmod 600 {settings.data}/console.token" in err


def test_console_over_tls_is_known_by_its_certificate(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever name is in it: no authority of ours need vouch for it, and another certificate is not taken."""
    authority = Authority(settings.data)
    ours, other = authority.issue("console.example"), authority.issue("another.example")
    tls = settings.console.tls = ConsoleTls(certificate=ours.certificate.name, key=ours.key.name)
    with serving_aside(settings.data, tls) as aside:
        assert aside.practice.console.address.startswith("https://127.0.0.1:")
        handoff = Command(aside, capsys)
        assert handoff("status")[0] == 0
        settings.console.tls = ConsoleTls(certificate=other.certificate.name, key=other.key.name)
        code, _, err = handoff("status")
        assert (code, "SSLCertVerificationError" in err) == (4, True)
        settings.console.tls = ConsoleTls(certificate="none.pem", key="none.key")
        code, _, err = handoff("status")
        assert (code, "console.tls" in err) == (4, True)
        settings.console.tls = None
        assert handoff("status")[0] == 4


def test_engine_that_does_not_run_ends_with_4(settings: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence says how to start it."""
    assert main.invoke(["messages"]) == 4
    assert "handoff run" in capsys.readouterr().err
    settings.console.endpoint = "127.0.0.1:1"
    assert main.invoke(["status"]) == 4
    assert "handoff run" in capsys.readouterr().err
    assert main.invoke(["sandbox", "log"]) == 4


@pytest.mark.parametrize("since", ["yesterday", "2w", "-1h"])
def test_senseless_times_are_usage_errors(settings: Any, capsys: pytest.CaptureFixture[str], since: str) -> None:
    """The sentence shows the form."""
    assert main.invoke(["messages", f"--since={since}"]) == 2
    assert "2h" in capsys.readouterr().err
