"""This module puts messages into files of a partner: whole or not at all, and each under one name.

A file is written under a hidden name, brought to disk, and then renamed, so nobody ever sees a part of it. The name is
frozen with the message, so an attempt that is repeated finds what an earlier one did: the same name with the same
content is delivered already.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Protocol, Self

from pydantic import Field, model_validator

from broker.crash import crash_point
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.errors import ConfigError, StepError, StoreError
from broker.ids import show
from broker.spec import DestinationSpec, Escape, Seconds, Spec, Template
from broker.threads import NotBegun, Threads
from dispatch.batch_notes import BatchNotes, Noted
from dispatch.file_batch import Batching, Gathering
from dispatch.hl7_payload import encoded
from dispatch.original import ORIGINAL, original

if TYPE_CHECKING:
    from broker.message import Document
    from broker.parts import Marks, Renderer

LONGEST_NAME: Final = 255  # bytes, of most file systems
_UNRECORDED: Final = 256  # deliveries whose end may not be in the store yet, besides those under way
_BELOW_BLANK: Final = re.compile(r"[\x00-\x1f\x7f]")
_ENDINGS: Final = {"hl7": ".hl7", "json": ".json", "fhir": ".json", "cda": ".xml"}

Exists = Literal["refuse", "same_is_done", "replace"]
Content = Annotated[
    Template,
    Field(
        description="The content: `original` for the bytes as received, or a template, also as the path of a .j2 file."
    ),
]


class BatchSpec(Spec):
    """Many HL7 messages in one file, between FHS, BHS, BTS and FTS, with their counts."""

    most: int = Field(default=500, ge=1, le=10_000, description="How many messages a file has at most.")
    wait: Seconds = Field(default=60.0, gt=0, description="How long the first message waits for others.")
    sending: str = Field(default="HANDOFF", min_length=1, description="FHS-3 and FHS-4, such as HANDOFF|MERCY.")
    receiving: str = Field(default="", description="FHS-5 and FHS-6, such as REGISTRY|STATE.")


class FileOutSpec(DestinationSpec):
    """What every destination that writes files has in common."""

    unknown: ClassVar[str] = "retry"

    folder: str = Field(min_length=1, description="Where files go; it must be there.")
    name: Template | None = Field(
        default=None,
        description="The file's name, such as `{{ MSH-10 }}.hl7`, values percent-encoded; without it, the delivery's "
        "id, which sorts by time.",
    )
    content: Content = Template(ORIGINAL)
    escape: Escape = "text"
    exists: Exists = Field(
        default="same_is_done",
        description="What a file of that name means: `same_is_done` counts the same content as delivered and refuses "
        "another, `refuse` takes none but what an earlier attempt wrote, `replace` writes over it.",
    )
    temporary: str | None = Field(
        default=None,
        min_length=1,
        description="Folder in which files are written before they are moved to `folder`; without it, `folder` itself "
        "under a hidden name.",
    )
    batch_file: BatchSpec | None = Field(
        default=None, alias="batch", description="Many HL7 messages in one file, with an envelope and counts."
    )
    timeout: Seconds = Field(default=60.0, gt=0, description="How long one file may take.")

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.batch_file is not None and self.name is not None:
            raise ValueError("`name` is for one message, and a `batch` has many; leave it out")
        if self.batch_file is not None and self.exists == "refuse":
            raise ValueError("`exists: refuse` is not for a `batch`, whose name nobody else can have; leave it out")
        return self

    @property
    def concurrency(self) -> int:
        """How many deliveries may be under way: in a batch, as many as it holds."""
        return self.batch_file.most if self.batch_file is not None else self.sessions

    @property
    def sessions(self) -> int:
        """How many files may be written at a time."""
        return 4

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: name and content, checked and frozen."""
        as_received = self.content.strip() == ORIGINAL
        if self.batch_file is not None and (kit.format.kind if as_received else self.escape) != "hl7":
            raise ConfigError("a `batch` holds HL7 messages; write them with `content: …` and `escape: hl7`")
        return file_renderer(kit, self.name, self.content, self.escape)


