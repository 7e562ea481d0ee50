"""This module lets messages in from FHIR servers that export in bulk: by a schedule, what was changed since last time.

A server works on an export for minutes or hours, and then lists files of NDJSON. Which job runs and which of its files
are read is noted after each step, so another start goes on with it. A resource's version makes a repeat a duplicate at
the intake, whether a file is read again or a whole export is.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from broker.crash import crash_point
from broker.errors import Away, NotReady
from broker.fhir.source import FhirSource, find_source
from broker.formats.tree import NdjsonSpec
from broker.notices_polls import ExportBegun, ExportIncomplete, ExportProgressed, ExportRead
from broker.parts import Tools
from broker.schedule import CatchUp, ScheduleSpec
from broker.spec import Bytes, ListenerSpec, Seconds
from broker.threads import Threads
from listeners.fhir_address import same_origin
from listeners.fhir_job import ExportJob, JobFailed, Progress
from listeners.fhir_manifest import ExportFile, Manifest, errors_in
from listeners.fhir_parameters import Parameters, ResourceType, pairs_of, refuse_ours
from listeners.fhir_versions import Versions
from listeners.file_reading import FileReading, Means
from listeners.notes import Notes
from listeners.polling import Mark, Polling, PollListener, mark_name
from listeners.unpacking import UnpackSpec

_OURS: Final = frozenset({"_type", "_since", "_outputFormat", "_elements"})
_LINES: Final = {"holds": "fhir", "blank": "skip", "max_row": "16MiB"}
_ERRORS: Final = 1024 * 1024  # bytes of a file of errors that are looked at
_SHOWN: Final = 65_536  # bytes of it that are kept for an operator
_SUCCESS: Final = 200
_SHORTEST: Final = 1.0  # seconds between two questions, whatever the server says
_GONE: Final = frozenset({404, 410})


class FhirExportSpec(ListenerSpec):
    """Resources that a FHIR server exports in bulk; each version of each is one message."""

    formats: ClassVar[frozenset[str]] = frozenset({"fhir", "json"})

    server: str = Field(min_length=1, description="Name of the server, as under `servers:` in handoff.yaml.")
    schedule: ScheduleSpec = Field(description="When an export is asked for; one that runs is waited for.")
    group: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{1,64}$")] | None = Field(
        default=None, description="The id of the Group whose patients are exported."
    )
    level: Literal["patient", "system"] = Field(
        default="patient", description="Without `group`: all patients and what is theirs, or all that there is."
    )
    types: list[ResourceType] = Field(default=[], description="The types of resources; without any, all of them.")
    parameters: Parameters = Field(
        default={},
        description='More parameters, such as `{_typeFilter: "Observation?status=final"}`, each with a value or a list '
        "of them.",
    )
    since: AwareDatetime | None = Field(
        default=None,
        description="From which change on resources are exported at first, such as `2026-01-01T00:00:00Z`; else, all.",
    )
    deletions: bool = Field(
        default=False,
        description="Whether what was deleted there comes as messages, too: Bundles of `DELETE` requests.",
    )
    poll: Seconds = Field(default=60.0, ge=1, le=3600, description="How often the server is asked how far it is.")
    duration: Seconds = Field(
        default=86_400.0, gt=0, le=604_800, description="How long an export may take before it is given up."
    )
    largest: Bytes = Field(default=4 * 1024**3, ge=1024, description="Most bytes of one file.")
    timeout: Seconds = Field(
        default=60.0, gt=0, description="How long the server may take to answer, or to go on with a file."
    )
    catch_up: CatchUp = 86_400.0

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.group is not None and "level" in self.model_fields_set:
            raise ValueError("`group` says already what is exported; remove `level`")
        refuse_ours(self.parameters, _OURS)
        return self

    @property
    def path(self) -> str:
        """Where an export is asked for, below the server's base."""
        if self.group is not None:
            return f"Group/{self.group}/$export"
        return "Patient/$export" if self.level == "patient" else "$export"

    def asked(self) -> Sequence[tuple[str, str]]:
        """Return the parameters of every export."""
        types = [("_type", ",".join(self.types))] if self.types else []
        return [*types, *pairs_of(self.parameters)]

    def mark_name(self, channel: str) -> str:
        """Return what the progress is kept under: other contents or another start begin anew."""
        return mark_name(channel, self.server, self.path, sorted(self.asked()), self.since, self.deletions)

    def build(self, tools: Tools) -> "FhirExportListener":
        """Build the listener; raise `ConfigError` when the server is missing or its keys cannot be used."""
        return FhirExportListener(self, tools, find_source(tools, self.server, timeout=self.timeout))


