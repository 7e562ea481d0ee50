"""This module lets messages in from FHIR servers that are searched by a schedule for what was changed there.

A resource's version makes a repeat a duplicate at the intake, so the mark, which is the last change that was committed
here, is a shortcut: it is noted after the commit, and what is read again is taken once.
"""

import asyncio
import datetime as dt
import time
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, AwareDatetime, Field

from broker.crash import crash_point
from broker.errors import Away
from broker.fhir.source import FhirSource, find_source
from broker.notices_polls import SearchRemarked
from broker.parts import Tools
from broker.schedule import CatchUp, ScheduleSpec
from broker.spec import ListenerSpec, Seconds
from listeners.fhir_address import address_within
from listeners.fhir_page import NoPage, Page, are_in_order, read_page
from listeners.fhir_parameters import Parameters, ResourceType, pairs_of, refuse_ours
from listeners.fhir_together import put_together
from listeners.polling import Mark, Polling, PollListener, mark_name

_OURS: Final = frozenset({"_lastUpdated", "_sort", "_count", "_format", "_summary", "_elements"})
_OK: Final = 200  # FHIR R4 http.html#search


def _left_alone(parameters: Parameters) -> Parameters:
    refuse_ours(parameters, _OURS)
    return parameters


class FhirSearchSpec(ListenerSpec):
    """Resources that a search of a FHIR server finds; each version of each is one message."""

    formats: ClassVar[frozenset[str]] = frozenset({"fhir", "json"})

    server: str = Field(min_length=1, description="Name of the server, as under `servers:` in handoff.yaml.")
    schedule: ScheduleSpec = Field(description="When the server is searched; until nothing is left, each time.")
    resource: ResourceType = Field(description="The type of the resources, such as `Encounter`.")
    parameters: Annotated[Parameters, AfterValidator(_left_alone)] = Field(
        default={},
        description="More search parameters, such as `{status: in-progress}`, each with a value or a list of them. "
        "What `_include` brings along comes too.",
    )
    take: Literal["resource", "bundle"] = Field(
        default="resource",
        description="What a message is: each resource by itself, or a Bundle of each that was searched for, with what "
        "`_include` and `_revinclude` brought along for it.",
    )
    since: AwareDatetime | None = Field(
        default=None,
        description="From which change on resources are read at first, such as `2026-01-01T00:00:00Z`; else, all.",
    )
    overlap: Seconds = Field(
        default=60.0,
        le=86_400,
        description="How far behind the last change is searched again, for what the server committed late.",
    )
    page: int = Field(default=100, ge=1, le=1000, description="How many resources the server is asked for at a time.")
    pages: int = Field(default=1000, ge=1, le=100_000, description="Most pages of one poll; the next one goes on.")
    duration: Seconds = Field(default=900.0, gt=0, le=86_400, description="How long one poll may take; as `pages`.")
    timeout: Seconds = Field(default=30.0, gt=0, description="How long the server may take for one page.")
    catch_up: CatchUp = 3600.0

    def mark_name(self, channel: str) -> str:
        """Return what the mark is kept under: another search or start begins another one."""
        return mark_name(channel, self.server, self.resource, sorted(pairs_of(self.parameters)), self.take, self.since)

    def build(self, tools: Tools) -> "FhirSearchListener":
        """Build the listener; raise `ConfigError` when the server is missing or its keys cannot be used."""
        return FhirSearchListener(self, tools, find_source(tools, self.server, timeout=self.timeout))


