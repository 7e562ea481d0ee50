"""This module checks every channel file at once: what is written, what it compiles to, and how files fit together."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from config.channel import ChannelPlan, ChannelSpec, Draft, read_channel
from config.compiling import CheckingKit, Compiling
from config.confining import REMEDY, what_is_missing
from config.consenting import check_consents
from config.ehr_check import check_writes
from config.findings import Finding, did_you_mean, has_errors, in_order, shown
from config.folders import FolderOf, check_folders, check_mailboxes
from config.holidays import put_holidays
from config.marks import Keys, Marks, show
from config.overrides import Override, apply_to_channels
from config.presets import ReadPreset, check_templates, preset_files, read_preset
from config.relays import Relaying, check_relays
from config.secrets import written_out
from config.settings import FILE, Settings, setting_keys
from config.strict_yaml import Tree, read_bytes
from config.systems import check_operation
from config.tls_check import check_tls
from config.wording import NAME_PATTERN
from dispatch.web.preset import PresetSpec

_WILDCARDS: Final = frozenset({"0.0.0.0", "::", "[::]"})  # noqa: S104 - compared with, not bound to
_MLLP: Final = "HANDOFF_MLLP"


# Who has an endpoint or folder, what it is, and the listener, where it is one.
_Taken = tuple[str, str, Any]


class Checked(NamedTuple):
    """The channels without mistakes, by name, and everything that was found, in order."""

    channels: tuple[ChannelPlan, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Say whether the engine may run with this."""
        return not has_errors(self.findings)


@dataclass(slots=True)
class _File:
    """One channel file on its way."""

    path: Path
    tree: Tree
    findings: list[Finding]
    draft: Draft | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    presets: dict[str, Any] = field(default_factory=dict)  # of the systems that it names

    @property
    def marks(self) -> Marks:
        return self.tree.marks

    @property
    def name(self) -> str:
        """Return the channel's name, or nothing where it has none."""
        name = self.tree.value.get("channel") if isinstance(self.tree.value, dict) else None
        return name if isinstance(name, str) else ""


def check(settings: Settings) -> Checked:
    """Check all channel files below ``settings.channels``; nothing of what they say is run."""
    findings = [*settings.findings, *_machine()]
    files = [_read(path) for path in _paths(settings.channels, findings)]
    readable = [file for file in files if file.tree.usable]
    _override(settings, readable, findings)
    presets = _presets(settings, findings)
    for file in readable:
        _check_file(file, settings, presets)
    findings += _clashes(readable, settings)
    findings += check_relays([Relaying(file.name, file.draft, file.marks) for file in readable if file.draft])
    listening = [FolderOf(file.name, file.draft.listen, file.marks) for file in readable if file.draft]
    findings += check_folders(listening, settings)
    findings += check_mailboxes(listening)
    findings += _unread_replies(readable, settings)
    for file in files:
        findings += file.findings
    plans = [plan for file in readable if (plan := _plan(file)) is not None]
    return Checked(tuple(sorted(plans, key=lambda plan: plan.name)), tuple(in_order(findings)))


def check_without_settings(root: Path, folder: Path) -> tuple[Finding, ...]:
    """Check channel files while handoff.yaml cannot be used: what they name of it is left alone."""
    findings: list[Finding] = []
    for file in [_read(path) for path in _paths(folder, [])]:
        if file.tree.usable:
            _check_itself(file, root, folder, {})
        findings += file.findings
    return tuple(in_order(findings))


def _machine() -> Iterator[Finding]:
    """Report what this machine cannot do for the engine."""
    if missing := what_is_missing():
        yield Finding("this machine", 0, 0, 0, "E601", missing, REMEDY, "warning")


