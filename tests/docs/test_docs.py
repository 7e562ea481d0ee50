"""The documentation is true where a machine can tell: links, commands, options, states, settings, and channels."""

import importlib
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from broker import states

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# The words of the project; everything else that people may want to look up comes on top.
WORDS: Final = (
    "channel, listener, step, destination, message, document, event, patient, notice, delivery, lane, attempt, "
    "outcome, receipt, acknowledgment, filtered, suppressed, held, dead letter, replay, revision, location, control id"
)
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME: Final = re.compile(r"channel: *(\S+)")
PROFILE: Final = re.compile(r"# (profiles/[a-z-]+\.yaml)\n")  # a profile of validation begins with its path
PRESET: Final = re.compile(r"# (presets/[a-z-]+\.yaml)\n")  # and so does a preset of a system
BESIDE: Final = re.compile(r"# ([a-z-]+\.txt)\n")  # a file beside handoff.yaml begins with its name
# Variables, files and keys that are on the reader's machine only.
ABSENT_SECRETS: Final = {"E402", "E403", "E407", "E408"}
LINK: Final = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(language: str) -> Iterator[tuple[str, str]]:
    """Give all fenced blocks of a language, with the page that has them."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text()):
            if found[1] == language:
                yield _name(page), found[2]


def _rows(page: str) -> Iterator[list[str]]:
    """Give the rows of all tables of a page, without heads."""
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| |"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def _named(page: str) -> dict[str, list[str]]:
    """Return the rows of a page by what their first cell names, without back-ticks and asterisks."""
    return {row[0].strip("`*"): row for row in _rows(page)}


# Links.


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(page.read_text())
        if "://" not in target
    }
    assert not {_name(page) for page in PAGES if page not in linked} - {"README.md"}


# Commands.


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Give every `handoff …` of the docs as words, with its page: lines of sh blocks, and code in the text."""
    for page in PAGES:
        text = page.read_text()
        lines = [line for found in FENCE.finditer(text) if found[1] == "sh" for line in found[2].splitlines()]
        lines += re.findall(r"`([^`\n]*handoff [^`\n]*)`", FENCE.sub("", text))
        for line in lines:
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words and words[0] in {"handoff", ".venv/bin/handoff"}:
                yield f"{_name(page)}: {line}", words[1:]


def _unknown(words: list[str]) -> str:
    """Return what of a command's words the command line does not know, or nothing."""
    from console.cli.main import cli  # noqa: PLC0415 - the docs can be read before there is a command line

    command: click.Command = cli
    options = _options(command)
    words = [word for word in words if word not in {"…", ">"}]
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, _ = word.partition("=")
            if name not in options:
                return word
            if not equals and not options[name] and words:
                words.pop(0)
        elif isinstance(command, click.Group):
            below = command.get_command(click.Context(command), word)
            if below is None:
                return word
            command, options = below, _options(below)
    return ""


def _options(command: click.Command) -> Mapping[str, bool]:
    """Return the options of a command, and for each whether it takes no value."""
    found = {"--help": True}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], parameter.is_flag)
    return found


def test_commands_and_options_exist() -> None:
    shown = list(_commands())
    assert shown
    assert not [line for line, words in shown if _unknown(words)]


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        target
        for page in PAGES
        for code in [
            *re.findall(r"`(make [^`]*)`", page.read_text()),
            *re.findall(r"^make .*$", page.read_text(), re.MULTILINE),
        ]
        for target in re.findall(r"make ([a-z-]+)", code)
    }
    assert used
    assert used <= targets


def test_exit_codes_are_those_of_the_command_line() -> None:
    from console.cli import main  # noqa: PLC0415 - as above

    codes = {row[1].strip("`"): int(row[0]) for row in _rows("docs/reference/exit-codes.md") if row[1].startswith("`")}
    assert codes == {
        name: getattr(main, name) for name in vars(main) if name.isupper() and isinstance(getattr(main, name), int)
    }


# Tables.


@pytest.mark.parametrize(
    ("table", "begins"), [(states.MESSAGE, {"received"}), (states.DELIVERY, {"waiting", "sending"})]
)
def test_states_are_those_of_the_table(table: dict[str, frozenset[str]], begins: set[str]) -> None:
    page = "docs/concepts/states.md"
    moves = {(state, after) for state, all_after in table.items() for after in all_after}
    moves |= {("[*]", state) for state in begins}
    drawings = [set(re.findall(r"(\S+) --> (\S+)", text)) for name, text in _blocks("mermaid") if name == page]
    assert moves in drawings
    rows = [(row[0].strip("`"), set(re.findall(r"`(\w+)`", row[2]))) for row in _rows(page) if row[0] != "state"]
    assert all((state, set(after)) in rows for state, after in table.items())


