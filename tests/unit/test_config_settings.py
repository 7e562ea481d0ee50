# ruff: noqa: E501 - one case of a table is one line
"""Settings: the file, the environment and --set, which of them wins, and what is told when they are wrong."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from broker.errors import ConfigError
from config.check import check
from config.findings import report
from config.gateways import TwilioSpec
from config.secrets import Secret, SecretError
from config.settings import VARIABLES, Settings, load, read_settings

CHANNEL = """\
channel: feed
listen:
  mllp: {endpoint: 127.0.0.1:2575}
order: PID-3.1
steps:
  - filter: MSH-9.1 == 'ADT'
  - set: {ward: PV1-3.1}
deliver:
  store: {prm: {}}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "channels").mkdir()
    (tmp_path / "channels/feed.yaml").write_text(CHANNEL)
    (tmp_path / "handoff.yaml").write_text("data: var\n")
    return tmp_path


def read(root: Path, text: str | None = None, *sets: str, **environment: str) -> Settings:
    if text is not None:
        (root / "handoff.yaml").write_text(text)
    return load(root / "handoff.yaml", sets=sets, environment=environment)


def told(root: Path, text: str | None = None, *sets: str, **environment: str) -> list[str]:
    if text is not None:
        (root / "handoff.yaml").write_text(text)
    settings, findings = read_settings(root / "handoff.yaml", sets=sets, environment=environment)
    if settings is not None:
        findings = check(settings).findings
    lines = []
    for found in findings:
        place = f"{Path(found.path).name}:{found.line}:{found.column}-{found.end}"
        lines.append(
            f"{place} {found.severity}[{found.code}] {found.text}" + (f" ({found.hint})" if found.hint else "")
        )
    return lines


# ------------------------------------------------------------------------------------------------------------ values


def test_the_sandbox_takes_its_gateway_and_server_along(root: Path) -> None:
    text = """\
gateways:
  twilio: {base: "${sandbox}", account: ACx, token: "${env:T:-sandbox}", from: "+12055550100"}
servers:
  ehr: {base: "${sandbox}/fhir"}
"""
    settings = read(root, text, HANDOFF_SANDBOX="127.0.0.1:9999")
    gateway = settings.gateways["twilio"]
    assert isinstance(gateway, TwilioSpec)
    assert gateway.base == "http://127.0.0.1:9999"
    assert settings.servers["ehr"].base == "http://127.0.0.1:9999/fhir"
    assert read(root, text).servers["ehr"].base == "http://127.0.0.1:8090/fhir"


def test_everything_has_a_default_when_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environment={})
    assert settings.root == tmp_path
    assert settings.data == tmp_path / "var"
    assert settings.channels == tmp_path / "channels"
    assert settings.store == f"sqlite:///{tmp_path}/var/handoff.db"
    assert settings.patients == f"sqlite:///{tmp_path}/var/patients.db"
    assert settings.console.endpoint == "127.0.0.1:8080"
    assert settings.sandbox.endpoint == "127.0.0.1:8090"
    assert settings.sandbox.enabled
    assert (settings.workers, settings.worker_memory, settings.step_deadline) == (1, 512 * 1024**2, 5.0)


def test_an_empty_file_means_the_defaults(root: Path) -> None:
    assert read(root, "# nothing\n").data == root / "var"


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="E109"):
        load(tmp_path / "no.yaml", environment={})
    with pytest.raises(ConfigError, match="this file does not exist"):
        load(environment={"HANDOFF_CONFIG": str(tmp_path / "no.yaml")})


def test_paths_start_at_the_folder_of_the_file(root: Path) -> None:
    settings = read(root, "data: d\nchannels: c\nstore: sqlite:///s.db\npatients: sqlite:////abs/p.db\n")
    assert settings.data == root / "d"
    assert settings.channels == root / "c"
    assert settings.store == f"sqlite:///{root}/s.db"
    assert settings.patients == "sqlite:////abs/p.db"


def test_the_patient_store_shares_a_postgresql_by_default(root: Path) -> None:
    assert read(root, "store: postgresql://h@db/x\n").patients == "postgresql://h@db/x"


