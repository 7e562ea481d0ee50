"""This module says what a message over HTTP is answered with: at its commit, after the steps, or after a delivery."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal
from xml.sax.saxutils import escape

import orjson
from pydantic import Field, field_validator

from broker.errors import StoreError
from broker.ids import show
from broker.message import Conclusion, Receipt
from broker.parts import Tools
from broker.spec import Seconds, Spec
from listeners.http_request import Answer

_HOLE: Final = re.compile(rb"\{\{\s*(.*?)\s*\}\}")
_HOLES: Final = ("message", "duplicate", "channel", "state", "reference", "response")
_NO_BODY: Final = 204
_FAILED: Final = 422
_NOT_DELIVERED: Final = 502
_PENDING: Final = 202
_OURS: Final = '{"message": "{{ message }}", "duplicate": {{ duplicate }}}'
_THEIRS: Final = "{{ response }}"
_DELIVER: Final = "deliver."
_STORED: Final = Conclusion("stored")
GOOD: Final = frozenset({"stored", "processed", "filtered", "delivered"})


class WaitSpec(Spec):
    """When a message is answered: `from` says what has to be done before."""

    source: str = Field(
        "stored",
        alias="from",
        pattern=r"^(stored|steps|deliver\.[a-z0-9-]+)$",
        description="When it is answered: once it is `stored`, once its `steps` have ended, or once one of its "
        "deliveries has, such as `deliver.ehr`, with what came back there.",
    )
    timeout: Seconds = Field(
        10.0,
        gt=0,
        le=300,
        description="How long steps or delivery may take; then it is answered that it is kept, and no more.",
    )

    @property
    def waits(self) -> bool:
        """Whether it is due later than at the commit."""
        return self.source != "stored"

    @property
    def destination(self) -> str:
        """The destination whose delivery is waited for; nothing where none is."""
        return self.source.removeprefix(_DELIVER) if self.source.startswith(_DELIVER) else ""

    async def conclusion(self, tools: Tools, receipt: Receipt) -> Conclusion | None:
        """Return how a committed message ended (``stored`` where nothing is waited for), None where it did not yet."""
        if not self.waits:
            return _STORED
        try:
            async with asyncio.timeout(self.timeout):
                return await tools.intake.conclude(tools.channel, receipt.message_id, self.destination)
        except (TimeoutError, StoreError):
            return None


class AnswerSpec(WaitSpec):
    """What a message is answered with, and when."""

    status: Literal[200, 201, 202, 204] = Field(202, description="The status; 204 has no body.")
    body: str | None = Field(
        None,
        description="The body; its holes are `{{ message }}` (our id), `{{ duplicate }}` (true or false), "
        "`{{ channel }}`, `{{ state }}` and, of a delivery, `{{ reference }}` and `{{ response }}`. Without it: our "
        "id as JSON, or what came back.",
    )
    content_type: str = Field("application/json", pattern="^[a-z0-9.+/;= -]+$", description="What the body is.")

    @field_validator("body")
    @classmethod
    def _has_known_holes(cls, value: str | None) -> str | None:
        for name in _HOLE.findall((value or "").encode()):
            if name.decode() not in _HOLES:
                raise ValueError(f"the answer knows {', '.join(_HOLES)}, and not {name.decode()!r}")
        return value

    def answer(self, channel: str, receipt: Receipt, ended: Conclusion) -> Answer:
        """Return the answer to a message that ended so; `stored` is the state of one that was not waited for."""
        if ended.state == "absent":
            return Answer(_NO_BODY)
        if ended.state not in GOOD:
            return self._failed(receipt, ended)
        if self.status == _NO_BODY:
            return Answer(_NO_BODY)
        holes = self._values(channel, receipt, ended)
        written = self.body if self.body is not None else _THEIRS if self.destination else _OURS
        return Answer(self.status, _HOLE.sub(lambda hole: holes[hole[1]], written.encode()), self.content_type)

    def pending(self, channel: str, receipt: Receipt) -> Answer:
        """Return the answer to a message that is stored, and whose end did not come in time."""
        holes = self._values(channel, receipt, Conclusion("stored"))
        return Answer(_PENDING, _HOLE.sub(lambda hole: holes[hole[1]], _OURS.encode()))

    def _values(self, channel: str, receipt: Receipt, ended: Conclusion) -> Mapping[bytes, bytes]:
        return {
            b"message": show(receipt.message_id).encode(),
            b"duplicate": b"true" if receipt.duplicate else b"false",
            b"channel": channel.encode(),
            b"state": ended.state.encode(),
            b"reference": self._safe(ended.reference).encode(),
            b"response": ended.response,
        }

    def _safe(self, text: str) -> str:
        """Return another's text so that it stays within its place in JSON or XML."""
        kind = self.content_type.partition(";")[0].strip()
        if kind.endswith("json"):
            return json.dumps(text)[1:-1]
        return escape(text, {'"': "&quot;"}) if kind.endswith("xml") else text

    def _failed(self, receipt: Receipt, ended: Conclusion) -> Answer:
        """Return problem details: the message is kept, so sending it again changes nothing."""
        status = _FAILED if ended.state == "failed" else _NOT_DELIVERED
        what = "the steps" if status == _FAILED else f"{self.source}: the delivery"
        detail = f"{what} ended as {ended.state}: {ended.reason or 'no reason is known'}; the message is kept"
        told: dict[str, Any] = {"status": status, "detail": detail, "message": show(receipt.message_id)}
        if ended.location:
            told["location"] = ended.location
        return Answer(status, orjson.dumps(told), "application/problem+json")
