"""This module is a job that exports from a FHIR server: begun, asked how far it is, and removed.

Source: FHIR Bulk Data Access (hl7.org/fhir/uv/bulkdata, export.html), "Bulk Data Kick-off Request", "Bulk Data Status
Request" and "Bulk Data Delete Request".
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlencode, urljoin

import orjson

from broker.errors import Away
from broker.fhir.source import FhirSource
from listeners.fhir_address import is_address, same_origin
from listeners.fhir_manifest import Manifest, NoManifest, read_manifest

_OK: Final = 200
_ACCEPTED: Final = 202  # it has begun, or goes on
_PERCENT: Final = re.compile(r"\b(\d{1,2}|100) ?%", re.ASCII)
_LATER: Final = frozenset({401, 408, 425, 429, 502, 503, 504})  # these say nothing of the job
_LIST: Final = "application/json, application/fhir+json;q=0.9"  # refusals are FHIR's
_FAILED_PAUSE: Final = 600.0  # seconds until a job is begun again after one that failed: they cost a server much


class JobFailed(Away):
    """There is no such job, or it came to nothing: another one has to be begun."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason, max(after or 0.0, _FAILED_PAUSE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is kept of a channel's exports: all that another engine needs to go on."""

    since: str = ""  # the moment up to which everything was exported
    job: str = ""  # the address of the one that runs
    began: float = 0.0  # POSIX seconds: when the last one was asked for, unless that came to nothing
    done: Sequence[str] = ()  # files that are read (`ExportFile.mark`)
    faults: Sequence[str] = ()  # why it is not whole
    over: str = ""  # the address of one that is read, and still there

    @classmethod
    def of(cls, noted: bytes) -> "Progress":
        """Read what `noted` gave."""
        return cls(**orjson.loads(noted))

    def noted(self) -> bytes:
        """Return it as bytes."""
        return orjson.dumps(self)


class Running(NamedTuple):
    """A job that has not ended: after how many seconds it wants to be asked again, and how far it is, or None."""

    after: float | None
    percent: int | None


class ExportJob:
    """The jobs of one server for one channel; ``path`` is where they are asked for, below its base."""

    def __init__(self, source: FhirSource, path: str, asked: Sequence[tuple[str, str]]) -> None:
        self._source = source
        self._path = path
        self._asked = asked

    async def begin(self, since: str) -> str:
        """Have an export begun of what was changed after ``since``; return the job's address.

        Raises `Away`.
        """
        asked = [*self._asked, *([("_since", since)] if since else [])]
        address = f"{self._source.base}/{self._path}" + (f"?{urlencode(asked)}" if asked else "")
        said = await self._source.ask(address, headers={"Prefer": "respond-async"})
        if said.status != _ACCEPTED:
            raise Away(said.reason, said.after)
        job = urljoin(address, said.headers.get("content-location", ""))
        if "content-location" not in said.headers or not is_address(job):
            raise JobFailed("it began an export and does not say where (no Content-Location)")
        if not same_origin(job, self._source.base):
            text = "it began an export at another address than its `base` in handoff.yaml, which must not get our token"
            raise JobFailed(f"{text}; have the server told its own address, or correct `base`")
        return job

    async def ask(self, job: str) -> Manifest | Running:
        """Return what the job has made, or how far it is.

        Raises `JobFailed` where there is none any more, and `Away`.
        """
        said = await self._source.ask(job, headers={"Accept": _LIST})
        if said.status == _ACCEPTED:
            percent = _PERCENT.search(said.headers.get("x-progress", ""))  # any text, of which no more is repeated
            return Running(said.after, int(percent[1]) if percent else None)
        if said.status in _LATER or "transient" in said.codes:
            raise Away(said.reason, said.after)
        if said.status != _OK:
            raise JobFailed(f"the export failed: {said.reason}", said.after)
        try:
            return read_manifest(said.body)
        except NoManifest as error:
            raise JobFailed(str(error)) from None

    async def remove(self, job: str) -> None:
        """Have a job removed together with its files; where that fails, the server does it in its own time."""
        with suppress(Away):
            await self._source.ask(job, method="DELETE")