class FhirExportListener(PollListener):
    """Has one server export for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: FhirExportSpec, tools: Tools, source: FhirSource) -> None:
        self._spec = spec
        self._tools = tools
        self._source = source
        self._jobs = ExportJob(source, spec.path, spec.asked())
        name = f"server {spec.server}"
        self._schedule = spec.schedule.schedule()
        self._polling = Polling(tools, name, self._schedule, spec.catch_up, self._poll)
        self._mark = Mark(tools.marks, spec.mark_name(tools.channel))
        self._progress = self._first()
        self._folder = Path(getattr(tools.settings, "data", None) or Path()) / "fhir" / tools.channel
        self._notes = Notes(self._folder)
        self._threads = Threads(f"export {tools.channel}", 4)

    async def start(self) -> None:
        """Begin to watch the clock; raise `NotReady` where files cannot be copied to the data folder."""
        try:
            await self._threads.run(self._notes.open)
        except NotReady as error:
            raise NotReady(f"channel {self._tools.channel}: {error}") from None
        self._mark.forget()
        self._progress = self._first()
        await self._source.open()
        self._polling.start()

    async def stop(self) -> None:
        """Begin no other file, and wait at most 10 seconds for the one under way; the rest is read after a start."""
        if await self._polling.stop():
            await self._source.close()

    def _first(self) -> Progress:
        since = self._spec.since
        return Progress(since=since.isoformat() if since is not None else "")

    async def _poll(self) -> None:
        """Go on with the export that runs, or begin one where that is due."""
        await self._recall()
        # A start makes up for due times, but not for one that an earlier run has seen to: exports cost a server much.
        due = self._schedule.after(self._progress.began) if self._progress.began else None
        if self._progress.job or due is None or due <= time.time():
            await self._export()

    async def _export(self) -> None:
        """Go on with the export that runs, or begin one, and read all of it."""
        if self._progress.over:
            await self._remove()
        if not self._progress.job:
            job = await self._jobs.begin(self._progress.since)
            await self._note(replace(self._progress, job=job, began=time.time(), done=(), faults=()))
            crash_point("poll.begun")
            self._tools.notify(ExportBegun(channel=self._tools.channel, source=self._polling.source))
        try:
            manifest = await self._wait()
            if manifest is None or not await self._read_all(manifest):
                return  # a stop came
        except JobFailed:
            await self._note(replace(self._progress, over=self._progress.job, job="", began=0.0))
            raise
        except OSError as error:
            raise Away(
                f"its files cannot be read from {self._folder} ({(error.strerror or 'it failed').lower()})"
            ) from None
        await self._end(manifest)

    async def _recall(self) -> None:
        if (noted := await self._mark.recall()) is not None:
            self._progress = Progress.of(noted)

    async def _note(self, progress: Progress) -> None:
        await self._mark.keep(progress.noted())
        self._progress = progress

    async def _wait(self) -> Manifest | None:
        """Ask how far the job is until it has ended; return None when a stop came first."""
        while not self._polling.is_stopping:
            if time.time() - self._progress.began > self._spec.duration:
                raise JobFailed("the export took longer than `duration` allows, and is given up")
            told = await self._jobs.ask(self._progress.job)
            if isinstance(told, Manifest):
                return told
            self._polling.recover()
            self._tools.notify(
                ExportProgressed(channel=self._tools.channel, source=self._polling.source, percent=told.percent)
            )
            await self._polling.pause(max(told.after or self._spec.poll, _SHORTEST))
        return None

    async def _read_all(self, manifest: Manifest) -> bool:
        """Read the files that are not read yet; return False when a stop came first."""
        wanted = [*manifest.output, *(manifest.deleted if self._spec.deletions else ())]
        for file in [*wanted, *manifest.errors]:
            if file.mark in self._progress.done:
                continue
            if not await self._polling.wait_for_room():
                return False
            with tempfile.TemporaryFile(dir=self._folder) as copied:
                await self._fetch(file, manifest, copied)
                fault = await (self._read(file, copied) if file in wanted else self._look_at(copied))
            if fault is None:
                return False
            crash_point("poll.committed")
            faults = (*self._progress.faults, *([fault] if fault else ()))
            await self._note(replace(self._progress, done=(*self._progress.done, file.mark), faults=faults))
            await self._threads.run(partial(self._notes.forget_position, file.name))
            crash_point("poll.settled")
        return True

    async def _fetch(self, file: ExportFile, manifest: Manifest, copied: BinaryIO) -> None:
        """Copy a file; raise `Away`, or `JobFailed` where it is gone."""
        base = self._source.base
        if base.startswith("https:") and not file.url.startswith("https:"):
            raise JobFailed("a file of the export would come without TLS, so it is not fetched; have the server mended")
        # Our token is for this server alone, whoever else the files may be with.
        authorised = manifest.needs_token and same_origin(file.url, base)
        said = await self._source.fetch(file.url, copied, most=self._spec.largest, authorised=authorised)
        if said.status in _GONE:
            raise JobFailed(f"a file of the export is gone: {said.reason}")
        if said.status != _SUCCESS:
            raise Away(f"a file of the export cannot be fetched: {said.reason}", said.after)

    async def _read(self, file: ExportFile, copied: BinaryIO) -> str | None:
        """Hand a file over; return what is wrong with it, or nothing, and None when a stop came first."""
        if not copied.seek(0, 2):
            return ""  # some servers list files that nothing came into
        copied.seek(0)
        began = time.monotonic()
        versions = Versions(self._tools.intake, self._spec.server)
        form = NdjsonSpec.model_validate(_LINES).build(None)
        tools = replace(self._tools, intake=versions, format=form)
        means = Means(tools, self._threads, self._notes, UnpackSpec(), lambda: self._polling.is_stopping)
        reading = FileReading(copied, file.name, means)
        await reading.prepare()
        await reading.hand_over()
        ended = await reading.finish()
        if ended.is_stopped:
            return None
        self._tools.notify(ended.notice(self._tools.channel, file.name, time.monotonic() - began))
        # What is refused is in quarantine, as long as that is not too much: then nothing is gained by another export.
        is_kept = versions.quarantined == ended.refused
        return "" if is_kept else f"{file.name}: {ended.reason}"

    async def _look_at(self, copied: BinaryIO) -> str:
        """Keep a file of errors for an operator to see; return what is wrong, nothing where it has warnings only."""

        def look() -> tuple[Sequence[str], bytes]:
            copied.seek(0)
            beginning = copied.read(_ERRORS)
            return errors_in(beginning.splitlines()), beginning[:_SHOWN]

        codes, beginning = await self._threads.run(look)
        if not codes:
            return ""
        reason = f"the server could not export everything ({', '.join(codes)})"
        self._tools.intake.quarantine(self._tools.channel, self._polling.source, reason, beginning)
        return reason

    async def _end(self, manifest: Manifest) -> None:
        """Note that the export is read, and have the server remove it."""
        progress, channel, source = self._progress, self._tools.channel, self._polling.source
        since = progress.since if progress.faults else manifest.at
        await self._note(Progress(since=since, began=progress.began, over=progress.job))
        crash_point("poll.settled")
        self._polling.recover()
        if progress.faults:
            reason = progress.faults[0] + (f"; and {more} more" if (more := len(progress.faults) - 1) else "")
            self._tools.notify(ExportIncomplete(channel=channel, source=source, reason=reason))
        else:
            seconds = max(time.time() - progress.began, 0.0)
            self._tools.notify(ExportRead(channel=channel, source=source, files=len(progress.done), seconds=seconds))
        await self._remove()

    async def _remove(self) -> None:
        """Have an export that is read removed from the server, and note that."""
        await self._jobs.remove(self._progress.over)
        await self._note(replace(self._progress, over=""))