def _paths(folder: Path, findings: list[Finding]) -> list[Path]:
    if not folder.is_dir():
        hint = "name another with `channels:` in handoff.yaml or HANDOFF_CHANNELS"
        findings.append(Finding(shown(folder), 0, 0, 0, "E109", "there is no such folder of channels", hint))
        return []
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".yaml", ".yml"} and path.is_file())
    if not paths:
        text = "there is no channel file in this folder"
        findings.append(Finding(shown(folder), 0, 0, 0, "E109", text, "add <channel>.yaml", "warning"))
    return paths


def _read(path: Path) -> _File:
    try:
        tree = read_bytes(path.read_bytes(), shown(path))
    except OSError as error:
        tree = read_bytes(b"", shown(path))
        text = f"this file cannot be read ({error.strerror})"
        tree = Tree(None, tree.marks, (Finding(shown(path), 0, 0, 0, "E109", text),), usable=False)
    return _File(path, tree, list(tree.findings))


def _presets(settings: Settings, findings: list[Finding]) -> dict[str, ReadPreset]:
    """Read, as they are now, the presets of the systems in handoff.yaml, by the systems' names."""
    files = preset_files(settings.channels) if settings.systems else {}
    read: dict[str, ReadPreset] = {}
    for name in dict.fromkeys(system.preset for system in settings.systems.values()):
        if name in files:
            found = read_preset(files[name])
            wrong = [*found.findings, *check_templates(found, CheckingKit(settings.channels))]
            findings += wrong
            read[name] = replace(found, preset=None) if has_errors(wrong) else found
    return {name: read[system.preset] for name, system in settings.systems.items() if system.preset in read}


def _override(settings: Settings, files: list[_File], findings: list[Finding]) -> None:
    channels = [(file.name, file.tree.value, file.marks) for file in files if isinstance(file.tree.value, dict)]
    ordinary = [override for override in settings.overrides if override.mark.source.name != _MLLP]
    of_mllp = [override for override in settings.overrides if override.mark.source.name == _MLLP]
    if of_mllp:
        having = [
            name for name, tree, _ in channels if isinstance(tree.get("listen"), dict) and "mllp" in tree["listen"]
        ]
        if len(having) == 1:
            ordinary = [*of_mllp, *ordinary]
        else:
            findings.append(_not_one(of_mllp[0], having))
    apply_to_channels(ordinary, channels, list(ChannelSpec.model_fields), setting_keys(), findings)


def _not_one(override: Override, names: list[str]) -> Finding:
    text = f"{_MLLP} is for one MLLP channel, and there are {len(names) or 'none'}"
    hint = f"use --set <channel>.listen.mllp.endpoint=… ({', '.join(names)})" if names else ""
    return override.mark.finding("E501", text, hint)


def _check_file(file: _File, settings: Settings, presets: Mapping[str, ReadPreset]) -> None:
    usable = {name: found.preset for name, found in presets.items() if found.preset is not None}
    draft = _check_itself(file, settings.root, settings.channels, usable)
    _check_named(file, draft, settings)
    file.findings += check_consents(draft, file.marks)
    for plan in draft.deliver:
        file.findings += check_tls(plan.spec, file.marks, settings.root, ("deliver", plan.name, plan.kind))
        file.findings += check_writes(plan, file.files, settings, file.marks)
        found = presets.get(getattr(plan.spec, "system", ""))
        if found is not None:
            file.presets[plan.spec.system] = found.tree  # type: ignore[attr-defined]  # it has one, or nothing was found
            if found.preset is not None:
                file.findings += check_operation(plan, found.preset, file.marks)
    if isinstance(file.tree.value, dict) and not file.tree.value.get("deliver"):
        text = "the channel delivers to nobody; its messages are only stored"
        file.findings.append(file.marks.key(("deliver",)).finding("E307", text, "add `deliver:`", "warning"))


