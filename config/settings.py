"""This module reads the engine's settings: ``handoff.yaml``, then variables of the environment, then ``--set``."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from broker.errors import ConfigError
from broker.spec import Bytes, Seconds, Spec
from config import overrides as overriding
from config.auth_check import check_keys
from config.callers import CallerSpec
from config.findings import Finding, did_you_mean, has_errors, report, shown
from config.gateways import AnyGateway, GatewaySpec
from config.intake import IntakeSpec
from config.mail_servers import MailServerSpec
from config.mailboxes import MailboxSpec
from config.marks import Mark, Marks, Source, without_secrets
from config.overrides import Override
from config.places import DatabaseSpec, PlaceSpec
from config.secrets import open_secrets, unavailable, written_out
from config.servers import ServerSpec
from config.serving import ConsoleSpec, SandboxSpec, check_open, name_sandbox
from config.strict_yaml import Tree, read_bytes
from config.systems import SystemSpec, check_signing, check_systems, with_defaults
from config.tls_check import check_tls
from config.wording import validate

FILE: Final = "handoff.yaml"
OFF: Final = "off"

# Variables that stand for one setting each.
_ONE_SETTING: Final = {
    "HANDOFF_DATA": ("data",),
    "HANDOFF_STORE": ("store",),
    "HANDOFF_PATIENTS": ("patients",),
    "HANDOFF_CHANNELS": ("channels",),
    "HANDOFF_CONSOLE": ("console", "endpoint"),
    "HANDOFF_SANDBOX": ("sandbox", "endpoint"),
    "HANDOFF_WORKERS": ("workers",),
}
VARIABLES: Final = {
    "HANDOFF_CONFIG": "Path of handoff.yaml.",
    "HANDOFF_DATA": "The data folder.",
    "HANDOFF_STORE": "URL of the engine's store.",
    "HANDOFF_PATIENTS": "URL of the patient store.",
    "HANDOFF_CHANNELS": "The folder of channels.",
    "HANDOFF_CONSOLE": "Where the console is served, as host:port.",
    "HANDOFF_SANDBOX": "Where the sandbox is served, as host:port, or off.",
    "HANDOFF_MLLP": "Where the one MLLP channel listens, as host:port.",
    "HANDOFF_WORKERS": "How many worker processes run steps.",
    "HANDOFF_SET": "Overrides, path=value, separated by semicolons.",
}
_INTERNAL: Final = frozenset({"HANDOFF_CRASH", "HANDOFF_REQUIRE", "HANDOFF_WORKER_MEMORY", "HANDOFF_WORKER_PLACES"})


def _database(value: str) -> str:
    if not value.startswith(("sqlite:///", "postgresql://", "postgres://")):
        text = "needs sqlite:///path/to/file.db or postgresql://user@host/database"
        raise ValueError(text)
    return value


Database = Annotated[str, AfterValidator(_database)]


class SettingsSpec(Spec):
    """The file handoff.yaml: everything in it is optional. Relative paths start at its folder."""

    data: str = Field(default="var", min_length=1, description="The data folder.")
    store: Database | None = Field(
        default=None, description="The engine's store; by default handoff.db in the data folder."
    )
    patients: Database | None = Field(
        default=None,
        description="The patient store; by default the engine's PostgreSQL, or patients.db in the data folder.",
    )
    channels: str = Field(default="channels", min_length=1, description="The folder of channel files.")
    console: ConsoleSpec = Field(default=ConsoleSpec(), description="The operators' console.")
    sandbox: SandboxSpec = Field(default=SandboxSpec(), description="The practice gateway and EHR.")
    gateways: dict[str, AnyGateway] = Field(default={}, description="Text-message gateways, by name.")
    mail_servers: dict[str, MailServerSpec] = Field(default={}, description="Mail servers, by name.")
    mailboxes: dict[str, MailboxSpec] = Field(default={}, description="Mailboxes that are read, by name.")
    servers: dict[str, ServerSpec] = Field(default={}, description="FHIR servers, by name.")
    systems: dict[str, SystemSpec] = Field(default={}, description="Systems on the web, by name.")
    places: dict[str, PlaceSpec] = Field(default={}, description="SFTP servers and S3 buckets, by name.")
    databases: dict[str, DatabaseSpec] = Field(default={}, description="Databases of others, by name.")
    callers: dict[str, CallerSpec] = Field(default={}, description="Who may call the ways in over HTTP, by name.")
    intake: IntakeSpec = Field(default=IntakeSpec(), description="How much is taken in at most.")
    workers: int = Field(default=1, ge=1, le=64, description="How many worker processes run steps.")
    worker_memory: Bytes = Field(default=512 * 1024**2, ge=64 * 1024**2, description="Memory that a worker may use.")
    step_deadline: Seconds = Field(default=5.0, gt=0, description="How long one message may take in a worker.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in force: every path absolute, every URL filled in."""

    root: Path  # the folder of handoff.yaml
    data: Path
    channels: Path
    store: str
    patients: str
    console: ConsoleSpec
    sandbox: SandboxSpec
    gateways: Mapping[str, GatewaySpec]
    mail_servers: Mapping[str, MailServerSpec]
    mailboxes: Mapping[str, MailboxSpec]
    servers: Mapping[str, ServerSpec]
    systems: Mapping[str, SystemSpec]
    places: Mapping[str, PlaceSpec]
    databases: Mapping[str, DatabaseSpec]
    callers: Mapping[str, CallerSpec]
    intake: IntakeSpec
    workers: int
    worker_memory: int  # bytes
    step_deadline: float  # seconds
    overrides: tuple[Override, ...] = field(default=(), repr=False)  # for channels
    findings: tuple[Finding, ...] = field(default=(), repr=False)  # warnings, told again with those of the channels


