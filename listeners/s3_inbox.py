"""This module is a prefix of a bucket under which others leave objects.

A bucket has no rename, so nothing in it says that an object was begun: it stays where it is until all of it is
committed. Only then it is noted, on this machine, that it was read and where it goes; it is copied there, and deleted.
After a crash in between, the same copy goes to the same name. Each object is known by its name, size, time and ETag,
and whatever is done with it is done only as long as it has that ETag.
"""

import contextlib
import posixpath
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from broker.crash import crash_point
from broker.errors import Away, MessageError
from listeners.notes import Notes
from listeners.s3_listing import Listed, bare, read_page
from listeners.s3_requests import MOST_KEYS, Reply, Requests
from listeners.source import Refused, Seen, free_names, in_order, make_local, matches

if TYPE_CHECKING:
    from listeners.folder import FolderSpec

MOST: Final = 100_000  # objects that are looked at in one go
_SLOWEST: Final = 16_384  # bytes a second below which a copy is given up
_OK, _NOT_FOUND, _NOT_THE_SAME, _NOT_IMPLEMENTED = 200, 404, 412, 501  # RFC 9110, 15
_DELETED: Final = (200, 204)
_MANY: Final = f"more than {MOST} objects match and stay there; name a longer `prefix`, or have them moved or deleted"
_NOT_ASKED: Final = "it sends something else than what was asked for by its ETag; see what stands between us and it"
_NOT_MOVED: Final = "it cannot be moved"
_NO_LISTING: Final = "what it answers is no listing of a bucket; correct `base`"
# Codes that are about one object: archived, with a key of its own, larger than can be copied, its name too long.
_OF_ONE: Final = frozenset({"InvalidObjectState", "InvalidRequest", "EntityTooLarge", "KeyTooLongError"})
_ARCHIVED: Final = "it lies in an archive of the store ({}); have it copied to where it can be read"
_ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # classes of storage from which nothing can be got at once


def top_of(prefix: str, folder: str) -> str:
    """Return the prefix of a folder that is named relative to another, or from the top of the bucket with a slash."""
    path = posixpath.normpath(posixpath.join(f"/{prefix}", folder)).strip("/")
    return f"{path}/" if path else ""


