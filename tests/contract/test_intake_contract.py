"""This module checks on each database what the intake takes for a message that came before."""

from typing import TYPE_CHECKING

from broker.formats.reading import no_index
from broker.formats.tree import Json
from broker.intake import Door, StoreIntake
from broker.message import Inbound, Receipt
from broker.notices import ControlIdReused
from tests.filling import SEALER, Filling

if TYPE_CHECKING:
    from broker.notices import Notice


async def test_key_decides_where_a_listener_says_so(filling: Filling) -> None:
    """A sender that counts its attempts in the body brings one event; else other bytes are another message."""
    notices: list[Notice] = []
    intake = StoreIntake(filling.store, SEALER, filling.ids, notices.append)
    handed: list[int] = []
    door = Door(
        number=filling.registered.channel,
        name="hooks",
        format=Json(),
        index=no_index,
        hand_over=lambda message, _at, _body: handed.append(message),
    )
    intake.admit(door)

    async def accept(body: bytes, key: bytes, *, key_decides: bool) -> Receipt:
        return await intake.accept(Inbound(channel="hooks", body=body, key=key, key_decides=key_decides))

    first = await accept(b'{"attempt": 1}', b"e1", key_decides=True)
    again = await accept(b'{"attempt": 2}', b"e1", key_decides=True)
    assert (again.message_id, again.duplicate) == (first.message_id, True)
    assert not (await accept(b'{"attempt": 1}', b"e2", key_decides=True)).duplicate
    assert not (await accept(b'{"attempt": 1}', b"", key_decides=True)).duplicate
    assert not (await accept(b'{"attempt": 1}', b"", key_decides=True)).duplicate
    assert not any(isinstance(one, ControlIdReused) for one in notices)
    assert not (await accept(b'{"attempt": 1}', b"e3", key_decides=False)).duplicate
    assert not (await accept(b'{"attempt": 2}', b"e3", key_decides=False)).duplicate
    assert sum(isinstance(one, ControlIdReused) for one in notices) == 1
    assert len(handed) == 6
