"""This module changes single values of the configuration from outside: ``--set listen.mllp.endpoint=127.0.0.1:2576``.

The first word of the path decides: a key of ``handoff.yaml``, a channel's name, or a key of every channel that has
what the path leads to. Steps are counted from 1 (``steps.2.filter=…``). The value follows the rules of unquoted YAML.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from config.findings import Finding, did_you_mean
from config.marks import Keys, Mark, Marks, Source
from config.strict_yaml import read, scalar

# Blocks in which every key has a default: they may be given where the file has none.
_OPTIONAL_BLOCKS: Final = frozenset({"retry", "index", "labels", "console", "sandbox"})


@dataclass(frozen=True, slots=True)
class Override:
    """One override: the words of its path, its value, and where it was given."""

    path: tuple[str, ...]
    value: Any
    mark: Mark  # the whole of it

    @property
    def path_mark(self) -> Mark:
        """Return where its path was written."""
        return Mark(self.mark.source, self.mark.start, self.mark.start + len(".".join(self.path)))

    @property
    def value_mark(self) -> Mark:
        """Return where its value was written."""
        return Mark(self.mark.source, self.path_mark.end + 1, self.mark.end)


def parse(texts: Iterable[str], name: str, findings: list[Finding]) -> list[Override]:
    """Read overrides ``path=value``; ``name`` is what people know their source by: ``--set`` or a variable."""
    overrides = []
    for text in texts:
        override = _parse(Source(name, text), 0, len(text), findings)
        if override is not None:
            overrides.append(override)
    return overrides


def parse_list(text: str, name: str, findings: list[Finding]) -> list[Override]:
    """Read overrides separated by semicolons, as a variable of the environment holds them."""
    source, start, overrides = Source(name, text), 0, []
    for part in text.split(";"):
        left = len(part) - len(part.lstrip())
        if part.strip():
            override = _parse(source, start + left, start + left + len(part.strip()), findings)
            if override is not None:
                overrides.append(override)
        start += len(part) + 1
    return overrides


def _parse(source: Source, start: int, end: int, findings: list[Finding]) -> Override | None:
    text, mark = source.text[start:end], Mark(source, start, end)
    path, equals, written = text.partition("=")
    words = tuple(path.split("."))
    if not equals or not all(word.strip() == word and word for word in words):
        findings.append(
            mark.finding("E503", "an override is written path=value", "such as deliver.ehr.retry.attempts=3")
        )
        return None
    if written[:1] not in {"'", '"'}:
        return Override(words, scalar(written), mark)
    tree = read(Source(source.name, written))
    if tree.findings or not isinstance(tree.value, str):
        findings.append(mark.finding("E503", "the quotes of this value do not match", "write path='value'"))
        return None
    return Override(words, tree.value, mark)


def apply_to_settings(
    overrides: Iterable[Override], keys: Sequence[str], tree: dict[str, Any], marks: Marks, findings: list[Finding]
) -> list[Override]:
    """Apply the overrides whose first word is a key of the settings; return the others."""
    others = []
    for override in overrides:
        if override.path[0] not in keys:
            others.append(override)
        elif not _put(override, override.path, tree, marks, may_create=True):
            findings.append(_nothing(override, f"handoff.yaml has nothing below {'.'.join(override.path[:-1])}"))
    return others


def apply_to_channels(
    overrides: Iterable[Override],
    channels: Sequence[tuple[str, dict[str, Any], Marks]],
    channel_keys: Sequence[str],
    setting_keys: Sequence[str],
    findings: list[Finding],
) -> None:
    """Apply overrides to the trees of channels, given with their names; report those that match nothing."""
    names = [name for name, _, _ in channels]
    for override in overrides:
        first = override.path[0]
        if first in names and len(override.path) > 1:
            chosen = [(tree, marks) for name, tree, marks in channels if name == first]
            path = override.path[1:]
        elif first in channel_keys:
            chosen, path = [(tree, marks) for _, tree, marks in channels], override.path
        else:
            hint = did_you_mean(first, [*names, *channel_keys, *setting_keys])
            findings.append(_nothing(override, f'"{first}" is no channel, no key of a channel and no setting', hint))
            continue
        applied = [_put(override, path, tree, marks) for tree, marks in chosen]
        if not any(applied):
            parent = ".".join(path[:-1])
            where = f"channel {first}" if first in names else "no channel"
            has = "has no" if first in names else "has"
            findings.append(_nothing(override, f"{where} {has} {parent}"))


def _nothing(override: Override, text: str, hint: str = "") -> Finding:
    return override.path_mark.finding("E503", f"the override matches nothing: {text}", hint)


def _put(
    override: Override, path: tuple[str, ...], tree: dict[str, Any], marks: Marks, *, may_create: bool = False
) -> bool:
    """Put the value where the path leads; return False where its parent is not there."""
    owner: Any = tree
    keys: Keys = ()
    for place, word in enumerate(path[:-1]):
        key = _key(owner, word)
        if key is None and isinstance(owner, dict) and (may_create or _may_appear(path, place)):
            owner[word], key = {}, word
        if key is None:
            return False
        if owner[key] is None:
            owner[key] = {}
        owner, keys = owner[key], (*keys, key)
    last = _key(owner, path[-1])
    if last is None:
        if not isinstance(owner, dict):
            return False
        last = path[-1]
    owner[last] = override.value
    whole = override.value_mark
    marks.put((*keys, last), whole)
    marks.keys[(*keys, last)] = override.path_mark
    return True


def _may_appear(path: tuple[str, ...], place: int) -> bool:
    return path[place] in _OPTIONAL_BLOCKS and place == len(path) - 2


def _key(owner: Any, word: str) -> str | int | None:
    """Return the key or number that a word means in a mapping or list, if that is there."""
    if isinstance(owner, dict):
        return word if word in owner else None
    if isinstance(owner, list) and word.isdecimal() and 0 < int(word) <= len(owner):
        return int(word) - 1
    return None