def file_renderer(kit: Any, name: str | None, content: str, escape: str) -> "FileRenderer":
    """Return what renders name and content; raise `ConfigError` for messages that are no files of their own."""
    kind: str = kit.format.kind
    ending = ".txt" if escape == "text" else f".{escape}"
    source = None
    if content.strip() == ORIGINAL:
        if kind not in _ENDINGS:
            raise ConfigError(f"a row of {kind} is no file of its own; write `content:` as a template")
        ending = _ENDINGS[kind]
    else:
        source = kit.template(str(content), kind=escape)
    named = kit.template(str(name), kind="url") if name is not None else None
    return FileRenderer(named, source, ending, hl7=escape == "hl7")


@dataclass(frozen=True, slots=True)
class FileRenderer:
    """Renders ``name``, a line feed, and the content; a name that begins with a dot is an ending for the id."""

    name: Any
    source: Any  # None: the message as received
    ending: str
    hl7: bool = False

    def __call__(self, document: "Document") -> bytes:
        """Return the request; raise `StepError` where the name cannot be a file's."""
        name = self.ending if self.name is None else checked_name(str(self.name(document)).strip())
        if self.source is None:
            return name.encode() + b"\n" + original(document, "files")
        text = str(self.source(document))
        if not text.strip():
            raise StepError("files: the content is empty; the template gave nothing for this message")
        return name.encode() + b"\n" + (encoded(text, "files") if self.hl7 else text.encode("utf-8", "replace"))


def checked_name(name: str) -> str:
    """Return a name that is one file's and stays in its folder; raise `StepError`, without the name, otherwise."""
    wrong = ""
    if not name or set(name) <= {"."}:
        wrong = "is empty"
    elif name.startswith("."):
        wrong = "begins with a dot, as hidden files do"
    elif "/" in name or "\\" in name:
        wrong = "has a slash; values are encoded, so it stands in `name` itself"
    elif _BELOW_BLANK.search(name):
        wrong = "has a line end or another control character"
    elif len(name.encode()) > LONGEST_NAME:
        wrong = f"has more than {LONGEST_NAME} bytes"
    if wrong:
        raise StepError(f"files: the file's name {wrong}; correct `name`")
    return name


@dataclass(frozen=True, slots=True)
class File:
    """One file to be written; ``repeated`` says that an earlier attempt may have written it."""

    name: str
    temporary: str
    content: bytes
    repeated: bool = False


class Place(Protocol):
    """Where files go. Every function blocks, and is called from a thread of its own."""

    @property
    def peer(self) -> str:
        """How reasons call it."""

    def put(self, file: File, exists: Exists) -> Outcome:
        """Write one file, whole or not at all."""

    def digest(self, name: str) -> str | None:
        """Return the SHA-256 of the file of a name, None where there is none; raise `OSError` when nobody can say."""

    def close(self) -> None:
        """Let go of connections."""


def there_already(file: File, exists: Exists, peer: str, *, same: bool) -> Outcome | None:
    """Say what a file that has the name means; None where it is to be written over."""
    if same and (exists != "refuse" or file.repeated):
        return Delivered(reference=file.name)
    if exists == "replace":
        return None
    content = "the same" if same else "other"
    return Rejected(f"{peer}: a file of that name is there already, with {content} content")


