"""This module reads what a FHIR server says of a Bulk Data export that has ended: its files, and what went wrong.

Source: FHIR Bulk Data Access (hl7.org/fhir/uv/bulkdata, export.html), "Response - Complete Status".
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from listeners.fhir_address import is_address

_KIND: Final = re.compile(r"[A-Z][A-Za-z]{1,63}")
_BAD: Final = frozenset({"error", "fatal"})
_CODE: Final = re.compile(r"[a-z-]{1,40}")


class NoManifest(Exception):
    """The answer is no manifest that can be used; the text says why, without a value."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file of an export: the type of its resources, and where it is."""

    kind: str
    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """What we call it: the same as long as it is in the same place, whatever signature its address has."""
        place = urlsplit(self.url)._replace(query="", fragment="").geturl()
        return f"{self.kind}-{sha256(place.encode()).hexdigest()[:16]}.ndjson"

    @property
    def mark(self) -> str:
        """What it is known by once it is read; another address is another file."""
        return sha256(self.url.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export holds; ``at`` is the moment up to which it does, as the server wrote it."""

    at: str
    needs_token: bool
    output: Sequence[ExportFile]
    deleted: Sequence[ExportFile]
    errors: Sequence[ExportFile]


def read_manifest(data: bytes) -> Manifest:
    """Read a manifest; raise `NoManifest`."""
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise NoManifest("its list of files is not JSON") from None
    if not isinstance(said, dict) or not isinstance(said.get("output"), list):
        raise NoManifest("its list of files has no `output`")
    at = said.get("transactionTime")
    if not isinstance(at, str) or not is_instant(at):
        raise NoManifest("its list of files has no `transactionTime`, so nobody knows what to ask for next time")
    lists = [_files(said.get(name) or []) for name in ("output", "deleted", "error")]
    return Manifest(at, said.get("requiresAccessToken") is not False, *lists)


def is_instant(text: str) -> bool:
    """Say whether a text is a moment with an offset, as it goes into an address."""
    try:
        return text.isascii() and dt.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _files(listed: Any) -> Sequence[ExportFile]:
    if not isinstance(listed, list):
        raise NoManifest("its list of files has something else in the place of one")
    return [_file(each) for each in listed]


def _file(listed: Any) -> ExportFile:
    url = listed.get("url") if isinstance(listed, dict) else None
    if not isinstance(url, str) or not is_address(url):
        raise NoManifest("a file in its list has no address")
    kind = listed.get("type")
    return ExportFile(kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "Resource", url)


def errors_in(lines: Iterable[bytes]) -> Sequence[str]:
    """Return the codes of the errors among the OperationOutcomes of a file; warnings and notes are left out."""
    return list(dict.fromkeys(code for line in lines for code in _errors(line)))


def _errors(line: bytes) -> Sequence[str]:
    try:
        outcome = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ["?"] if line.strip() else []
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    known = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    codes = [str(issue.get("code")) for issue in known if issue.get("severity") in _BAD]
    return [code if _CODE.fullmatch(code) else "?" for code in codes]