class FhirSearchListener(PollListener):
    """Searches one server for one channel; see `broker.parts.Listener`."""

    def __init__(self, spec: FhirSearchSpec, tools: Tools, source: FhirSource) -> None:
        self._spec = spec
        self._tools = tools
        self._source = source
        name = f"server {spec.server}"
        self._polling = Polling(tools, name, spec.schedule.schedule(), spec.catch_up, self._poll)
        self._kept = Mark(tools.marks, spec.mark_name(tools.channel))
        self._mark: dt.datetime | None = spec.since
        self._sorts = True  # until the server was seen not to, though it says so
        self._recent: dict[bytes, dt.datetime] = {}  # what was taken and would be found again within `overlap`
        self._remarks: tuple[str, ...] = ()

    async def start(self) -> None:
        """Begin to watch the clock; a server that is away is no reason not to."""
        self._kept.forget()
        self._mark = self._spec.since
        self._recent = {}
        await self._source.open()
        self._polling.start()

    async def stop(self) -> None:
        """Read no other page, and wait at most 10 seconds for the one under way; the rest is read after a start."""
        if await self._polling.stop():
            await self._source.close()

    async def _poll(self) -> None:
        """Read page after page until nothing is left, enough was read, or a stop comes."""
        await self._recall()
        search = _Pass(self._mark, self._spec.overlap)
        until = time.monotonic() + self._spec.duration
        address = self._address(search.asked)
        for number in range(self._spec.pages):
            if number and time.monotonic() > until:
                break
            if not await self._polling.wait_for_room():
                return
            page = await self._ask(address)
            if not await self._take(page):
                return
            crash_point("poll.committed")
            address = await self._advance(search, page)
            crash_point("poll.settled")
            if not address:
                break
        if address and not search.is_ordered:
            text = "it gives more than `pages` or `duration` allow, and not in the order of _lastUpdated"
            raise Away(f"{text}, so nobody knows where to go on; allow more, or search for less")
        self._polling.recover()

    async def _recall(self) -> None:
        if noted := await self._kept.recall():
            self._mark = dt.datetime.fromisoformat(noted.decode("ascii"))

    def _address(self, since: dt.datetime | None) -> str:
        """Return the address of the search for what was changed at a moment or later."""
        asked = pairs_of(self._spec.parameters)
        if since is not None:
            # Cut, not rounded: what is asked for again is known, and what is not asked for is lost.
            moment = since.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            asked.append(("_lastUpdated", f"ge{moment}"))
        asked += [("_sort", "_lastUpdated"), ("_count", str(self._spec.page))]
        return f"{self._source.base}/{self._spec.resource}?{urlencode(asked)}"

    async def _ask(self, address: str) -> Page:
        said = await self._source.ask(address)
        if said.status != _OK:
            raise Away(said.reason, said.after)
        try:
            page = await asyncio.to_thread(read_page, said.body, self._spec.server)
        except NoPage as error:
            raise Away(str(error)) from None
        self._tell(tuple(page.remarks))
        return page

    def _tell(self, remarks: tuple[str, ...]) -> None:
        """Tell what the server remarks on the search, once for as long as it remarks the same."""
        if remarks and remarks != self._remarks:
            told = SearchRemarked(channel=self._tools.channel, source=self._polling.source, codes=", ".join(remarks))
            self._tools.notify(told)
        self._remarks = remarks or self._remarks

    async def _take(self, page: Page) -> bool:
        """Return True once all that is new in a page is committed or in quarantine; False when a stop came first."""
        found = page.found if self._spec.take == "resource" else put_together(page.found, self._source.base)
        fresh = [each for each in found if each.key not in self._recent]
        # The key decides: a server may write one version in more than one way.
        taken = [self._polling.inbound(each.body, each.key, key_decides=True) for each in fresh]
        if not await self._polling.hand_over(taken):
            return False
        self._recent |= {each.key: each.changed for each in fresh if each.changed is not None}
        return True

    async def _advance(self, search: "_Pass", page: Page) -> str:
        """Move the mark as far as is sure, and return the address to go on with; empty when nothing is left."""
        following = self._following(page)
        search.add(page, believes=self._sorts)
        if search.is_under_way and not search.is_ordered:
            self._sorts = False
            await self._note(search.start)
            text = "it says that it heeds _sort and _lastUpdated, and gave something else"
            raise Away(f"{text}; what was changed since the last poll is read again, by the links to each next page")
        is_short = not following and search.seen < (page.total or 0)
        await self._note_sure(search.sure if following or is_short else search.latest)
        if (following or is_short) and search.goes_on():
            return self._address(search.asked)
        if is_short:
            text = f"it says that it found {page.total}, gave {search.seen}, and has no link to the rest"
            raise Away(f"{text}; ask for a larger `page`, or with the parameter `_total: none` where it counts wrongly")
        return following

    def _following(self, page: Page) -> str:
        address = address_within(self._source.base, page.following) if page.following else ""
        if page.following and not address:
            text = "its link to the next page leads out of its `base` in handoff.yaml, so it is not followed"
            raise Away(f"{text}; have the server told its own address, or correct `base`")
        return address

    async def _note_sure(self, sure: dt.datetime | None) -> None:
        """Move the mark to a change up to which everything was seen, if that is further on."""
        if sure is None:
            return
        mark = min(sure, dt.datetime.now(dt.UTC))  # one change dated wrongly must not hide those to come
        if self._mark is None or mark > self._mark:
            await self._note(mark)

    async def _note(self, mark: dt.datetime | None) -> None:
        """Note up to which change everything is committed; None is nothing yet."""
        self._mark = mark
        await self._kept.keep(b"" if mark is None else mark.isoformat().encode("ascii"))
        if mark is not None:
            edge = mark - dt.timedelta(seconds=self._spec.overlap)
            self._recent = {key: changed for key, changed in self._recent.items() if changed >= edge}


class _Pass:
    """How far one poll has come: a search, or one after the other, each from where the one before it was left.

    What changes meanwhile moves the pages of many servers, and a link to the next page then leads past something. So
    where a server sorts, a search of its own finds the rest. Whether it does sort, its totals tell: what was given and
    what is left are together no less than what there was.
    """

    def __init__(self, start: dt.datetime | None, overlap: float) -> None:
        self.start = start  # the mark before it
        self.asked = None if start is None else start - dt.timedelta(seconds=overlap)  # of the present search
        self.latest: dt.datetime | None = None  # the last change that was seen
        self.is_ordered = True  # as far as is known
        self.is_under_way = False  # the present search is not the first
        self._moments: list[dt.datetime | None] = []  # that the present search has given
        self._total: int | None = None  # of the present search
        self._left = 0  # that it has to find at least
        self._before: dt.datetime | None = None  # what comes next is not older

    @property
    def seen(self) -> int:
        """How many matches the present search has given."""
        return len(self._moments)

    @property
    def sure(self) -> dt.datetime | None:
        """Up to which change everything was seen, though more is to come."""
        return self.asked if self.is_under_way and self.is_ordered else None

    def add(self, page: Page, *, believes: bool) -> None:
        """Take note of a page, and of whether the server still keeps the order that it says it does."""
        is_first, moments = not self._moments, page.moments
        self._moments += moments
        self._total = page.total
        counts = page.total is not None and (page.total >= self._left or not is_first)
        self.is_ordered &= believes and counts and page.says_sorted and are_in_order(moments, self._before)
        known = [moment for moment in moments if moment is not None]
        self._before = max(known, default=self._before)
        self.latest = max((moment for moment in (self.latest, self._before) if moment is not None), default=None)

    def goes_on(self) -> bool:
        """Begin another search at the last change, if the order allows that and this one did not begin there."""
        if not self.is_ordered or self.latest is None or self.latest == self.asked:
            return False
        older = sum(moment is not None and moment < self.latest for moment in self._moments)
        self._left = (self._total or 0) - older
        self.asked, self.is_under_way, self._moments = self.latest, True, []
        self._before = self.latest.replace(microsecond=0)  # servers compare as precisely as they like
        return True
