"""This module reads presets: those that come along, and a site's own in the folder ``presets`` beside its channels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

import dispatch
from broker.errors import ConfigError, HandoffError
from config.findings import Finding, did_you_mean, has_errors, report, shown
from config.marks import Keys, Marks, show
from config.strict_yaml import read_bytes
from config.wording import validate
from dispatch.web.preset import VARIABLE, OperationSpec, PresetSpec, reads, texts_in, variables_in

OWN: Final = Path(str(dispatch.__file__)).parent / "presets"
FOLDER: Final = "presets"  # below the channels folder
_SUFFIX: Final = ".yaml"


@dataclass(frozen=True, slots=True)
class ReadPreset:
    """What a preset's file says: the preset (None where there is a mistake), its content, and what is wrong."""

    preset: PresetSpec | None
    tree: Any
    marks: Marks
    findings: tuple[Finding, ...] = ()


def preset_files(channels: Path) -> dict[str, Path]:
    """Return the files of all presets by their names; a site's own goes before one of ours."""
    folders = (OWN, channels / FOLDER)
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def read_preset(path: Path) -> ReadPreset:
    """Read one file; templates are not looked at (see `check_templates`)."""
    try:
        tree = read_bytes(path.read_bytes(), shown(path))
    except OSError as error:
        text = f"this file cannot be read ({error.strerror})"
        tree = read_bytes(b"", shown(path))
        return ReadPreset(None, None, tree.marks, (Finding(shown(path), 0, 0, 0, "E109", text),))
    findings = list(tree.findings)
    if not tree.usable:
        return ReadPreset(None, None, tree.marks, tuple(findings))
    preset = validate(PresetSpec, tree.value, (), tree.marks, findings)
    if preset is not None:
        findings += _mistakes(preset, path, tree.marks)
    return ReadPreset(None if has_errors(findings) else preset, tree.value, tree.marks, tuple(findings))


def _mistakes(preset: PresetSpec, path: Path, marks: Marks) -> Iterator[Finding]:
    """Give what is wrong with a preset beyond its form."""
    if preset.preset != path.stem:
        text = f'the preset is called "{preset.preset}" and its file {path.name}'
        yield marks.value(("preset",)).finding("E221", text, f"call it {preset.preset}{_SUFFIX}")
    texts: list[tuple[Keys, str]] = [(("base",), preset.base)]
    texts += [(("headers", name), text) for name, text in preset.headers.items()]
    for kind, defaults in preset.auth.items():
        texts += [(("auth", kind, name), text) for name, inner in defaults.items() for text in texts_in(inner)]
    for keys, text in texts:
        for name in variables_in(text):
            if name not in preset.variables:
                hint = did_you_mean(name, preset.variables)
                yield marks.value(keys).finding("E221", f"{show(keys)}: there is no variable {name}", hint)
    for name, variable in preset.variables.items():
        if variable.default is not None and not VARIABLE.fullmatch(variable.default):
            keys = ("variables", name, "default")
            yield marks.value(keys).finding("E221", f"{show(keys)} needs {_VARIABLE_WORDS}")


_VARIABLE_WORDS: Final = "letters, digits, dots, hyphens and underscores, as in a host name"


def check_templates(found: ReadPreset, kit: Any) -> tuple[Finding, ...]:
    """Compile the templates of a preset; ``kit`` is a `config.compiling.CheckingKit`, which notes mistakes."""
    from dispatch.web.rendering import RequestRenderer  # noqa: PLC0415 - who only reads presets compiles no templates

    if found.preset is None:
        return ()
    findings: list[Finding] = []
    for name, operation in found.preset.operations.items():
        keys: Keys = ("operations", name)
        given = {value: "x" for value, spec in operation.values.items() if spec.is_needed}
        try:
            RequestRenderer(kit, name, operation, given)
        except (HandoffError, ValueError) as error:
            findings.append(found.marks.key(keys).finding("E221", f"{show(keys)}: {error}"))
        findings += kit.placed(found.tree, keys, found.marks)
        findings += _unused(operation, keys, found.marks)
    return tuple(findings)


def _unused(operation: OperationSpec, keys: Keys, marks: Marks) -> Iterator[Finding]:
    """Warn of values that no template of an operation reads: most likely one of them has a slip of the pen."""
    texts = list(texts_in(operation.model_dump(include={*operation.PARTS, "find"})))
    for name in operation.values:
        if not any(reads(text, name) for text in texts):
            mark = marks.key((*keys, "values", name))
            yield mark.finding("E221", f"{show(keys)}: nothing reads the value {name}", severity="warning")


def load_preset(tree: Any) -> PresetSpec:
    """Return the preset that a tree holds which was checked before."""
    return PresetSpec.model_validate_json(orjson.dumps(tree), strict=True)


def load_presets(trees: Mapping[str, Any]) -> dict[str, PresetSpec]:
    """Return presets by the names of their systems."""
    return {name: load_preset(tree) for name, tree in trees.items()}


def every_preset(channels: Path) -> dict[str, PresetSpec]:
    """Return all presets by name. Raises `ConfigError` with everything that is wrong with them."""
    read = {name: read_preset(path) for name, path in preset_files(channels).items()}
    wrong = [finding for found in read.values() for finding in found.findings if finding.severity == "error"]
    if wrong:
        raise ConfigError(report(wrong))
    return {name: found.preset for name, found in sorted(read.items()) if found.preset is not None}
