"""This module sends requests to one system: alone, several rows at a time, or after a search for what is there."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlsplit

from broker.delivery import Delivered, Delivery, Outcome, Rejected, Retry, Unknown
from dispatch.auth import Credentials, with_query
from dispatch.http import Answer, Exchange, Failure, while_looking
from dispatch.turns import Turns
from dispatch.way import witnessed, witnessed_all
from dispatch.web import bulk, odata
from dispatch.web.answers import Reader, Refresh, Verdict, fits, look, parsed
from dispatch.web.preset import FindSpec, OperationSpec, PresetSpec
from dispatch.web.rendering import FOUND_MARK, Frozen
from dispatch.web.signature import signed

_TYPES: Final = {"json": "application/json", "form": "application/x-www-form-urlencoded", "text": "text/plain"}
# Statuses with which a whole list may have been refused because of one row in it.
_FOR_ONE: Final = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class System:
    """One system as a destination needs it; ``base`` is the address below which everything is."""

    name: str
    base: str = field(repr=False)
    credentials: Credentials
    signing_key: bytes = field(default=b"", repr=False)


class WebSystem:
    """Sends what one operation renders to one system.

    ``batch`` is how many deliveries go out together, ``unknown`` what becomes of one whose outcome nobody knows.
    """

    def __init__(
        self, system: System, preset: PresetSpec, operation: OperationSpec, http: Exchange, batch: int = 1
    ) -> None:
        self.batch = batch
        self.unknown = "retry" if operation.is_repeatable else "hold"
        self._system = system
        self._peer = http.peer
        self._operation = operation
        self._http = http
        self._reader = Reader(http.peer, preset, operation)
        self._plain = Reader(http.peer, preset, OperationSpec())
        self._turns = Turns()
        self._headers = {"Accept": "application/json"} | preset.headers
        if operation.body is not None or operation.row is not None:
            self._headers["Content-Type"] = operation.content_type or _TYPES[operation.encoding]

    async def open(self) -> None:
        """Get ready to send."""
        await self._http.open()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.close()

    async def send(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Send deliveries, those that go to the same place together; one outcome each."""
        frozen = [Frozen.unpacked(delivery.request, delivery.key) for delivery in deliveries]
        if self._operation.batch is None:
            pairs = zip(frozen, deliveries, strict=True)
            return [await witnessed(self._send(one, delivery.key)) for one, delivery in pairs]
        outcomes: dict[int, Outcome] = {}
        for places in self._lists(frozen):
            rows = [frozen[place] for place in places]
            told = await witnessed_all(self._send_rows(rows, deliveries[places[0]].key))
            outcomes.update(zip(places, told, strict=True))
        return [outcomes[place] for place in range(len(deliveries))]

    def _lists(self, frozen: Sequence[Frozen]) -> Iterator[list[int]]:
        """Give the places of the rows that can go out in one request each."""
        batch = self._operation.batch
        assert batch is not None  # noqa: S101 - see `send`
        together: dict[Any, list[int]] = {}
        for place, one in enumerate(frozen):
            key = None if batch.form == "odata" else (one.path, one.around, tuple(one.headers.items()))
            together.setdefault(key, []).append(place)
        for places in together.values():
            chosen: list[int] = []
            size = 0
            for place in places:
                length = len(frozen[place].body)
                if chosen and (len(chosen) >= batch.size or size + length > batch.bytes):
                    yield chosen
                    chosen, size = [], 0
                chosen.append(place)
                size += length
            yield chosen

    async def _send_rows(self, rows: Sequence[Frozen], key: str) -> list[Outcome]:
        """Send rows in one request; where that is refused as a whole, look for the one that is to blame."""
        answer, verdicts = await self._exchange_rows(rows, key)
        refused = all(isinstance(verdict, Rejected) for verdict in verdicts)
        if refused and len(rows) > 1 and isinstance(answer, Answer) and answer.status in _FOR_ONE:
            middle = len(rows) // 2
            return [*await self._send_rows(rows[:middle], key), *await self._send_rows(rows[middle:], key)]
        return [self._settled(verdict) for verdict in verdicts]

    async def _exchange_rows(self, rows: Sequence[Frozen], key: str) -> tuple[Answer | Failure | None, list[Verdict]]:
        batch = self._operation.batch
        if batch is not None and batch.form == "bulk":
            job = replace(rows[0], body="".join(rows[0].around or ()).encode())
            sent = [row.body for row in rows]
            ask = partial(self._ask, key=key)
            return None, await bulk.load(ask, self._reader, self._peer, job, sent, batch.patience)
        if batch is not None and batch.form == "odata":
            boundary = f"batch_{key}"
            body = odata.batch(rows, boundary, urlsplit(self._system.base).path)
            headers = {"Content-Type": f"multipart/mixed; boundary={boundary}", "Prefer": "odata.continue-on-error"}
            whole = Frozen("POST", "$batch", headers, body)
        else:
            before, after = rows[0].around or ("", "")
            body = before.encode() + b"[" + b",".join(row.body for row in rows) + b"]" + after.encode()
            whole = replace(rows[0], body=body)
        return await self._verdicts(whole, key, [row.body for row in rows])

    async def _ask(self, one: Frozen, key: str) -> Answer | Verdict:
        """Exchange a request of which any 2xx is good; return the answer, or what it means where it is not."""
        answer, verdicts = await self._verdicts(one, key, [b""], self._plain)
        if isinstance(answer, Answer) and isinstance(verdicts[0], Delivered):
            return answer
        return verdicts[0]

    async def _verdicts(
        self, one: Frozen, key: str, rows: Sequence[bytes], reader: Reader | None = None
    ) -> tuple[Answer | Failure, list[Verdict]]:
        """Exchange a request; where the token was not taken, once more with a new one."""
        credentials = self._system.credentials
        again = False
        while True:
            headers = await credentials.headers()
            if isinstance(headers, Retry | Unknown):  # nothing was sent to the system itself
                waiting = headers if isinstance(headers, Retry) else Retry(headers.reason)
                return waiting, [waiting] * len(rows)
            answer = await self._request(one, key, headers)
            if not isinstance(answer, Answer):
                return answer, [answer] * len(rows)
            verdicts = reader.read(answer, rows) if reader else self._read(answer, rows)
            if Refresh not in map(type, verdicts):
                return answer, verdicts
            credentials.refuse(headers)
            if again or not credentials.renewable:
                return answer, verdicts
            again = True

    def _read(self, answer: Answer, rows: Sequence[bytes]) -> list[Verdict]:
        batch = self._operation.batch
        if batch is None or batch.form != "odata" or not fits(answer.status, ["2xx"]):
            return self._reader.read(answer, rows)
        parts = odata.answers(answer)
        lost = Unknown(f"HTTP {answer.status} from {self._peer} that does not tell about it", response=answer.body)
        read = [self._reader.read(part, [row])[0] for part, row in zip(parts, rows, strict=False)]
        return [*read, *[lost] * (len(rows) - len(read))]

    async def _request(self, one: Frozen, key: str, authorisation: Mapping[str, str]) -> Answer | Failure:
        headers = {**self._headers, "X-Request-Id": key, **one.headers, **authorisation}
        if self._operation.key_header is not None and one.method != "GET":
            headers[self._operation.key_header] = key
        body = one.body if "Content-Type" in headers and one.method != "GET" else None
        if self._system.signing_key and body is not None:
            headers |= signed(self._system.signing_key, key, int(time.time()), body)
        base = self._base()
        address = with_query(f"{base}/{one.path}" if one.path else base, self._system.credentials.query)
        return await self._http.exchange(one.method, address, headers, body)

    def _base(self) -> str:
        """Return the base; a token's answer may have named another host for it."""
        given = self._system.credentials.base
        return given + urlsplit(self._system.base).path if given else self._system.base

    async def _send(self, one: Frozen, key: str) -> Outcome:
        if not one.find:
            return self._settled((await self._verdicts(one, key, [one.body]))[1][0])
        async with self._turns.turn(one.find):  # two searches at once find nothing, and two are made
            return await self._find_and_send(one, key)

    async def _find_and_send(self, one: Frozen, key: str) -> Outcome:
        found = await self._find(one, key)
        if not isinstance(found, str):
            return found
        if not found:
            answer, verdicts = await self._verdicts(one, key, [one.body])
            if not (isinstance(answer, Answer) and answer.status == 409):  # noqa: PLR2004 - somebody was faster
                return self._settled(verdicts[0])
            found = await self._find(one, key)
            if not isinstance(found, str):
                return found
            if not found:
                return self._settled(verdicts[0])
        if one.update is None:
            return Delivered(reference=found)
        method, path = one.update
        update = replace(one, method=method, path=path.replace(FOUND_MARK, quote(found, safe="")))
        return self._settled((await self._verdicts(update, key, [one.body]))[1][0])

    async def _find(self, one: Frozen, key: str) -> str | Outcome:
        """Return what the other side calls the one that is there, or nothing; whatever goes wrong, nothing was done."""
        find = self._operation.find
        assert find is not None  # noqa: S101 - see `_send`
        search = Frozen("GET", one.find, one.headers, b"")
        answer, verdicts = await self._verdicts(search, key, [b""])
        if not isinstance(answer, Answer):
            return while_looking(answer, "while searching")
        if fits(answer.status, find.absent):
            return ""
        if answer.status != 200:  # noqa: PLR2004 - the one answer with something in it
            return self._searching(verdicts[0])
        return self._found(answer, find)

    def _found(self, answer: Answer, find: FindSpec) -> str | Outcome:
        """Read what a search found; only an empty list says that there is nothing."""
        said = parsed(answer.body)
        listed = look(said, find.rows) if find.rows is not None else [said]
        if isinstance(listed, list) and len(listed) > 1:
            return Rejected(f"HTTP 200 from {self._peer}: several match the search", response=answer.body)
        if listed == []:
            return ""
        name = look(listed[0], find.id) if isinstance(listed, list) else None
        if not isinstance(name, str | int) or isinstance(name, bool) or not str(name):
            return Retry(f"HTTP 200 from {self._peer} with something else than was expected (while searching)")
        return str(name)

    def _searching(self, verdict: Verdict) -> Outcome:
        outcome = self._settled(verdict)
        if isinstance(outcome, Unknown | Delivered):
            reason = outcome.reason if isinstance(outcome, Unknown) else f"{self._peer} answered otherwise"
            return Retry(f"{reason} (while searching)", response=outcome.response)
        return outcome

    def _settled(self, verdict: Verdict) -> Outcome:
        if isinstance(verdict, Refresh):
            advice = f"it does not take our credentials; mend systems.{self._system.name}.auth, then replay"
            return Rejected(f"{verdict.reason}: {advice}", response=verdict.response)
        return verdict