def test_glossary_has_every_word() -> None:
    assert set(WORDS.split(", ")) <= set(_named("docs/concepts/glossary.md"))


def test_settings_are_those_that_are_read() -> None:
    from config.settings import VARIABLES, SettingsSpec  # noqa: PLC0415 - as above

    named = set(_named("docs/reference/settings.md"))
    tops = {name.partition(".")[0] for name in named}
    assert set(SettingsSpec.model_fields) <= tops
    assert {name for name in named if name.startswith("HANDOFF_")} == set(VARIABLES)


def test_options_of_mllp_are_those_that_are_read() -> None:
    from listeners.mllp import MllpSpec  # noqa: PLC0415 - as above

    rows = {name: row for name, row in _named("docs/reference/mllp.md").items() if name in MllpSpec.model_fields}
    assert set(rows) == set(MllpSpec.model_fields)
    told = {name: yaml.safe_load(row[1].strip("`")) for name, row in rows.items() if row[1]}
    endpoint = {"endpoint": "127.0.0.1:0"}
    assert MllpSpec.model_validate(endpoint | told) == MllpSpec.model_validate(endpoint)


def test_options_of_every_destination_are_those_that_are_read() -> None:
    from config.channel import DeliverSpec  # noqa: PLC0415 - as above

    page = (ROOT / "docs/howto/write-a-channel.md").read_text().partition("\n## Destinations\n")[2]
    table = page.partition("\n\n| kind |")[0]
    named = [name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert set(named) == set(DeliverSpec.model_fields)


@pytest.mark.parametrize(
    ("page", "spec"),
    [
        ("http", "listeners.http:HttpSpec"),
        ("webhooks", "listeners.webhook:WebhookSpec"),
        ("webhooks", "listeners.callbacks:CallbacksSpec"),
        ("fhir-endpoint", "listeners.fhir:FhirSpec"),
    ],
)
def test_options_of_http_are_those_that_are_read(page: str, spec: str) -> None:
    module, _, name = spec.partition(":")
    fields = getattr(importlib.import_module(module), name).model_fields
    shared = importlib.import_module("listeners.http_service").HttpPortSpec.model_fields
    told = set(_named(f"docs/reference/{page}.md"))
    assert set(fields) - (set() if page == "http" else {*shared, "signature"}) <= told


def test_presets_of_webhooks_are_those_that_there_are() -> None:
    from listeners.signatures import load_preset, presets  # noqa: PLC0415 - as above

    columns = len(("preset", "system", "who", "same by", "comes as", "tested with"))
    rows = {name: row for name, row in _named("docs/reference/webhooks.md").items() if len(row) == columns}
    assert {name: row[-1] for name, row in rows.items()} == {name: load_preset(name).tested for name in presets()}
    assert {name for name, row in rows.items() if "**" in row[3]} == {
        name for name in presets() if load_preset(name).key_decides
    }


def test_presets_of_soap_are_those_that_there_are() -> None:
    from listeners.soap_service import load_service, services  # noqa: PLC0415 - as above

    text = (ROOT / "docs/reference/soap.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| \[(.*)$", text, re.MULTILINE))
    assert set(rows) == set(services())
    assert all(operation in rows[name] for name in services() for operation in load_service(name).operations)


def test_dependencies_have_a_reason_each() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    declared = [*project["project"]["dependencies"], *groups["build"], *groups["dev"]]
    names = {re.split(r"[\[<>=;~ ]", text)[0] for text in declared}
    told = {
        name
        for name, row in _named("docs/decisions/dependencies.md").items()
        if len(row) == len(("name", "licence", "why"))
    }
    assert told - {"library"} == names


# YAML.


