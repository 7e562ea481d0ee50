"""This module puts messages into a bucket of an S3-compatible store, each as one object that is never written twice.

The object's name is frozen with the message, and the store itself refuses a name that is taken (``If-None-Match: *``).
So an attempt that is repeated learns what became of an earlier one, by the digest that is kept with the object.
"""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from broker.buckets import NOTHING, BucketAccess, error_code, find_bucket
from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from broker.spec import DestinationSpec, Escape, Seconds, Template
from dispatch.filing import Content, Exists, File, file_of, file_renderer, there_already
from dispatch.http import Answer, Exchange, Failure, by_status, while_looking
from dispatch.original import ORIGINAL
from dispatch.way import witnessed

if TYPE_CHECKING:
    from broker.parts import Destination, Renderer, Tools

_DIGEST: Final = "x-amz-meta-handoff-sha256"
# Error codes with which the store says that it is at fault, or our login, and not the message.
_LATER: Final = frozenset(
    {
        "AccessDenied",
        "ConditionalRequestConflict",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "NoSuchBucket",
        "OperationAborted",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "SignatureDoesNotMatch",
        "SlowDown",
    }
)


class S3OutSpec(DestinationSpec):
    """An object in a bucket of ``handoff.yaml``."""

    unknown: ClassVar[str] = "retry"

    place: str = Field(description="Name of the bucket's place, as under `places:` in handoff.yaml.")
    prefix: str = Field(default="", description="What all names begin with, such as adt/mercy/.")
    name: Template | None = Field(
        default=None,
        description="The object's name behind the prefix, such as `{{ MSH-10 }}.hl7`, values percent-encoded; without "
        "it, the delivery's id, which sorts by time.",
    )
    content: Content = Template(ORIGINAL)
    escape: Escape = "text"
    exists: Exists = Field(
        default="same_is_done",
        description="What an object of that name means: `same_is_done` counts the same content as delivered and "
        "refuses another, `refuse` takes none but what an earlier attempt put, `replace` puts it in its place.",
    )
    content_type: str = Field(
        default="application/octet-stream",
        pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.-]+)?$",
        description="What the store says that the object is.",
    )
    encryption: Literal["AES256", "aws:kms"] | None = Field(
        default=None, description="How the store encrypts the object, where it does not do so anyway."
    )
    concurrency: int = Field(default=8, ge=1, le=100, description="Requests under way at a time.")
    timeout: Seconds = Field(default=60.0, gt=0, description="How long the store may take to answer.")

    @field_validator("prefix")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value.startswith("/") or "//" in value or not value.isprintable() or "{" in value:
            raise ValueError("needs plain text without a slash in front and without holes, such as adt/mercy/")
        return value

    def build(self, tools: "Tools") -> "Destination":
        """Build the sending half; raise `ConfigError` when the place is missing."""
        access = find_bucket(tools.settings, self.place, f"channel {tools.channel}: s3.place")
        return Bucket(f"place {access.name}", access, self)

    def build_renderer(self, kit: Any) -> "Renderer":
        """Build the pure half: name and content, checked and frozen."""
        return file_renderer(kit, self.name, self.content, self.escape)


@dataclass(slots=True)
class Bucket:
    """The sending half; see `broker.parts.Destination`."""

    peer: str
    access: BucketAccess
    spec: S3OutSpec
    _http: Exchange = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Make the connections' pool; the store can tell what an earlier request did, so they stay."""
        self._http = Exchange(self.peer, timeout=self.spec.timeout, limit=self.spec.concurrency, reuse=True)

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Put one object after the other."""
        return [await witnessed(self._put(file_of(delivery))) for delivery in deliveries]

    async def _put(self, file: File) -> Outcome:
        digest = hashlib.sha256(file.content).hexdigest()
        headers = {
            "Content-Type": self.spec.content_type,
            "Content-MD5": base64.b64encode(hashlib.md5(file.content, usedforsecurity=False).digest()).decode(),
            _DIGEST: digest,
        }
        if self.spec.encryption is not None:
            headers["x-amz-server-side-encryption"] = self.spec.encryption
        if self.spec.exists != "replace":
            headers["If-None-Match"] = "*"
        answer = await self._request("PUT", file, headers, digest, file.content)
        if isinstance(answer, Answer) and answer.status == 412:  # noqa: PLR2004 - RFC 9110, 13.1.2
            return await self._compare(file, digest)
        return self._judged(answer, file)

    async def _compare(self, file: File, digest: str) -> Outcome:
        """Say what the object means that has the name."""
        answer = await self._request("HEAD", file, {}, NOTHING)
        if not isinstance(answer, Answer):
            return while_looking(answer, "while comparing")
        if answer.status == 404:  # noqa: PLR2004 - somebody took it away meanwhile
            return Retry(f"{self.peer}: the object of that name has just gone")
        if answer.status != 200:  # noqa: PLR2004 - RFC 9110, 15.3.1
            outcome = self._judged(answer, file)
            return Retry(outcome.reason) if isinstance(outcome, Unknown) else outcome
        found = there_already(file, self.spec.exists, self.peer, same=answer.headers.get(_DIGEST) == digest)
        return found or Retry(f"{self.peer}: an object of that name is there already")

    async def _request(
        self, method: str, file: File, headers: dict[str, str], digest: str, body: bytes | None = None
    ) -> Answer | Failure:
        url = self.access.address(self.spec.prefix + file.name)
        return await self._http.exchange(method, url, self.access.sign(method, url, headers, digest), body)

    def _judged(self, answer: Answer | Failure, file: File) -> Outcome:
        if not isinstance(answer, Answer):
            return answer
        code = error_code(answer.body)
        if code in _LATER:
            return Retry(f"HTTP {answer.status} from {self.peer} ({code})", response=answer.body)
        if answer.status == 501 and self.spec.exists != "replace":  # noqa: PLR2004 - RFC 9110, 15.6.2
            advice = "it cannot refuse a name that is taken; set `exists: replace`"
            return Rejected(f"HTTP 501 from {self.peer}: {advice}", response=answer.body)
        outcome = by_status(answer, self.peer, time.time(), code)
        if isinstance(outcome, Delivered):
            if code or not answer.headers.get("etag"):
                return Unknown(f"HTTP {answer.status} from {self.peer}: no object is named", response=answer.body)
            return Delivered(reference=f"{urlsplit(self.access.base).path.strip('/')}/{self.spec.prefix}{file.name}")
        return outcome