def setting_keys() -> list[str]:
    """Return the keys of handoff.yaml."""
    return list(SettingsSpec.model_fields)


def load(
    file: Path | None = None,
    *,
    sets: Iterable[str] = (),
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings in force, or raise `ConfigError` with everything that is wrong with them.

    ``file`` overrules HANDOFF_CONFIG, which overrules ``handoff.yaml`` in the present folder; one that is named must be
    there. ``sets`` are overrides ``path=value``, ``data`` overrules all else.
    """
    settings, findings = read_settings(file, sets=sets, data=data, environment=environment)
    if settings is None:
        raise ConfigError(report(findings))
    return settings


def read_settings(
    file: Path | None = None,
    *,
    sets: Iterable[str] = (),
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[Settings | None, tuple[Finding, ...]]:
    """Read as `load` does; return the settings (None where there is an error) and everything that was found."""
    environment = os.environ if environment is None else environment
    reading = _Reading(environment)
    path, named = _file(file, environment)
    tree = _read(path, required=named)
    reading.findings += tree.findings
    settings = reading.settings(tree, path.parent, sets, data) if tree.usable else None
    return settings, tuple(reading.findings)


def channels_folder(file: Path | None = None, *, environment: Mapping[str, str] | None = None) -> tuple[Path, Path]:
    """Return the root and where the channels are, as far as settings with mistakes tell."""
    environment = os.environ if environment is None else environment
    path, named = _file(file, environment)
    value = _read(path, required=named).value
    told = environment.get("HANDOFF_CHANNELS") or (value.get("channels") if isinstance(value, dict) else None)
    return path.parent, path.parent / (told if isinstance(told, str) else SettingsSpec.model_fields["channels"].default)


def _file(file: Path | None, environment: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the file of settings, and whether somebody named it."""
    named = file or (Path(environment["HANDOFF_CONFIG"]) if environment.get("HANDOFF_CONFIG") else None)
    return (named or Path(FILE)).absolute(), named is not None


def _read(path: Path, *, required: bool) -> Tree:
    name = shown(path)
    try:
        return read_bytes(path.read_bytes(), name)
    except FileNotFoundError:
        empty = Tree({}, Marks(Mark(Source(name, ""), 0, 1)))
        if not required:
            return empty
        text, hint = "this file does not exist", "name another with --config or HANDOFF_CONFIG"
    except OSError as error:
        text, hint = f"this file cannot be read ({error.strerror})", ""
    finding = Finding(name, 0, 0, 0, "E109", text, hint)
    return Tree(None, Marks(Mark(Source(name, ""), 0, 1)), (finding,), usable=False)


@dataclass(slots=True)
class _Reading:
    """Collects what is wrong while the settings are put together."""

    environment: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)

    def settings(self, tree: Tree, root: Path, sets: Iterable[str], data: Path | None) -> Settings | None:
        """Return the settings, or None where there is an error."""
        marks, findings = tree.marks, self.findings
        value = {} if tree.value is None else tree.value
        if not isinstance(value, dict):
            validate(SettingsSpec, value, (), marks, findings)
            return None
        findings += _passwords(value, marks)
        given = [*self._variables(), *overriding.parse(sets, "--set", findings)]
        if data is not None:
            given.append(_from_option(data))
        rest = overriding.apply_to_settings(given, setting_keys(), value, marks, findings)
        findings += name_sandbox(value, marks)
        findings += written_out(value, marks)
        with_defaults(value, root)
        spec = validate(SettingsSpec, value, (), marks, findings)
        findings += unavailable(value, marks, self.environment)
        if spec is not None:
            findings += check_systems(spec.systems, root / spec.channels, marks)
            findings += check_tls(spec, marks, root)
            findings += check_open(spec, marks, root)
            findings += check_keys(spec, marks, root / spec.data, self.environment)
        if spec is None or has_errors(findings):
            return None
        # Look secrets up now, so that none is missing when a destination first needs it.
        open_secrets(spec, self.environment)
        findings += check_signing(spec.systems, marks)
        if has_errors(findings):
            return None
        return _settled(spec, root, tuple(rest), tuple(findings))

    def _variables(self) -> list[Override]:
        """Return what the environment sets, and report variables that mean nothing."""
        given: list[Override] = []
        for name, text in sorted(self.environment.items()):
            if not name.startswith("HANDOFF_") or name in _INTERNAL:
                continue
            whole = Mark(Source(name, text), 0, len(text))
            if name not in VARIABLES:
                hint = did_you_mean(name, VARIABLES)
                self.findings.append(
                    Finding(name, 0, 0, 0, "E502", f"{name} is no variable of Handoff", hint, "warning")
                )
            elif name == "HANDOFF_SET":
                given += overriding.parse_list(text, name, self.findings)
            elif name == "HANDOFF_MLLP":
                given.append(_from_variable(("listen", "mllp", "endpoint"), text, whole))
            elif name == "HANDOFF_SANDBOX" and text == OFF:
                given.append(_from_variable(("sandbox", "enabled"), value=False, mark=whole))
            elif name in _ONE_SETTING:
                value = _whole_number(text) if name == "HANDOFF_WORKERS" else text
                given.append(_from_variable(_ONE_SETTING[name], value, whole))
        return given