class Filing:
    """The sending half; see `broker.parts.Destination`. Files are written in threads of its own."""

    def __init__(
        self, place: Place, spec: FileOutSpec, clock: Callable[[], float], marks: "Marks | None" = None
    ) -> None:
        self._place = place
        self._spec = spec
        self._threads: Threads | None = None
        batch = spec.batch_file
        envelope = Batching(batch.sending, batch.receiving, clock) if batch is not None else None
        self._gathering = Gathering(batch.most, batch.wait, self._write_batch) if batch is not None else None
        self._envelope = envelope
        self._notes = BatchNotes(marks, 2 * (spec.concurrency + _UNRECORDED))
        self._looking = asyncio.Lock()
        self._looked: dict[str, bool] = {}  # whether files that an earlier attempt may have written are there

    async def open(self) -> None:
        """Get ready to write."""
        self._threads = Threads("files", self._spec.sessions)

    async def close(self) -> None:
        """Write what is gathered, and let go of the place."""
        if self._gathering is not None:
            await self._gathering.finish()
        self._threads = None
        self._place.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Write one file after the other, or gather messages for a batch."""
        if self._gathering is not None:
            return [await self._gathered(delivery, self._gathering) for delivery in deliveries]
        return [await self._write(file_of(delivery)) for delivery in deliveries]

    async def _gathered(self, delivery: Delivery, gathering: Gathering) -> Outcome:
        earlier = await self._earlier(delivery) if delivery.attempt > 1 else None
        return await gathering.add(delivery) if earlier is None else earlier

    async def _earlier(self, delivery: Delivery) -> Outcome | None:
        """Return what became of the file that an earlier attempt was in; None where there is no such file."""
        try:
            noted = await self._notes.of(delivery)
            if noted is None or not (noted.is_written or await self._is_there(noted)):
                return None
        except (OSError, StoreError, NotBegun):  # a TimeoutError is an OSError
            return Unknown(f"{self._place.peer}: whether an earlier batch file is there cannot be told now")
        return Delivered(reference=noted.name)

    async def _is_there(self, noted: Noted) -> bool:
        assert self._threads is not None  # noqa: S101 - it is open
        async with self._looking:  # all that are in the file come at once, and one look is enough
            if noted.name not in self._looked:
                found = await self._threads.run(lambda: self._place.digest(noted.name), self._spec.timeout)
                self._looked[noted.name] = found == noted.digest
        return self._looked[noted.name]

    async def _write_batch(self, deliveries: Sequence[Delivery]) -> Outcome:
        assert self._envelope is not None  # noqa: S101 - only a batch gathers
        route, again = deliveries[0].route, max(delivery.attempt for delivery in deliveries)
        # What is gathered anew holds others than the first time, so it is another file.
        stem = show(deliveries[0].id) + (f"-{again}" if again > 1 else "")
        messages = [delivery.request.partition(b"\n")[2] for delivery in deliveries]
        content = self._envelope.build(messages, stem)
        noted = Noted(f"{stem}.hl7", sha256(content).hexdigest(), frozenset(delivery.id for delivery in deliveries))
        try:
            await self._notes.begin(route, noted)
        except StoreError as error:
            return Retry(f"{self._place.peer}: the batch could not be noted ({error})")
        outcome = await self._write(File(noted.name, f".{stem}.part", content))
        if isinstance(outcome, Delivered):
            crash_point("batch.renamed")
            with contextlib.suppress(StoreError):  # the file is there, which a look will tell
                await self._notes.written(route, noted)
        return outcome

    async def _write(self, file: File) -> Outcome:
        if self._threads is None:
            message = f"{self._place.peer}: used before open() or after close()"
            raise RuntimeError(message)
        try:
            return await self._threads.run(lambda: self._place.put(file, self._spec.exists), self._spec.timeout)
        except NotBegun:
            return Retry(f"{self._place.peer}: other files took all the time allowed, and this one was not begun")
        except TimeoutError:
            return Unknown(f"{self._place.peer}: the file was not written within the time allowed")


def file_of(delivery: Delivery) -> File:
    """Return the file that a delivery's request describes."""
    name, _, content = delivery.request.partition(b"\n")
    number = show(delivery.id)
    plain = name.decode()
    return File(
        name=number + plain if plain.startswith(".") else plain,
        temporary=f".{number}.part",
        content=content,
        repeated=delivery.attempt > 1,
    )
