"""This module checks the folders that channels read from: that their places are there, and nobody reads another's."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from config.channel import ListenPlan
from config.findings import Finding, did_you_mean
from config.marks import Keys, Marks
from config.settings import Settings
from listeners.folder import FolderSpec
from listeners.imap import ImapSpec

_KINDS: Final = {"sftp": "SFTP server", "s3": "bucket"}


class FolderOf(NamedTuple):
    """One channel: its name, what it listens to, and where that stands."""

    channel: str
    listen: ListenPlan | None
    marks: Marks


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder as it can be compared with others: on which server, from the root, and what is read of it."""

    place: str
    path: str
    patterns: tuple[str, ...]
    recursive: bool


def check_folders(channels: Sequence[FolderOf], settings: Settings) -> Iterator[Finding]:
    """Yield what is wrong with the folders that channels read."""
    taken: list[tuple[str, _Folder]] = []
    for channel, listen, marks in channels:
        if listen is None or not isinstance(spec := listen.spec, FolderSpec):
            continue
        place = str(getattr(spec, "place", ""))
        if place:
            yield from _no_place(place, listen.kind, marks, settings)
        ours = _Folder(place, _absolute(spec, place, settings), spec.patterns, spec.recursive)
        option = type(spec).model_fields["folder"].alias or "folder"
        mark = marks.value(("listen", listen.kind, option))
        for owner, other in taken:
            if wrong := _shared(ours, other):
                text = f"listen.{listen.kind}.{option}: channel {owner} reads {wrong} already"
                yield mark.finding("E304", text, f"choose another {option} or another pattern")
                break
        taken.append((channel, ours))


def check_mailboxes(channels: Sequence[FolderOf]) -> Iterator[Finding]:
    """Yield where two channels read the same folder of a mailbox: each mail would go to one of them, by chance."""
    taken: dict[tuple[str, str], str] = {}
    for channel, listen, marks in channels:
        if listen is None or not isinstance(spec := listen.spec, ImapSpec):
            continue
        owner = taken.setdefault((spec.mailbox, spec.folder), channel)
        if owner != channel:
            keys = ("listen", listen.kind, "mailbox")
            text = f"listen.{listen.kind}: channel {owner} reads this folder of the mailbox already"
            yield marks.value(keys).finding("E304", text, "choose another folder or another mailbox")


def _no_place(place: str, kind: str, marks: Marks, settings: Settings) -> Iterator[Finding]:
    keys: Keys = ("listen", kind, "place")
    fitting = [name for name, each in settings.places.items() if getattr(each, kind) is not None]
    if place in settings.places and place not in fitting:  # one that is not there at all is told of elsewhere
        text = f'{".".join(map(str, keys))} names "{place}", which is no {_KINDS[kind]} of handoff.yaml'
        hint = did_you_mean(place, fitting) or f"add `places: {{{place}: {{{kind}: …}}}}` to handoff.yaml"
        yield marks.value(keys).finding("E301", text, hint)


def _absolute(spec: Any, place: str, settings: Settings) -> str:
    root = str(settings.root)
    if place:
        root = "/" if spec.word == "s3" else ""  # where a user begins on a server, nobody knows here
    return posixpath.normpath(posixpath.join(root, spec.folder))


def _shared(ours: _Folder, other: _Folder) -> str:
    """Say what of two folders is the same: a file there would go to one of two channels, by chance."""
    if ours.place != other.place or not _may_meet(ours.patterns, other.patterns):
        return ""
    if ours.path == other.path:
        return "these files"
    inner, outer = (ours, other) if ours.path.startswith(f"{other.path.rstrip('/')}/") else (other, ours)
    if outer.recursive and inner.path.startswith(f"{outer.path.rstrip('/')}/"):
        return "what is below its folder" if outer is other else "a folder in it"
    return ""


def _may_meet(ours: Sequence[str], others: Sequence[str]) -> bool:
    """Say whether a name is sure to fit both: the same pattern, or all names on one side."""
    return "*" in ours or "*" in others or not set(ours).isdisjoint(others)