def _whole_number(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdecimal() else text


@dataclass(frozen=True, slots=True)
class _Variable(Override):
    """An override that a variable of its own gives: all of its text is the value."""

    @property
    def path_mark(self) -> Mark:
        """Return the variable's text."""
        return self.mark

    @property
    def value_mark(self) -> Mark:
        """Return the variable's text."""
        return self.mark


def _from_variable(path: tuple[str, ...], value: Any, mark: Mark) -> Override:
    return _Variable(path, value, mark)


def _from_option(data: Path) -> Override:
    text = str(data.absolute())
    return _from_variable(("data",), text, Mark(Source("--data", text), 0, len(text)))


def _passwords(value: dict[str, Any], marks: Marks) -> list[Finding]:
    """Warn of passwords in the URLs of databases that a file holds."""
    hint = "leave it out and set PGPASSWORD or PGPASSFILE, or give the URL in HANDOFF_STORE"
    return [
        marks.value((key,)).finding("E401", f"{key} holds a password", hint, "warning")
        for key in ("store", "patients")
        if isinstance(value.get(key), str) and without_secrets(value[key]) != value[key]
    ]


def _settled(
    spec: SettingsSpec, root: Path, overrides: tuple[Override, ...], findings: tuple[Finding, ...]
) -> Settings:
    data = root / spec.data
    store = _absolute(spec.store, root) if spec.store else _sqlite(data / "handoff.db")
    shared = store if store.startswith("postgres") else _sqlite(data / "patients.db")
    return Settings(
        root=root,
        data=data,
        channels=root / spec.channels,
        store=store,
        patients=_absolute(spec.patients, root) if spec.patients else shared,
        console=spec.console,
        sandbox=spec.sandbox,
        gateways=spec.gateways,
        mail_servers=spec.mail_servers,
        mailboxes=spec.mailboxes,
        servers=spec.servers,
        systems=spec.systems,
        places=spec.places,
        databases=spec.databases,
        callers=spec.callers,
        intake=spec.intake,
        workers=spec.workers,
        worker_memory=spec.worker_memory,
        step_deadline=spec.step_deadline,
        overrides=overrides,
        findings=findings,
    )


def _sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def _absolute(url: str, root: Path) -> str:
    """Let a relative path of an SQLite file start at the folder of handoff.yaml."""
    scheme, separator, rest = url.partition(":///")
    return _sqlite(root / rest) if separator and scheme == "sqlite" else url
