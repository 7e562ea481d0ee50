# ruff: noqa: E501 - one case of a table is one line
"""What handoff.yaml may leave open to others: the console with TLS or a reason, the sandbox and the data folder never."""

import os
from pathlib import Path

import pytest

from config import check as checking
from config.check import check
from config.serving import sandbox_accounts
from config.settings import load, read_settings
from tests.certificates import Authority
from tests.project import Project

WIDE = "lets other machines in"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def told(project: Project, text: str, *sets: str, **environment: str) -> list[str]:
    """Return what is found in settings, by severity, code, place and text."""
    project.write("handoff.yaml", text)
    _, findings = read_settings(project.folder / "handoff.yaml", sets=sets, environment=environment)
    return [f"{Path(one.path).name}:{one.line}:{one.column} {one.severity}[{one.code}] {one.text}" for one in findings]


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.0.2:0"])
def test_what_only_this_machine_reaches_needs_nothing(project: Project, endpoint: str) -> None:
    text = f"console: {{endpoint: '{endpoint}'}}\nsandbox: {{endpoint: '{endpoint}'}}\n"
    assert told(project, text) == []


@pytest.mark.parametrize("endpoint", ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080", "console.example.org:8080"])
def test_console_that_others_reach_needs_tls_or_a_reason(project: Project, endpoint: str) -> None:
    (found,) = told(project, f"console: {{endpoint: '{endpoint}'}}\n")
    assert found == f"handoff.yaml:1:21 error[E409] console.endpoint: {endpoint} {WIDE} without TLS"
    assert told(project, f"console: {{endpoint: '{endpoint}', unprotected: a proxy on this host ends TLS}}\n") == []


@pytest.mark.parametrize(("name", "word"), [("HANDOFF_CONSOLE", "console"), ("HANDOFF_SANDBOX", "sandbox")])
def test_variable_that_opens_a_port_to_others_is_found(project: Project, name: str, word: str) -> None:
    (found,) = told(project, "{}", **{name: "0.0.0.0:38087"})
    assert found.startswith(f"{name}:1:1 error[E409] {word}.endpoint: 0.0.0.0:38087 {WIDE}"), found


def test_sandbox_is_for_this_machine_alone(project: Project) -> None:
    (found,) = told(project, "sandbox: {endpoint: '0.0.0.0:8090'}\n")
    assert found.startswith(f"handoff.yaml:1:21 error[E409] sandbox.endpoint: 0.0.0.0:8090 {WIDE} and is for practice")
    assert told(project, "sandbox: {endpoint: '0.0.0.0:8090', enabled: false}\n") == []


def test_certificate_of_the_console_is_tried(project: Project) -> None:
    authority = Authority(project.folder)
    ours, other = authority.issue("console"), authority.issue("other")
    written = "console: {{endpoint: '0.0.0.0:8080', tls: {{certificate: {}, key: {}}}}}\n"
    assert told(project, written.format("console.pem", ours.key)) == []
    (found,) = told(project, written.format("none.pem", ours.key))
    assert found.startswith("handoff.yaml:1:37 error[E408] console.tls")
    assert "none.pem" in found
    (found,) = told(project, written.format("console.pem", other.key))
    assert "cannot be used together" in found


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("data: channels/var", "data"),
        ("data: channels", "data"),
        ("data: link/var", "data"),
        ("channels: .", ""),  # where the data folder is unless somebody says otherwise
        ("store: sqlite:///channels/handoff.db", "store"),
        ("patients: 'sqlite:///{}/channels/p.db'", "patients"),
    ],
)
def test_what_scripts_must_not_read_is_not_in_their_folder(project: Project, text: str, key: str) -> None:
    (project.folder / "link").symlink_to("channels")
    (found,) = told(project, text.replace("{}", str(project.folder)))
    assert found.endswith(f"error[E409] {key or 'data'} lies in the folder of channels, which their scripts may read")


@pytest.mark.parametrize(
    "text", ["data: .", "store: postgresql://h@db/channels", "channels: .\ndata: ../elsewhere", "data: channels2"]
)
def test_data_beside_or_above_the_channels_is_no_mistake(project: Project, text: str) -> None:
    assert told(project, text) == []


def test_sandbox_that_is_not_started_is_said_of_who_sends_there(project: Project) -> None:
    text = (
        "gateways:\n  practice: {base: '${sandbox}', account: a, token: '${env:T}', from: '+12055550100'}\n"
        "servers:\n  ehr: {base: '${sandbox}/fhir'}\n  other: {base: 'http://127.0.0.1:8090/fhir'}\n"
    )
    assert told(project, text, T="t") == []
    gateway, server = told(project, text, T="t", HANDOFF_SANDBOX="off")
    assert gateway.startswith(
        "handoff.yaml:2:20 warning[E301] gateways.practice.base is the sandbox, which the engine "
    )
    assert server.startswith("handoff.yaml:4:15 warning[E301] servers.ehr.base is the sandbox")
    assert len(told(project, f"sandbox: {{enabled: false}}\n{text}", T="t")) == 2


def test_sandbox_knows_the_accounts_that_send_to_it(project: Project) -> None:
    text = (
        "gateways:\n  ours: {base: '${sandbox}', account: AC1, token: '${env:PATH}', from: '+12055550100'}\n"
        "  other: {base: 'https://api.twilio.com', account: AC2, token: '${env:PATH}', from: '+12055550100'}\n"
        "  nexmo: {kind: vonage-sms, account: AC3, secret: '${env:PATH}', from: '+12055550100'}\n"
    )
    project.write("handoff.yaml", text)
    settings = load(project.folder / "handoff.yaml")
    assert sandbox_accounts(settings.sandbox, settings.gateways) == {"AC1": os.environ["PATH"]}


@pytest.mark.parametrize("missing", ["", "without Landlock in the kernel, scripts of channels can read"])
def test_machine_that_cannot_confine_scripts_is_told_of(
    project: Project, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(checking, "what_is_missing", lambda: missing)
    found = check(load(project.folder / "handoff.yaml", environment={})).findings
    assert [(one.code, one.severity, one.text) for one in found] == ([("E601", "warning", missing)] if missing else [])