def _check_itself(file: _File, root: Path, folder: Path, presets: Mapping[str, PresetSpec]) -> Draft:
    """Check what a file says by itself: its form, and what it compiles to."""
    file.findings += written_out(file.tree.value, file.marks)
    file.findings += put_holidays(file.tree.value, file.marks, root)
    file.draft = read_channel(file.tree.value, file.marks, file.findings)
    _check_name(file)
    if file.draft.format is not None:  # else nobody knows what expressions may use
        charset = file.draft.listen.charset if file.draft.listen is not None else None
        kit = CheckingKit(folder, file.draft.format.spec.build(charset), presets)
        Compiling(file.draft, file.marks, file.findings, kit).compile()
        file.files = kit.files
    return file.draft


def _check_name(file: _File) -> None:
    name, keys = file.name, ("channel",)
    if name in setting_keys() or name in ChannelSpec.model_fields:
        text = f'"{name}" has a meaning of its own in overrides'
        file.findings.append(file.marks.value(keys).finding("E111", text, "choose another name for the channel"))
    elif name != file.path.stem and re.fullmatch(NAME_PATTERN, name):
        text = f'the channel is called "{name}" and its file {file.path.name}'
        file.findings.append(file.marks.value(keys).finding("E306", text, f"call it {name}.yaml", "warning"))


def _check_named(file: _File, draft: Draft, settings: Settings) -> None:
    """Check what of handoff.yaml the listener and destinations name."""
    _check_callers(file, draft, settings)
    _check_answer(file, draft)
    tables = (
        ("gateway", settings.gateways),
        ("mail_server", settings.mail_servers),
        ("mailbox", settings.mailboxes),
        ("server", settings.servers),
        ("system", settings.systems),
        ("place", settings.places),
        ("database", settings.databases),
    )
    parts: list[tuple[Keys, Any]] = [(("deliver", plan.name, plan.kind), plan.spec) for plan in draft.deliver]
    if draft.listen is not None:
        parts.append((("listen", draft.listen.kind), draft.listen.spec))
    for place, spec in parts:
        for word, table in tables:
            name = getattr(spec, word, None)
            if isinstance(name, str) and name not in table:
                keys: Keys = (*place, word)
                words = f"{word}es" if word.endswith("x") else f"{word}s"
                hint = did_you_mean(name, table) or f"handoff.yaml has no {words}: add `{words}: {{{name}: …}}`"
                text = f'{show(keys)} names "{name}", which is no {word.replace("_", " ")} of handoff.yaml'
                file.findings.append(file.marks.value(keys).finding("E301", text, hint))


def _unread_replies(files: list[_File], settings: Settings) -> Iterator[Finding]:
    """Report gateways whose replies would go to a channel that takes none."""
    kinds = {"texts", "callbacks"}
    takers = {file.name for file in files if file.draft and file.draft.listen and file.draft.listen.kind in kinds}
    for name, gateway in settings.gateways.items():
        if gateway.replies and gateway.replies not in takers:
            text = (
                f'gateways.{name}.replies names "{gateway.replies}", which is no channel with `listen: {{texts: {{}}}}`'
            )
            hint = did_you_mean(gateway.replies, takers) if takers else "add such a channel, with `format: text`"
            yield Finding(shown(settings.root / FILE), 0, 0, 0, "E301", text, hint)


def _check_callers(file: _File, draft: Draft, settings: Settings) -> None:
    """Check the callers that a listener over HTTP names: that they are there, and of a kind that it can tell."""
    spec: Any = draft.listen.spec if draft.listen is not None else None
    for number, name in enumerate(getattr(spec, "callers", ())):
        keys: Keys = ("listen", draft.listen.kind if draft.listen is not None else "", "callers", number)
        mark = file.marks.value(keys)
        if name not in settings.callers:
            hint = did_you_mean(name, settings.callers) or f"add `callers: {{{name}: …}}` to handoff.yaml"
            text = f'{show(keys)} names "{name}", which is no caller of handoff.yaml'
            file.findings.append(mark.finding("E301", text, hint))
        elif not set(settings.callers[name].kinds()) & spec.caller_kinds:
            text = f'{show(keys)}: "{name}" proves who it is in a way that this listener cannot tell'
            hint = f"give it one of: {', '.join(sorted(spec.caller_kinds))}"
            file.findings.append(mark.finding("E301", text, hint))