class S3Inbox:
    """One prefix of a bucket; see `listeners.source.Source`. What is to go away is noted in ``notes`` first."""

    def __init__(self, requests: Requests, spec: "FolderSpec", local: Path, notes: Notes, seconds: float) -> None:
        self._requests = requests
        self._patterns = spec.patterns
        self._recursive = spec.recursive
        self._prefix = spec.folder
        self._claims = spec.after != "keep"
        self._done = top_of(spec.folder, spec.done) if spec.after == "move" else ""
        self._failed = top_of(spec.folder, spec.failed)
        self._ours = tuple(filter(None, (self._done, self._failed))) if self._claims else ()
        self._local = local
        self._notes = notes
        self._seconds = seconds

    @property
    def where(self) -> str:
        """The place and the prefix."""
        return self._requests.at(self._prefix)

    def open(self) -> None:
        """Make the local folder for copies. Raises `NotReady`."""
        make_local(self._local)

    def close(self) -> None:
        """Close every connection that nobody uses."""
        self._requests.close()

    def begun(self) -> list[Seen]:
        """Return nothing: an object that was begun still waits, and what was noted is told when it is claimed."""
        return []

    def waiting(self) -> list[Seen]:
        """Return the objects that match, the oldest first."""
        found = in_order(self._listed())
        if self._claims:
            self._notes.keep_only(found)
        return found

    def _listed(self) -> Iterator[Seen]:
        count = 0
        for each in self._objects():
            if not self._fits(each.key):
                continue
            count += 1
            if count > MOST and self._claims:
                return  # the others come once these are gone
            if count > MOST:
                raise Away(self._requests.told(_MANY))
            wrong = _ARCHIVED.format(each.storage) if each.storage in _ARCHIVES else ""
            yield Seen(each.key.removeprefix(self._prefix), each.size, each.modified, version=each.tag, wrong=wrong)

    def _fits(self, key: str) -> bool:
        if not key.startswith(self._prefix) or key.startswith(self._ours):
            return False
        *folders, last = key.removeprefix(self._prefix).split("/")
        return matches(last, self._patterns) and not any(each.startswith(".") for each in folders)

    def _objects(self) -> Iterator[Listed]:
        """Yield what is under the prefix, a page at a time."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(MOST_KEYS), "prefix": self._prefix}
        if not self._recursive:
            query["delimiter"] = "/"
        while True:
            reply = self._requests.ask("GET", query=query)
            if reply.status != _OK:
                raise self._requests.trouble(reply, "s3:ListBucket")
            try:
                page = read_page(reply.body, query.get("continuation-token", ""))
            except (MessageError, ValueError):
                raise Away(self._requests.told(_NO_LISTING)) from None
            yield from page.objects
            if not page.following:
                return
            query["continuation-token"] = page.following

    def is_written(self, seen: Seen) -> bool:  # noqa: ARG002 - an object is whole or not there
        """Return False: an object is there once all of it is."""
        return False

    def claim(self, seen: Seen) -> bool:
        """Say that an object is to be read, unless it was, and only has to go away yet."""
        if not self._notes.was_read(seen):
            return True
        self._put_away(seen, self._notes.target(seen))
        return False

    def fetch(self, seen: Seen) -> BinaryIO | None:
        """Copy an object; None when it is gone or another now."""
        with contextlib.ExitStack() as unless_whole:
            copied = unless_whole.enter_context(tempfile.TemporaryFile(dir=self._local))
            reply = self._requests.ask("GET", self._key(seen), headers=_only(seen), into=copied, size=seen.size)
            if _is_gone(reply):
                return None
            if reply.status != _OK:
                raise self._trouble(reply, "s3:GetObject", "it cannot be read")
            if not reply.is_whole or copied.tell() != seen.size or _tag(reply) != seen.version:
                raise Away(self._requests.told(_NOT_ASKED))
            copied.seek(0)
            unless_whole.pop_all()
            return copied

    def end(self, seen: Seen, *, well: bool) -> None:
        """Note that an object was read, copy it to where it stays, and delete it where it was."""
        folder = self._done if well else self._failed
        target = self._free_key(folder, seen.name) if folder else ""
        self._notes.note_read(seen, target)
        self._put_away(seen, target)

    def _free_key(self, folder: str, name: str) -> str:
        for each in free_names(name):
            reply = self._requests.ask("HEAD", folder + each)
            if reply.status == _NOT_FOUND:
                return folder + each
            if reply.status != _OK:
                raise self._trouble(reply, f"s3:GetObject below {folder}", _NOT_MOVED)
        raise AssertionError("names do not end")  # pragma: no cover

    def _put_away(self, seen: Seen, target: str) -> None:
        """Copy an object that was read and delete it, unless it is gone or another now, which is read in its turn."""
        if target and not self._copy(seen, target):
            return
        crash_point("file.copied")
        key = self._key(seen)
        reply = self._requests.ask("HEAD", key)  # not every store heeds If-Match when it deletes
        if _is_gone(reply) or (reply.status == _OK and _tag(reply) != seen.version):
            return
        if reply.status == _OK:
            reply = self._requests.ask("DELETE", key, headers=_only(seen))
            if reply.status == _NOT_IMPLEMENTED:  # one that has not heard of it may say so
                reply = self._requests.ask("DELETE", key)
            if reply.status in _DELETED or _is_gone(reply):
                return
        raise self._trouble(reply, "s3:GetObject and s3:DeleteObject", "it cannot be deleted")

    def _copy(self, seen: Seen, target: str) -> bool:
        """Copy an object within the bucket; False when it is gone or another now."""
        source = {"x-amz-copy-source": self._requests.source(self._key(seen))}
        reply = self._requests.ask("PUT", target, headers=source | _only(seen, "x-amz-copy-source-if-match"))
        # A copy that fails half way is told in an answer that begins as if all were well.
        if reply.status == _OK and not reply.code:
            return True
        if _is_gone(reply):
            return False
        raise self._trouble(reply, f"s3:GetObject, and s3:PutObject below {target.rpartition('/')[0]}/", _NOT_MOVED)

    def _key(self, seen: Seen) -> str:
        return self._prefix + seen.name

    def _trouble(self, reply: Reply, needs: str, words: str) -> Away | Refused:
        """Say what keeps an object from being read or moved: itself, or something that somebody will mend."""
        if reply.code in _OF_ONE:
            return Refused(f"{words}, says the store (HTTP {reply.status}, {reply.code})")
        return self._requests.trouble(reply, needs)

    def patience(self, size: int) -> float:
        """Return what a few answers may take, and the copy of an object of this size."""
        return self._seconds + size / _SLOWEST


def _only(seen: Seen, header: str = "If-Match") -> dict[str, str]:
    """Return the header with which a request is about an object as it was seen, and about no other."""
    return {header: f'"{seen.version}"'}


def _tag(reply: Reply) -> str:
    return bare(reply.headers.get("etag", ""))


def _is_gone(reply: Reply) -> bool:
    """Say whether an object is not there any more, or is another now."""
    return reply.status == _NOT_THE_SAME or (reply.status == _NOT_FOUND and reply.code != "NoSuchBucket")