def test_the_environment_goes_before_the_file_and_set_before_the_environment(root: Path) -> None:
    text = "data: a\nconsole: {endpoint: 127.0.0.1:1}\n"
    assert read(root, text).data == root / "a"
    assert read(root, text, HANDOFF_DATA="b").data == root / "b"
    assert read(root, text, "data=c", HANDOFF_DATA="b").data == root / "c"
    assert read(root, text, "console.endpoint=127.0.0.1:3", HANDOFF_SET="data=x").console.endpoint == "127.0.0.1:3"


def test_the_data_option_goes_before_all_and_starts_where_one_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "inner").mkdir()
    monkeypatch.chdir(root / "inner")
    settings = load(root / "handoff.yaml", data=Path("elsewhere"), sets=["data=c"], environment={"HANDOFF_DATA": "b"})
    assert settings.data == root / "inner/elsewhere"


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("HANDOFF_DATA", "/srv/d", "data", Path("/srv/d")),
        ("HANDOFF_STORE", "postgresql://h@db/x", "store", "postgresql://h@db/x"),
        ("HANDOFF_PATIENTS", "sqlite:////p.db", "patients", "sqlite:////p.db"),
        ("HANDOFF_CHANNELS", "/srv/c", "channels", Path("/srv/c")),
        ("HANDOFF_CONSOLE", "127.0.0.1:0", "console.endpoint", "127.0.0.1:0"),
        ("HANDOFF_SANDBOX", "127.0.0.1:0", "sandbox.endpoint", "127.0.0.1:0"),
        ("HANDOFF_SANDBOX", "off", "sandbox.enabled", False),
        ("HANDOFF_WORKERS", "3", "workers", 3),
        ("HANDOFF_SET", "workers=2; step_deadline = 1s", "workers", 2),
        ("HANDOFF_SET", "step_deadline=250ms;", "step_deadline", 0.25),
    ],
)
def test_each_variable_sets_what_it_says(root: Path, name: str, text: str, attribute: str, value: Any) -> None:
    if " = " in text:
        text = text.replace(" = ", "=")
    found: Any = read(root, None, **{name: text})
    for part in attribute.split("."):
        found = getattr(found, part)
    assert found == value


def test_every_variable_is_described() -> None:
    assert all(name.startswith("HANDOFF_") and text.endswith(".") for name, text in VARIABLES.items())


