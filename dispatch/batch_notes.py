"""This module notes in the store which deliveries a batch file holds, so that after a crash none is written twice.

A batch is noted before its file is written, and again once the file has its name. Whoever comes a second time is looked
up: in a file that was written they are delivered; whether one that was only begun is there, the place can say.
"""

from dataclasses import dataclass

import orjson

from broker.delivery import Delivery
from broker.parts import Marks


@dataclass(slots=True)
class Noted:
    """One batch file: its name, what is in it, and the SHA-256 of its content in hexadecimal digits."""

    name: str
    digest: str
    members: frozenset[int]
    is_written: bool = False


class BatchNotes:
    """The notes of one destination; without ``marks`` they are kept in memory only.

    ``most`` is how many deliveries may be under way: at least so many are looked up in what is kept.
    """

    def __init__(self, marks: Marks | None, most: int) -> None:
        self._marks = marks
        self._most = most
        self._kept: list[Noted] | None = None  # the oldest first; None: not read yet

    async def of(self, delivery: Delivery) -> Noted | None:
        """Return the newest file that a delivery was meant for, None where it was in none. Raises `StoreError`."""
        kept = await self._read(delivery.route)
        return next((each for each in reversed(kept) if delivery.id in each.members), None)

    async def begin(self, route: int, noted: Noted) -> None:
        """Return once a batch is noted that is about to be written. Raises `StoreError`."""
        kept = await self._read(route)
        kept.append(noted)
        while sum(len(each.members) for each in kept[1:]) > self._most:
            kept.pop(0)
        await self._write(route)

    async def written(self, route: int, noted: Noted) -> None:
        """Return once it is noted that a file has its name. Raises `StoreError`."""
        noted.is_written = True
        await self._write(route)

    async def _read(self, route: int) -> list[Noted]:
        if self._kept is None:
            found = await self._marks.read(_mark(route)) if self._marks is not None else None
            if self._kept is None:  # nobody was faster
                self._kept = [
                    Noted(name, digest, frozenset(members), is_written)
                    for name, digest, members, is_written in orjson.loads(found or b"[]")
                ]
        return self._kept

    async def _write(self, route: int) -> None:
        if self._marks is not None:
            kept = [(each.name, each.digest, sorted(each.members), each.is_written) for each in self._kept or ()]
            await self._marks.write(_mark(route), orjson.dumps(kept))


def _mark(route: int) -> str:
    return f"batch files of {route}"