def _check_answer(file: _File, draft: Draft) -> None:
    """Check that what a listener over HTTP answers with is there: one of the channel's destinations."""
    spec: Any = draft.listen.spec if draft.listen is not None else None
    wanted = getattr(getattr(spec, "answer", None), "destination", "")
    keys: Keys = ("listen", draft.listen.kind if draft.listen is not None else "", "answer", "from")
    names = draft.tree.get("deliver")
    if wanted and wanted not in (names if isinstance(names, dict) else {}):
        hint = did_you_mean(wanted, names or {}) or f"add `{wanted}` to `deliver`"
        text = f'{show(keys)} names "{wanted}", and the channel delivers to nobody of that name'
        file.findings.append(file.marks.value(keys).finding("E301", text, hint))
    elif wanted and draft.format is not None and draft.format.kind == "hl7":
        text = f"{show(keys)}: HL7 v2 is answered with an acknowledgment"
        file.findings.append(file.marks.value(keys).finding("E301", text, "use `stored` or `steps`"))


def _clashes(files: list[_File], settings: Settings) -> Iterator[Finding]:
    names: dict[str, _File] = {}
    taken: list[_Taken] = [("the console", settings.console.endpoint, None)]
    if settings.sandbox.enabled:
        taken.append(("the sandbox", settings.sandbox.endpoint, None))
    for file in files:
        if file.name and file.name in names:
            text = f'another channel is called "{file.name}" as well'
            hint = f"it is in {shown(names[file.name].path)}"
            yield file.marks.value(("channel",)).finding("E305", text, hint)
        names.setdefault(file.name, file)
        yield from _taken_endpoint(file, taken)
        yield from _taken_by_partners(file, taken)


def _taken_endpoint(file: _File, taken: list[_Taken]) -> Iterator[Finding]:
    listen = file.draft.listen if file.draft else None
    endpoint: Any = getattr(listen.spec, "endpoint", None) if listen else None
    if listen is None or not isinstance(endpoint, str):
        return
    for owner, other, theirs in taken:
        if _same(endpoint, other) and (why := _apart(listen.spec, theirs)):
            keys: Keys = ("listen", listen.kind, "endpoint")
            text = f"{show(keys)}: {owner} listens on {other} already"
            yield file.marks.value(keys).finding("E304", text, f"choose another port{why}".rstrip())
            break
    taken.append((f"channel {file.name}", endpoint, listen.spec))


def _taken_by_partners(file: _File, taken: list[_Taken]) -> Iterator[Finding]:
    """Report endpoints on which destinations wait for partners, where others listen already."""
    for plan in file.draft.deliver if file.draft else ():
        endpoint = getattr(plan.spec, "listen", None)
        if not isinstance(endpoint, str):
            continue
        keys: Keys = ("deliver", plan.name, plan.kind, "listen")
        owner = next((each for each in taken if _same(endpoint, each[1])), None)
        if owner is not None:
            text = f"{show(keys)}: {owner[0]} listens on {owner[1]} already"
            yield file.marks.value(keys).finding("E304", text, "choose another port")
        taken.append((f"channel {file.name}", endpoint, None))


def _apart(spec: Any, theirs: Any) -> str:
    """Return why two listeners cannot have one endpoint, as part of a hint; nothing where they can share it."""
    if theirs is None or not hasattr(spec, "same_port"):
        return " "
    why = spec.same_port(theirs)
    return f"; to share it: {why}" if why else ""


def _same(one: str, other: str) -> bool:
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    if not other_port.isdecimal() or int(port) != int(other_port) or int(port) == 0:  # it may be a folder
        return False
    return host == other_host or bool({host, other_host} & _WILDCARDS)


def _plan(file: _File) -> ChannelPlan | None:
    plan = file.draft.plan() if file.draft else None
    return None if plan is None or has_errors(file.findings) else plan.sealed(file.files, file.presets)
