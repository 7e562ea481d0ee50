"""Who waits for a delivery is told of its end once, whether that comes later or was long ago, over a real store."""

from collections import deque
from pathlib import Path

from broker.delivery import Delivered, Rejected, Retry
from broker.endings import Conclusions
from broker.message import Conclusion
from tests.dispatching import Script, rigged, sqlite
from tests.filling import SEALER


async def test_who_waits_for_a_delivery_is_told_as_the_store_has_it(tmp_path: Path) -> None:
    async with rigged(sqlite(tmp_path)) as rig:
        said = Delivered(reference="Patient/7", response=b'{"id": "7"}')
        told = Conclusions(rig.store, SEALER)
        rig.add("main", Script(deque([Retry("HTTP 503"), said, Rejected("HTTP 400", location="Patient.name")])))
        (first,) = await rig.deliver(1, lane="one")
        waiting = told.of(first, may_be_over=True)
        await rig.dispatchers["main"].start()
        (second,) = await rig.deliver(1, lane="one")
        await rig.ended({"delivered": 1, "dead": 1})
        for unit in rig.concluded:
            told.tell(unit)
        expected = Conclusion("delivered", reference="Patient/7", response=b'{"id": "7"}')
        assert await waiting == await told.of(first, may_be_over=True) == expected
        assert await told.of(second, may_be_over=True) == Conclusion("dead", "HTTP 400", "Patient.name")