def _settings(folder: Path, text: str, environment: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
    """Return the settings that a text gives, and what is wrong with it besides secrets that are not here."""
    from config.settings import read_settings  # noqa: PLC0415 - as above

    (folder / "handoff.yaml").write_text(text)
    secrets = dict.fromkeys(re.findall(r"\$\{env:([A-Z0-9_]+)\}", text), "x")
    settings, findings = read_settings(folder / "handoff.yaml", environment=secrets)
    return settings, [f"{found.line}: {found.text}" for found in findings if found.code not in ABSENT_SECRETS]


@pytest.mark.parametrize(("page", "text"), [each for each in _blocks("yaml") if each[1].startswith("# handoff.yaml")])
def test_settings_in_the_docs_are_valid(page: str, text: str, tmp_path: Path) -> None:
    _, wrong = _settings(tmp_path, text)
    assert not wrong, page


@pytest.mark.parametrize(("page", "text"), [each for each in _blocks("yaml") if each[1].startswith("channel:")])
def test_channels_in_the_docs_are_valid(page: str, text: str, tmp_path: Path) -> None:
    from config.check import check  # noqa: PLC0415 - as above

    for folder in ("templates", "scripts", "messages"):
        shutil.copytree(ROOT / "channels" / folder, tmp_path / "channels" / folder)
    for place, block in _blocks("yaml"):
        if place == page and (profile := PROFILE.match(block)):
            (tmp_path / "channels/profiles").mkdir(exist_ok=True)
            (tmp_path / "channels" / profile[1]).write_text(block)
    for place, block in _blocks("text"):
        if place == page and (beside := BESIDE.match(block)):
            (tmp_path / beside[1]).write_text(block)
    for name, block in _channels(page, text).items():
        (tmp_path / "channels" / f"{name}.yaml").write_text(block)
    settings, wrong = _settings(tmp_path, _named_settings(page))
    assert not wrong
    assert not [str(finding) for finding in check(settings).findings], page


def _channels(page: str, text: str) -> dict[str, str]:
    """Return a channel, and those of its page that it or the page's settings pass messages to."""
    there = {found[1]: block for place, block in _blocks("yaml") if place == page and (found := NAME.match(block))}
    name = NAME.match(text)
    assert name
    chosen = {name[1]: text}
    settings = [block for place, block in _blocks("yaml") if place == page and block.startswith("# handoff")]
    while more := {
        named: there[named]
        for block in (*chosen.values(), *settings)
        for named in re.findall(r"(?:channel|replies): *([a-z0-9-]+)", block)
        if named in there and named not in chosen
    }:
        chosen |= more
    return chosen


def _without_keys(settings: dict[str, Any]) -> None:
    for system in settings.get("systems", {}).values():
        if "${file:" in str(system):
            system.pop("auth")
    for gateway in settings.get("gateways", {}).values():
        if gateway.pop("private_key", None):
            del gateway["application"]
            gateway |= {"account": "x", "secret": "${env:ABSENT:-sandbox}"}


def _named_settings(page: str) -> str:
    """Return our settings with what those on a page add; systems and gateways whose keys are files go without them."""
    found = yaml.safe_load((ROOT / "handoff.yaml").read_text())
    for place, text in _blocks("yaml"):
        if place == page and text.startswith("# handoff"):
            for key, named in yaml.safe_load(text).items():
                if key != "servers":  # of one name there are several, to show what each EHR takes
                    found[key] = {**found.get(key, {}), **named} if isinstance(named, dict) else named
    _without_keys(found)
    return re.sub(r"\$\{file:[^}]*\}", "${env:ABSENT:-sandbox}", yaml.safe_dump(found))


@pytest.mark.parametrize(("page", "text"), [each for each in _blocks("yaml") if PRESET.match(each[1])])
def test_presets_in_the_docs_are_valid(page: str, text: str, tmp_path: Path) -> None:
    from config.compiling import CheckingKit  # noqa: PLC0415 - as above
    from config.presets import check_templates, read_preset  # noqa: PLC0415 - as above

    path = tmp_path / Path(PRESET.findall(text)[0]).name
    path.write_text(text)
    found = read_preset(path)
    assert not [str(finding) for finding in (*found.findings, *check_templates(found, CheckingKit(tmp_path)))], page
    assert found.preset


def test_page_of_systems_is_what_the_presets_say() -> None:
    from config.preset_pages import systems_page  # noqa: PLC0415 - as above
    from config.presets import every_preset  # noqa: PLC0415 - as above

    again = "run: handoff list presets --markdown > docs/reference/systems.md"
    assert (ROOT / "docs/reference/systems.md").read_text() == systems_page(every_preset(ROOT / "channels")), again


def test_keys_of_presets_are_those_that_are_read() -> None:
    from config.preset_pages import keys_tables  # noqa: PLC0415 - as above

    page = (ROOT / "docs/reference/presets.md").read_text()
    assert page.partition("## Every key\n\n")[2] == keys_tables().rstrip() + "\n"


@pytest.mark.parametrize(("page", "text"), [each for each in _blocks("yaml") if PROFILE.match(each[1])])
def test_profiles_in_the_docs_are_valid(page: str, text: str) -> None:
    from config.profiles import read_profile  # noqa: PLC0415 - as above

    profile, findings = read_profile(text.encode(), page)
    assert not [str(finding) for finding in findings], page
    assert profile


def test_yaml_in_the_docs_says_what_it_is() -> None:
    known = ("channel:", "# handoff.yaml")
    assert not [
        page
        for page, text in _blocks("yaml")
        if not text.startswith(known) and not PROFILE.match(text) and not PRESET.match(text)
    ]
