"""This module shows the shipped engine with a partner that takes messages and loses answers: one effect each, in order.

The partner does what HL7 asks of a receiver: the same control id from the same sender is the same message.
"""

import asyncio
from pathlib import Path
from typing import Final

from broker.wire.er7 import Message
from tests.contract.scripted_partner import Behaviour, ScriptedPartner, answer, hang, hang_up, reset, truncate
from tests.functional.running import Running

CHANNEL: Final = """\
channel: mercy-adt
listen:
  mllp: {{endpoint: 127.0.0.1:2575}}
order: PID-3[5=MR].1
steps:
  - canonical: {{}}
deliver:
  partner:
    mllp:
      endpoint: 127.0.0.1:{port}
      message: "{{{{ event | hl7('ADT^A08') }}}}"
      connections: 4
      timeout: 500ms
    retry: {{attempts: 0, first: 50ms, max: 200ms}}
"""
MESSAGE: Final = (
    "MSH|^~\\&|MERCYADT|MERCY|HANDOFF|PRM|20260318141500||ADT^A08^ADT_A01|F{number:04d}|P|2.5.1\r"
    "EVN|A08|2026031814{number:04d}\rPID|1||P{patient}^^^MERCY^MR||Okafor^Adaeze||19620910|F\rPV1|1|O\r"
)
COUNT: Final = 60
PATIENTS: Final = 10
FAULTS: Final[tuple[Behaviour, ...]] = (reset, hang_up, truncate, hang)


def _script() -> list[Behaviour]:
    """Lose every fifth answer, one way after the other."""
    good = answer("AA")
    script = [FAULTS[number // 5 % 4] if number % 5 == 0 else good for number in range(COUNT)]
    return [*script, good]


async def test_lost_answers_lead_to_one_effect_each_in_order(tmp_path: Path) -> None:
    partner = ScriptedPartner(_script())
    await partner.start()
    engine = Running(tmp_path)
    (tmp_path / "channels" / "mercy-adt.yaml").write_text(CHANNEL.format(port=partner.port))
    await asyncio.to_thread(engine.start)
    try:
        await _send(engine.mllp)
        async with asyncio.timeout(60):
            while await _delivered(engine) < COUNT:  # noqa: ASYNC110 - another process counts
                await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(engine.stop)
        await partner.stop()
    _check([Message.parse(request) for request in partner.requests])


async def _send(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(COUNT):
        text = MESSAGE.format(number=number, patient=number % PATIENTS)
        writer.write(b"\x0b" + text.encode() + b"\x1c\r")
        assert b"MSA|AA|" in await reader.readuntil(b"\x1c\r")
    writer.close()
    await writer.wait_closed()


async def _delivered(engine: Running) -> int:
    status = await asyncio.to_thread(engine.read, "status")
    return int(status["channels"][0]["destinations"][0]["total"]["delivered"])


def _check(requests: list[Message]) -> None:
    versions: dict[str, set[bytes]] = {}
    order: dict[str, list[str]] = {}
    for request in requests:
        control_id = request.get("MSH-10") or ""
        if control_id not in versions:
            order.setdefault(request.get("PID-3") or "", []).append(request.get("MSH-7") or "")
        versions.setdefault(control_id, set()).add(request.raw)
    assert len(versions) == COUNT  # one effect each
    assert all(len(each) == 1 for each in versions.values())  # the same bytes on every attempt
    assert len(requests) >= COUNT + COUNT // 5  # what was lost was sent again
    assert len(order) == PATIENTS
    assert all(times == sorted(set(times)) for times in order.values())
