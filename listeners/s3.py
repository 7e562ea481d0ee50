"""This module lets messages in from objects of an S3-compatible bucket, by the rules of files in a folder."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from broker.buckets import find_bucket
from broker.parts import Tools
from broker.spec import Seconds
from listeners.folder import FolderListener, FolderSpec
from listeners.notes import Notes
from listeners.s3_inbox import S3Inbox, top_of
from listeners.s3_requests import Requests


class S3InSpec(FolderSpec):
    """Objects of a bucket; each is copied here, read, and then copied to where it stays and deleted where it was."""

    word: ClassVar[str] = "s3"

    place: str = Field(min_length=1, description="Name of the bucket's place, as under `places:` in handoff.yaml.")
    folder: str = Field(
        default="",
        alias="prefix",
        description="Where objects arrive: what their names begin with, such as `adt/mercy/`; without it, the bucket.",
    )
    recursive: bool = Field(default=False, description="Whether names with more slashes behind that are read as well.")
    settled: Seconds = Field(default=0.0, description="How long an object must have stayed the same before it is read.")
    age: Seconds = Field(default=0.0, description="How long ago an object must have been put, by the store's clock.")
    poll: Seconds = Field(default=30.0, ge=0.05, description="How often the bucket is looked at.")
    done: str = Field(
        default="done",
        min_length=1,
        description="Where such objects go: relative to `prefix`, or from the top of the bucket with a slash in front.",
    )
    failed: str = Field(default="failed", min_length=1, description="Where objects go that could not be read.")
    connections: int = Field(default=4, ge=1, le=20, description="Connections, each with one object under way.")
    connect: Seconds = Field(default=10.0, gt=0, description="How long it may take until a connection stands.")
    timeout: Seconds = Field(default=60.0, gt=0, description="How long the store may take to answer.")

    @field_validator("folder")
    @classmethod
    def _whole(cls, value: str) -> str:
        if value and (not value.endswith("/") or value.startswith("/") or "//" in value or not value.isprintable()):
            raise ValueError("needs plain text that ends with a slash and does not begin with one, such as adt/mercy/")
        return value

    @model_validator(mode="after")
    def _outside(self) -> Self:
        for name, value in (("done", self.done), ("failed", self.failed)):
            if self.after != "keep" and self.folder.startswith(top_of(self.folder, value)):
                raise ValueError(f"`{name}` is what is read itself, or above it; name something below or beside it")
        return self

    def build(self, tools: Tools) -> FolderListener:
        """Build the listener; raise `ConfigError` when the place is missing."""
        bucket = find_bucket(tools.settings, self.place, f"channel {tools.channel}: listen.s3.place")
        requests = Requests(bucket, self.connect, self.timeout, self.connections)
        local = Path(tools.settings.data) / "s3" / tools.channel
        # What stayed by intent must not be deleted by its note when the channel says otherwise from now on.
        notes = Notes(local / self.after)
        inbox = S3Inbox(requests, self, local, notes, self.connect + 6 * self.timeout)
        return FolderListener(self, tools, inbox, notes, self.connections + 2)
