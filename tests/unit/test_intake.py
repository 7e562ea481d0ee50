"""Whoever waits for the steps gets the receipt when they have ended, or the refusal at once."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, Final

import pytest

from broker.acts import read_concluded, read_ended
from broker.errors import NotAccepted, StoreError
from broker.formats.hl7 import Hl7
from broker.formats.reading import no_index
from broker.ids import Ids
from broker.intake import Door, StoreIntake
from broker.message import Conclusion, Ended, Inbound, Receipt
from broker.seal import Sealer
from broker.units import Accepted, Finished

BODY: Final = b"MSH|^~\\&|A|B|C|D|20240501||ADT^A08|1|P|2.5.1\rPID|1||1\r"


class Bench:
    """An intake whose store answers as the test says."""

    def __init__(self, row: Any = None) -> None:
        self.told: list[Any] = []  # what the store calls after a commit
        self.handed: list[int] = []
        self.asked: list[int] = []  # what the store was asked about
        self._row = row
        store: Any = SimpleNamespace(accept=lambda _message, told: self.told.append(told), read=self._read)
        self.intake = StoreIntake(store, Sealer(b"k" * 32), Ids(), lambda _notice: None)
        self.intake.admit(
            Door(
                number=1,
                name="adt",
                format=Hl7(),
                index=no_index,
                hand_over=lambda one, _at, _body: self._take(one),
                places={"prm": 0, "ehr": 1},
            )
        )

    def _take(self, message: int) -> None:
        self.handed.append(message)

    async def _read(self, *asked: Any) -> Any:
        self.asked.append(asked[-1])
        if isinstance(self._row, Exception):
            raise self._row
        return self._row[asked[0]] if isinstance(self._row, dict) else self._row

    def accept(self, body: bytes = BODY, *, waits: bool = True) -> "asyncio.Future[Receipt]":
        return self.intake.accept(Inbound(channel="adt", body=body, received_at=time.time(), waits=waits))


def finished(message: int, state: str) -> Finished:
    return Finished(id=message, channel=1, revision=1, state=state, at=1.0, reason="why")


async def test_receipt_comes_with_the_commit_where_nobody_waits() -> None:
    bench = Bench()
    promise = bench.accept(waits=False)
    bench.told[0](Accepted(7))
    assert await promise == Receipt(message_id=7)


async def test_receipt_waits_for_the_steps() -> None:
    bench = Bench()
    promise = bench.accept()
    bench.told[0](Accepted(7))
    assert len(bench.handed) == 1
    await asyncio.sleep(0.001)
    assert not promise.done()
    bench.intake.endings.tell([finished(7, "failed")])
    assert (await promise).ended == Ended("failed", None, None, "why")


async def test_duplicate_gets_what_became_of_the_first() -> None:
    bench = Bench(("filtered", "steps.1.filter", None, "not it"))
    promise = bench.accept()
    bench.told[0](Accepted(7, duplicate=True))
    receipt = await promise
    assert (receipt.duplicate, receipt.ended) == (True, Ended("filtered", "steps.1.filter", None, "not it"))
    assert not bench.handed


@pytest.mark.parametrize("body", [BODY, b"MSH|^~\\&|A\r"], ids=["store", "message"])
async def test_refusal_is_told_at_once(body: bytes) -> None:
    bench = Bench()
    promise = bench.accept(body)
    for told in bench.told:
        told(StoreError("store: it is full"))
    with pytest.raises(NotAccepted):
        await promise


async def test_store_that_cannot_say_refuses() -> None:
    bench = Bench(StoreError("store: it is away"))
    promise = bench.accept()
    bench.told[0](Accepted(7, duplicate=True))
    with pytest.raises(NotAccepted, match="away; send it again") as caught:
        await promise
    assert caught.value.is_ours


async def test_who_gave_up_is_not_told() -> None:
    bench = Bench()
    stored, refused = bench.accept(), bench.accept()
    stored.cancel()
    refused.cancel()
    bench.told[0](Accepted(7))
    bench.told[1](StoreError("store: it is full"))
    await asyncio.sleep(0.001)
    bench.intake.endings.tell([finished(7, "processed")])
    await asyncio.sleep(0.001)
    assert stored.cancelled()
    assert refused.cancelled()


PROCESSED: Final = ("processed", None, None, None)


@pytest.mark.parametrize(
    ("row", "destination", "expected"),
    [
        (PROCESSED, "", Conclusion("processed")),
        (("filtered", "steps.1", None, "no lab"), "", Conclusion("filtered", "no lab")),
        (("filtered", "steps.1", None, "no lab"), "ehr", Conclusion("absent")),
        (("failed", "steps.1", "PID-3", "none"), "ehr", Conclusion("failed", "none", "PID-3")),
        (PROCESSED, "ehr", Conclusion("absent")),
    ],
)
async def test_how_a_message_concluded_is_known(row: Any, destination: str, expected: Conclusion) -> None:
    bench = Bench({read_ended: row, read_concluded: None})
    assert await bench.intake.conclude("adt", 64, destination) == expected
    assert bench.asked == ([64, 66] if expected.state == "absent" else [64])
