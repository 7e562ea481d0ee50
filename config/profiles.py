"""This module reads profiles of validation: YAML files below the channels folder, as strict as channel files are."""

from typing import Final

from broker.errors import ConfigError
from config.findings import Finding, has_errors, report
from config.marks import Keys, Marks
from config.strict_yaml import read_bytes
from config.wording import validate
from transforms.profile import Profile, mistakes

_NAMING: Final = frozenset({"type", "table"})  # keys whose value is what is wrong


def read_profile(data: bytes, name: str, version: str = "") -> tuple[Profile | None, list[Finding]]:
    """Return the profile that a file holds, or None, and what is wrong with it; ``version`` of HL7 it is for."""
    tree = read_bytes(data, name)
    findings = list(tree.findings)
    if not tree.usable:
        return None, findings
    profile = validate(Profile, tree.value, (), tree.marks, findings)
    if profile is not None:
        findings += [_finding(keys, text, hint, tree.marks) for keys, text, hint in mistakes(profile, version)]
    return (None if has_errors(findings) else profile), findings


def load_profile(data: bytes, name: str, version: str = "") -> Profile:
    """Return the profile that a file holds. Raises `ConfigError` with everything that is wrong with it."""
    profile, findings = read_profile(data, name, version)
    if profile is None:
        raise ConfigError(report(findings))
    return profile


def _finding(keys: Keys, text: str, hint: str, marks: Marks) -> Finding:
    mark = marks.value(keys) if keys[-1] in _NAMING else marks.key(keys)
    return mark.finding("E207", text, hint)