# ---------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dta: x", 'handoff.yaml:1:1-4 error[E104] unknown key "dta" (did you mean "data"?)'),
        ("data: 5", "handoff.yaml:1:7-8 error[E106] data needs text, found the number 5 (put it in quotes if it is text)"),
        ("- a", "handoff.yaml:1:1-2 error[E106] the file needs keys and values, found a list (allowed: data, store, "),
        ("store: mysql://x", 'handoff.yaml:1:8-17 error[E107] store needs sqlite:///path/to/file.db or postgresql://user@host/database, found "mysql://x"'),
        ("console: {endpoint: 8080}", "handoff.yaml:1:21-25 error[E107] console.endpoint needs host:port, such as 127.0.0.1:2575; found the number 8080"),
        ("console: {endpont: 127.0.0.1:80}", 'handoff.yaml:1:11-18 error[E104] unknown key "endpont" in console'),
        ("sandbox: off", 'handoff.yaml:1:10-13 error[E106] sandbox needs keys and values, found "off"'),
        ("sandbox: {enabled: no}", 'handoff.yaml:1:20-22 error[E106] sandbox.enabled needs true or false, found "no" (write false)'),
        ("workers: 0", "handoff.yaml:1:10-11 error[E107] workers needs at least 1, found the number 0"),
        ("worker_memory: 1MiB", 'handoff.yaml:1:16-20 error[E107] worker_memory needs at least 67108864, found "1MiB"'),
        ("gateways: {t: {base: x}}", 'handoff.yaml:1:22-23 error[E107] gateways.t.base needs an address such as https://host.example/path'),
        ("gateways: {t: {base: 'http://x'}}", 'handoff.yaml:1:12-13 error[E105] gateways.t needs the key "account"'),
        ("gateways: {t: {kind: vonage}}", 'handoff.yaml:1:22-28 error[E107] gateways.t.kind: there is no kind "vonage" (did you mean "vonage-sms"?'),
        ("gateways: {t: {kind: http, pth: /x}}", 'handoff.yaml:1:28-31 error[E104] unknown key "pth" in gateways.t (did you mean "path"?'),
        ("gateways: {t: {kind: vonage-sms, from: x, account: k}}", 'handoff.yaml:1:12-13 error[E105] gateways.t needs the key "secret" (The account\'s API secret, as a reference'),
        ("gateways: {t: {kind: vonage-sms, from: x, account: k, secret: abc}}", "handoff.yaml:1:63-66 error[E401] gateways.t.secret holds a secret itself"),
        ("servers: {e: {base: 'https://u:p@x/'}}", "handoff.yaml:1:21-37 error[E107] servers.e.base needs an address"),
        ("servers: {e: {base: 'http://x', token: abc}}", "handoff.yaml:1:40-43 error[E401] servers.e.token holds a secret itself (write a reference: ${env:NAME}, "),
        ("servers: {e: {base: 'http://x', token: '${env:NOPE}'}}", "handoff.yaml:1:40-53 error[E402] servers.e.token: the environment variable NOPE is not set (set it before the start)"),
        ("servers: {e: {base: 'http://x', token: '${env:NOPE:-abc}'}}", "handoff.yaml:1:40-58 error[E401] servers.e.token: a default would be a secret written out"),
        ("servers: {e: {base: 'http://x', token: '${file:/no/such}'}}", "handoff.yaml:1:40-58 error[E403] servers.e.token: /no/such cannot be read (No such file or directory)"),
        ("servers: {e: {base: 'http://x', token: '${file:rel}'}}", "handoff.yaml:1:40-53 error[E405] servers.e.token: the file of a secret needs an absolute path, found rel"),
        ("servers: {e: {base: 'http://x', token: '${keyring:x}'}}", "handoff.yaml:1:40-54 error[E404] servers.e.token: keyrings are not available here (${keyring:x})"),
        ("servers: {e: {base: 'http://x', token: '${vault:x}'}}", 'handoff.yaml:1:40-52 error[E405] servers.e.token: there is no kind of secret "vault"'),
        ("servers: {e: {base: 'http://x', token: '${env:}'}}", "handoff.yaml:1:40-49 error[E405] servers.e.token: this is not a reference to a secret"),
        ("servers: {e: {base: 'http://x', token: '${file:/x:-sandbox}'}}", "handoff.yaml:1:40-61 error[E405] servers.e.token: only ${env:NAME} can have a default"),
        ("store: postgresql://h:pw@db/x", "handoff.yaml:1:8-30 warning[E401] store holds a password (leave it out and set PGPASSWORD"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_told_at_its_place(root: Path, text: str, expected: str) -> None:
    lines = told(root, text)
    assert any(line.startswith(expected) for line in lines), lines


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HANDOFF_CONSOL": "x"}, "HANDOFF_CONSOL:0:0-0 warning[E502] HANDOFF_CONSOL is no variable of Handoff (did you mean \"HANDOFF_CONSOLE\"?"),
        ({"HANDOFF_CONSOLE": "8080"}, 'HANDOFF_CONSOLE:1:1-5 error[E107] console.endpoint needs host:port, such as 127.0.0.1:2575; found "8080"'),
        ({"HANDOFF_WORKERS": "two"}, 'HANDOFF_WORKERS:1:1-4 error[E106] workers needs a whole number, found "two"'),
        ({"HANDOFF_WORKERS": "-1"}, "HANDOFF_WORKERS:1:1-3 error[E107] workers needs at least 1, found the number -1"),
        ({"HANDOFF_MLLP": "2575"}, 'HANDOFF_MLLP:1:1-5 error[E107] listen.mllp.endpoint needs host:port, such as 127.0.0.1:2575; found "2575"'),
        ({"HANDOFF_SET": "a.b"}, "HANDOFF_SET:1:1-4 error[E503] an override is written path=value (such as deliver.ehr.retry.attempts=3)"),
        ({"HANDOFF_SET": "workers=1; wrkers=2"}, 'HANDOFF_SET:1:12-18 error[E503] the override matches nothing: "wrkers" is no channel, no key of a channel and no setting (did you mean "workers"?'),
        ({"HANDOFF_STORE": "x"}, "HANDOFF_STORE:1:1-2 error[E107] store needs sqlite:///"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_environment_is_told(root: Path, environment: dict[str, str], expected: str) -> None:
    lines = told(root, None, **environment)
    assert any(line.startswith(expected) for line in lines), lines


def test_variables_of_our_own_tools_are_no_mistake(root: Path) -> None:
    assert (
        told(root, None, HANDOFF_CRASH="accept:1", HANDOFF_WORKER_MEMORY="5", HANDOFF_WORKER_PLACES="[]", PATH="/bin")
        == []
    )


def test_a_secret_is_never_shown(root: Path) -> None:
    text = (
        "store: postgresql://h:hunter2@db/x\n"
        "servers:\n  e: {base: 'http://x', token: hunter2, bse: 1}\n  f: {base: 5, token: 'hunter2'}\n"
    )
    (root / "handoff.yaml").write_text(text)
    settings, findings = read_settings(root / "handoff.yaml", environment={"HANDOFF_SET": "servers.e.token=hunter2"})
    assert settings is None
    assert "hunter2" not in report(findings)
    assert "hunter2" not in repr(findings)
    assert "postgresql://h:*******@db/x" in report(findings)
    (root / "handoff.yaml").write_text("servers: {e: {token: hunter2, base: ]}}\n")
    assert "hunter2" not in report(read_settings(root / "handoff.yaml", environment={})[1])


# --------------------------------------------------------------------------------------------------------- overrides


def plan_of(root: Path, *sets: str, **environment: str) -> Any:
    checked = check(read(root, None, *sets, **environment))
    assert not checked.findings, report(checked.findings)
    (plan,) = checked.channels
    return plan


def test_an_override_changes_one_channel_or_all(root: Path) -> None:
    assert plan_of(root, "feed.listen.mllp.endpoint=127.0.0.1:9").listen.spec.endpoint == "127.0.0.1:9"
    assert plan_of(root, "listen.mllp.endpoint=127.0.0.1:9").listen.spec.endpoint == "127.0.0.1:9"
    assert plan_of(root, "listen.mllp.charset=8859/1").listen.spec.charset == "8859/1"
    assert plan_of(root, "order=PID-4.1").order == "PID-4.1"
    assert plan_of(root, "steps.2.set.ward=PV1-3.2").steps[1].spec.expressions == {"ward": "PV1-3.2"}
    assert (
        plan_of(root, "steps.1.filter=MSH-9.1 == 'ADT' and MSH-9.2 != 'A04'").steps[0].spec.expression.endswith("'A04'")
    )
    assert plan_of(root, "deliver.store.retry.attempts=0").deliver[0].retry.attempts == 0
    assert plan_of(root, "deliver.store.on_dead=block").deliver[0].on_dead == "block"
    assert plan_of(root, "index.visit=PV1-19.1").index == {"visit": "PV1-19.1"}
    assert plan_of(root, "description='12'").description == "12"
    assert plan_of(root, HANDOFF_MLLP="127.0.0.1:0").listen.spec.endpoint == "127.0.0.1:0"


def test_an_override_goes_before_the_variable_for_mllp(root: Path) -> None:
    plan = plan_of(root, "listen.mllp.endpoint=127.0.0.1:8", HANDOFF_MLLP="127.0.0.1:9")
    assert plan.listen.spec.endpoint == "127.0.0.1:8"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("listn.mllp.endpoint=x", '--set:1:1-20 error[E503] the override matches nothing: "listn" is no channel, no key of a channel and no setting (did you mean "listen"?'),
        ("listen.sftp.endpoint=x", "--set:1:1-21 error[E503] the override matches nothing: no channel has listen.sftp"),
        ("feed.deliver.ehr.after=x", "--set:1:1-23 error[E503] the override matches nothing: channel feed has no deliver.ehr"),
        ("steps.3.filter=x", "--set:1:1-15 error[E503] the override matches nothing: no channel has steps.3"),
        ("steps.0.filter=x", "--set:1:1-15 error[E503] the override matches nothing: no channel has steps.0"),
        ("feed=x", '--set:1:1-5 error[E503] the override matches nothing: "feed" is no'),
        ("data.x=1", "--set:1:1-7 error[E503] the override matches nothing: handoff.yaml has nothing below data"),
        ("=x", "--set:1:1-3 error[E503] an override is written path=value"),
        ("a..b=x", "--set:1:1-7 error[E503] an override is written path=value"),
        ("order='x", "--set:1:1-9 error[E503] the quotes of this value do not match (write path='value')"),
        ("listen.mllp.endpoint=99", "--set:1:22-24 error[E107] listen.mllp.endpoint needs host:port"),
        ("listen.mllp.endpont=99", '--set:1:1-20 error[E104] unknown key "endpont" in listen.mllp'),
        ("order=zork", "--set:1:7-11 error[E201] "),
        ("deliver.store.retry.atempts=1", '--set:1:1-28 error[E104] unknown key "atempts" in deliver.store.retry'),
        ("deliver.store.on_dead=stop", "--set:1:23-27 error[E107] deliver.store.on_dead needs one of step_over, block"),
        ("workers=no", '--set:1:9-11 error[E106] workers needs a whole number, found "no"'),
    ],
)  # fmt: skip
def test_a_mistake_in_an_override_is_told(root: Path, override: str, expected: str) -> None:
    lines = told(root, None, override)
    assert len(lines) == 1, lines
    assert lines[0].startswith(expected)


