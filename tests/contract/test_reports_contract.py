"""This module checks on each database that what a gateway reports is found with the delivery that it is about."""

import time
from typing import TYPE_CHECKING, Any

from broker import queries
from broker.delivery import Report
from broker.intake import StoreIntake
from broker.notices_texts import DeliveryReported
from broker.units import Recorded
from broker.writes_reports import note_reports
from tests.committing import record
from tests.filling import SEALER, Filling

if TYPE_CHECKING:
    from broker.notices import Notice


async def sent(filling: Filling, reference: str) -> int:
    """Let a delivery be taken under a reference; return its message."""
    message = await filling.receive("C1")
    await filling.finish(message)
    now = time.time()
    unit = Recorded(
        id=message + 1,
        channel=filling.registered.channel,
        route=filling.registered.routes["prm"],
        lane=message,
        number=1,
        started_at=now,
        ended_at=now,
        outcome="delivered",
        state="delivered",
        open=False,
        detail=f"{reference}\n\n{{}}".encode(),
    )
    await record(filling.store, unit)
    return message


async def told(filling: Filling, message: int) -> list[list[tuple[str, str, float]]]:
    """Return what is known to be reported of the deliveries of a message."""
    journey: Any = await filling.read(queries.trace, message)
    return [[(one.state, one.code, one.reported_at) for one in each.reports] for each in journey.deliveries]


async def test_report_is_found_with_its_delivery_whichever_came_first(filling: Filling) -> None:
    await filling.store.call(note_reports, [Report("smsc/m1", "sent", at=1.0), Report("other/m1", "failed", at=1.0)])
    message = await sent(filling, "smsc/m1")
    await filling.store.call(note_reports, [Report("smsc/m1", "undeliverable", "00B", 3.0)])
    assert await told(filling, message) == [[("sent", "", 1.0), ("undeliverable", "00B", 3.0)], []]


async def test_reports_of_all_parts_are_the_deliverys(filling: Filling) -> None:
    message = await sent(filling, "smsc/m1 smsc/m2")
    await filling.store.call(
        note_reports, [Report("smsc/m2", "delivered", at=2.0), Report("smsc/m1", "failed", at=1.0)]
    )
    assert await told(filling, message) == [[("failed", "", 1.0), ("delivered", "", 2.0)], []]


async def test_same_report_again_changes_nothing(filling: Filling) -> None:
    message = await sent(filling, "smsc/m1")
    for at in (1.0, 2.0):
        await filling.store.call(
            note_reports, [Report("smsc/m1", "delivered", at=at), Report("smsc/m1", "delivered", at=9.0)]
        )
    assert await told(filling, message) == [[("delivered", "", 1.0)], []]


async def test_intake_keeps_a_report_and_tells_of_it(filling: Filling) -> None:
    notices: list[Notice] = []
    message = await sent(filling, "smsc/m1")
    intake = StoreIntake(filling.store, SEALER, filling.ids, notices.append)
    await intake.report(Report("smsc/m1", "delivered", "", 5.0))
    assert await told(filling, message) == [[("delivered", "", 5.0)], []]
    assert notices == [DeliveryReported(by="smsc", state="delivered", code="")]
