"""This module shows what a channel may declare of a mailbox, and how a mailbox of handoff.yaml is found."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from broker import tls
from broker.errors import ConfigError
from broker.notices import CertificateTrouble, Notice
from broker.parts import Tools
from config.mailboxes import MailboxSpec
from listeners.imap import ImapSpec, find_mailbox
from tests.certificates import Authority
from tests.project import SETTINGS, Project

GIVEN: dict[str, Any] = {"mailbox": "lab", "schedule": {"every": "1m"}, "from": ["lab@example.org"], "names": "*.csv"}
SERVER: dict[str, Any] = {"endpoint": "[::1]:993", "account": "me", "password": "${env:P}"}
MAILBOX = "endpoint: imap.example.org:993, account: me, password: '${env:P}'"


def spec(**options: Any) -> ImapSpec:
    given = {**GIVEN, **options}
    return ImapSpec.model_validate({name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"names": None}, "every logo would be a message"),
        ({"take": "body"}, "`take: body` reads none"),
        ({"after": "seen", "search": "all"}, "would be read again"),
        ({"done": "INBOX"}, "other folders"),
        ({"failed": "INBOX", "after": "delete"}, "other folders"),
        ({"from": []}, "at least 1"),
        ({"from": ["example.org"]}, "needs an address"),
        ({"from": ["lab@example.org, x@example.org"]}, "needs an address"),
        ({"from": ["lab@*"]}, "needs an address"),
        ({"names": []}, "at least 1"),
        ({"max_size": "1GiB"}, "less than or equal"),
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        spec(**options)


def test_rules_are_in_small_letters() -> None:
    rules = spec(**{"from": ["*", "Lab@Example.org", "*@*.Example.org"], "types": ["Text/CSV"]}).rules()
    assert (rules.senders, rules.names, rules.types) == (
        ["*", "lab@example.org", "*@*.example.org"], ("*.csv",), ("text/csv",),
    )  # fmt: skip
    assert spec(names=None, take="message").rules().names == ()


def test_mails_that_somebody_opened_are_taken_unless_that_is_the_mark() -> None:
    assert [spec(after=after).only_unseen for after in ("move", "delete", "seen")] == [False, False, True]
    assert spec(search="unseen").only_unseen
    assert spec(done="INBOX", after="delete").after == "delete"


def tools(**mailboxes: Any) -> Tools:
    nothing: Any = None
    return Tools("results", nothing, lambda _: None, SimpleNamespace(root=Path("/"), mailboxes=mailboxes))


def test_mailbox_is_found(tmp_path: Path) -> None:
    login = find_mailbox(tools(lab=MailboxSpec.model_validate(SERVER)), "lab", 30.0)
    assert (login.host, login.port, login.tls, login.server_name) == ("::1", 993, "implicit", "::1")
    assert login.context().check_hostname
    assert "env" not in repr(login)
    plain = MailboxSpec.model_validate({**SERVER, "plain": "on this machine"})
    assert find_mailbox(tools(lab=plain), "lab", 30.0).tls == "none"
    named = MailboxSpec.model_validate({**SERVER, "certificates": {"server_name": "imap.example.org"}})
    assert find_mailbox(tools(lab=named), "lab", 30.0).server_name == "imap.example.org"


def test_certificates_that_are_renewed_and_cannot_be_used_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "EVERY", 0.0)
    authority = Authority(tmp_path)
    named = MailboxSpec.model_validate({**SERVER, "certificates": {"ca": str(authority.file)}})
    told: list[Notice] = []
    login = find_mailbox(replace(tools(lab=named), notify=told.append), "lab", 30.0)
    context = login.context()
    authority.file.write_text("soon")
    assert login.context() is context
    [notice] = told
    assert isinstance(notice, CertificateTrouble)
    assert "mailboxes.lab.certificates.ca" in notice.reason


def test_mailbox_that_is_not_declared_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'lab' is not in handoff\.yaml under `mailboxes:` \(there: none\)"):
        spec().build(tools())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"password": None}, "exactly one of `password` and `auth`"),
        ({"auth": {"bearer": {"token": "${env:T}"}}}, "exactly one of `password` and `auth`"),
        ({"password": None, "auth": {"basic": {"username": "me", "password": "${env:T}"}}}, "a way that gives a token"),
        ({"plain": "on this machine", "certificates": {"ca": "ca.pem"}}, "nobody would look at the certificates"),
    ],
)
def test_mailbox_is_refused_when_it_cannot_be_meant(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        MailboxSpec.model_validate({**SERVER, **options})


def told(folder: Path, settings: str, *channels: str) -> list[str]:
    """Return what `handoff check` says of channels one, two, … with these options of the listener."""
    project = Project(folder)
    project.write("handoff.yaml", f"{SETTINGS}{settings}")
    for name, (options, form) in zip(("one", "two"), (each.split("|") for each in channels), strict=False):
        begin = f"schedule: {{every: 1m}}, from: ['*'], {options}"
        project.channel(f"channel: {name}\nlisten: {{imap: {{{begin}}}}}\nformat: {form}\n", name)
    return [line for line in project.told(P="x") if "E307" not in line]


def test_check_finds_what_cannot_work(tmp_path: Path) -> None:
    settings = f"mailboxes: {{lab: {{{MAILBOX}, certificates: {{ca: none.pem}}}}}}\n"
    with pytest.raises(ConfigError, match=r"mailboxes\.lab\.certificates\.ca: none\.pem cannot be read"):
        told(tmp_path, settings)
    settings = f"mailboxes: {{lab: {{{MAILBOX}}}}}\n"
    [found] = told(tmp_path, settings, "mailbox: lob, names: x|json")
    assert 'listen.imap.mailbox names "lob", which is no mailbox of handoff.yaml (did you mean "lab"?' in found
    [found] = told(tmp_path, "", "mailbox: lab, names: x|json")
    assert "handoff.yaml has no mailboxes: add `mailboxes: {lab: …}`" in found
    [found] = told(tmp_path, settings, "mailbox: lab, take: message|hl7")
    assert "listen.imap brings json, not hl7" in found


def test_check_finds_two_channels_on_one_folder(tmp_path: Path) -> None:
    settings = f"mailboxes: {{lab: {{{MAILBOX}}}}}\n"
    [found] = told(tmp_path, settings, "mailbox: lab, names: x|json", "mailbox: lab, names: y|json")
    assert "error[E304] listen.imap: channel one reads this folder of the mailbox already" in found
    assert not told(tmp_path, settings, "mailbox: lab, names: x|json", "mailbox: lab, folder: B, names: x|json")