def test_the_variable_for_mllp_is_for_one_channel(root: Path) -> None:
    (root / "channels/other.yaml").write_text(CHANNEL.replace("feed", "other").replace("2575", "2576"))
    (line,) = told(root, None, HANDOFF_MLLP="127.0.0.1:9")
    assert line == (
        "HANDOFF_MLLP:1:1-12 error[E501] HANDOFF_MLLP is for one MLLP channel, and there are 2 "
        "(use --set <channel>.listen.mllp.endpoint=… (feed, other))"
    )


def test_an_override_applies_to_every_channel_that_has_its_parent(root: Path) -> None:
    (root / "channels/other.yaml").write_text(CHANNEL.replace("feed", "other").replace("store:", "prm:"))
    settings = read(root, None, "listen.mllp.endpoint=127.0.0.1:0", "deliver.prm.on_dead=block")
    checked = check(settings)
    assert [plan.deliver[0].on_dead for plan in checked.channels] == ["step_over", "block"]
    assert [plan.listen.spec.endpoint for plan in checked.channels] == ["127.0.0.1:0"] * 2  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------- secrets


def secret_of(root: Path, reference: str, **environment: str) -> Secret:
    token = (
        read(root, f"servers: {{e: {{base: 'http://x', token: '{reference}'}}}}\n", **environment).servers["e"].token
    )
    assert token is not None
    return token


def test_a_secret_comes_from_the_environment_and_is_kept(root: Path) -> None:
    token = secret_of(root, "${env:TOKEN}", TOKEN="hunter2")
    assert token.reveal({}) == "hunter2"


def test_a_secret_comes_from_a_file_that_nobody_else_reads(root: Path) -> None:
    file = root / "token"
    file.write_text("hunter2\n")
    file.chmod(0o600)
    assert secret_of(root, f"${{file:{file}}}").reveal() == "hunter2"
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read or changed by others"):
        secret_of(root, f"${{file:{file}}}")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_is_no_secret_is_refused(root: Path, content: bytes) -> None:
    file = root / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(SecretError) as caught:
        Secret(f"${{file:{file}}}").reveal()
    assert caught.value.code == "E403"
    with pytest.raises(SecretError):
        Secret(f"${{file:{root}}}").reveal()


def test_the_sandbox_needs_no_secret(root: Path) -> None:
    assert secret_of(root, "${env:TOKEN:-sandbox}").reveal({}) == "sandbox"
    assert secret_of(root, "${env:TOKEN:-sandbox}", TOKEN="hunter2").reveal({}) == "hunter2"


def test_a_secret_shows_nowhere(root: Path) -> None:
    token = secret_of(root, "${env:TOKEN}", TOKEN="hunter2")
    settings = read(root, None, TOKEN="hunter2")
    for shown in (
        repr(token),
        str(token),
        f"{token}",
        repr(settings),
        str(settings),
        settings.servers["e"].model_dump_json(),
    ):
        assert "hunter2" not in shown
    assert "hunter2" not in pickle.dumps(token).decode("latin-1")
    assert copy.deepcopy(token) == token
    assert repr(Secret("hunter2")) == "Secret(***)"
    assert len({token, Secret("${env:TOKEN}")}) == 1
