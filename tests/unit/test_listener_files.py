"""This module shows how one file is handed to the intake: all of it, in order, once, whatever the store does."""

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

import listeners.file_reading
from broker.errors import NotAccepted
from broker.formats.delimited import CsvSpec
from broker.formats.hl7 import Hl7
from broker.formats.reading import Format
from broker.message import Inbound, Receipt
from broker.parts import Tools
from broker.threads import Threads
from listeners.file_reading import Ended, FileReading, Means
from listeners.files import FilesSpec
from listeners.notes import Notes
from listeners.unpacking import UnpackSpec
from tests.intake import NoIntake

if TYPE_CHECKING:
    from broker.notices import Notice


class Kept(NoIntake):
    """An intake that keeps messages in memory, knows those that came before, and refuses when told to."""

    def __init__(self) -> None:
        self.messages: dict[bytes, Inbound] = {}
        self.quarantined: list[tuple[str, str, bytes]] = []
        self.notices: list[Notice] = []
        self.refuse: Callable[[Inbound], NotAccepted | None] = lambda _: None

    def accept(self, inbound: Inbound) -> "asyncio.Future[Receipt]":
        promise: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        refusal = self.refuse(inbound)
        if refusal is not None:
            promise.set_exception(refusal)
        else:
            duplicate = inbound.key in self.messages
            self.messages.setdefault(inbound.key, inbound)
            promise.set_result(Receipt(message_id=len(self.messages), duplicate=duplicate))
        return promise

    def quarantine(self, _channel: str, peer: str, reason: str, data: bytes) -> None:
        self.quarantined.append((peer, reason, data))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(listeners.file_reading, "_AGAIN", 0.0)
    return Kept()


async def read(
    path: Path, kept: Kept, is_stopping: Callable[[], bool] = lambda: False, form: Format | None = None
) -> Ended:
    tools = Tools("roster", kept, kept.notices.append, None, form or CsvSpec().build(None))
    notes = Notes(path.parent / "notes")
    notes.open()
    with path.open("rb") as file:
        reading = FileReading(file, path.name, Means(tools, Threads("test", 2), notes, UnpackSpec(), is_stopping))
        await reading.prepare()
        await reading.hand_over()
        return await reading.finish()


def roster(folder: Path, count: int, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_text("id,name\n" + "".join(f"{number},N{number}\n" for number in range(count)))
    return path


async def test_every_row_is_handed_over_in_order(tmp_path: Path, kept: Kept) -> None:
    ended = await read(roster(tmp_path, 3000), kept)
    assert (ended.messages, ended.duplicates, ended.reason, ended.is_stopped) == (3000, 0, "", False)
    assert [inbound.peer for inbound in kept.messages.values()] == [f"a.csv:{line}" for line in range(2, 3002)]


async def test_nothing_is_taken_twice_when_a_file_is_read_again(tmp_path: Path, kept: Kept) -> None:
    path = roster(tmp_path, 500)
    await read(path, kept)
    ended = await read(path, kept)
    assert (ended.messages, ended.duplicates, len(kept.messages)) == (500, 500, 500)


async def test_equal_rows_of_one_file_are_two_messages(tmp_path: Path, kept: Kept) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,name\n1,x\n1,x\n")
    assert (await read(path, kept)).duplicates == 0
    assert len(kept.messages) == 2


async def test_other_name_or_content_is_another_file(tmp_path: Path, kept: Kept) -> None:
    await read(roster(tmp_path, 10), kept)
    assert (await read(roster(tmp_path, 10, "b.csv"), kept)).duplicates == 0
    assert (await read(roster(tmp_path, 11), kept)).duplicates == 0


async def test_reading_goes_on_where_it_was_when_it_is_stopped(tmp_path: Path, kept: Kept) -> None:
    path = roster(tmp_path, 3000)
    ended = await read(path, kept, lambda: len(kept.messages) > 700)
    assert ended.is_stopped
    assert 700 < len(kept.messages) < 3000
    first = len(kept.messages)
    ended = await read(path, kept)
    assert (ended.messages, len(kept.messages)) == (3000, 3000)
    assert ended.duplicates < first


async def test_large_file_goes_on_near_where_it_was(
    tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners.file_reading, "_NOTED", 500)
    monkeypatch.setattr(listeners.file_reading, "_SKIPPED", 400)
    path = roster(tmp_path, 5000)
    ended = await read(path, kept, lambda: len(kept.messages) > 4000)
    assert ended.is_stopped
    ended = await read(path, kept)
    assert (ended.messages, ended.duplicates, len(kept.messages)) == (5000, 1, 5000)  # one, for the store to confirm


async def test_position_counts_for_nothing_where_the_store_does_not_know_it(tmp_path: Path, kept: Kept) -> None:
    path = roster(tmp_path, 3000)
    await read(path, kept, lambda: len(kept.messages) > 2000)
    kept.messages.clear()  # the store was set back to an older copy
    ended = await read(path, kept)
    assert (ended.messages, len(kept.messages)) == (3000, 3000)


async def test_packed_file_gives_nothing_away_when_it_is_damaged(tmp_path: Path, kept: Kept) -> None:
    whole = gzip.compress(b"id,name\n" + b"".join(b"%d,x\n" % number for number in range(9000)))
    (tmp_path / "a.csv.gz").write_bytes(whole[:-4])
    ended = await read(tmp_path / "a.csv.gz", kept)
    assert (ended.messages, "not whole" in ended.reason) == (0, True)
    (tmp_path / "a.csv.gz").write_bytes(whole)
    assert (await read(tmp_path / "a.csv.gz", kept)).messages == 9000


async def test_row_is_handed_over_again_when_the_store_is_away(tmp_path: Path, kept: Kept) -> None:
    failures = iter([True, True, False, True])
    kept.refuse = lambda _: NotAccepted("away", code="AE") if next(failures, False) else None
    ended = await read(roster(tmp_path, 5), kept)
    assert (ended.messages, ended.reason, len(kept.messages)) == (5, "", 5)


async def test_stop_ends_the_waiting_for_a_store_that_is_away(tmp_path: Path, kept: Kept) -> None:
    tries: list[int] = []

    def refuse(_: Inbound) -> NotAccepted:
        tries.append(1)
        return NotAccepted("away", code="AE")

    kept.refuse = refuse
    ended = await read(roster(tmp_path, 5), kept, lambda: len(tries) > 20)
    assert ended.is_stopped
    assert not kept.messages


async def test_refused_message_goes_to_quarantine_and_the_others_are_taken(tmp_path: Path, kept: Kept) -> None:
    kept.refuse = lambda inbound: NotAccepted("no", code="AR") if inbound.peer == "a.csv:3" else None
    ended = await read(roster(tmp_path, 5), kept)
    assert (ended.messages, ended.refused) == (4, 1)
    assert "1 of its messages" in ended.reason
    assert [(peer, reason) for peer, reason, _ in kept.quarantined] == [("a.csv:3", "no")]


async def test_file_that_cannot_be_read_goes_to_quarantine(tmp_path: Path, kept: Kept) -> None:
    path = tmp_path / "a.csv"
    path.write_text("no table\n")
    ended = await read(path, kept)
    assert ended.reason.startswith("no column is set off")
    assert kept.quarantined == [("a.csv", ended.reason, b"no table\n")]


async def test_rows_before_the_place_are_kept_when_a_file_stops_being_text(tmp_path: Path, kept: Kept) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,name\n1,x\n".encode("utf-16") + b"\0")
    ended = await read(path, kept)
    assert (ended.messages, "encoding" in ended.reason) == (1, True)


async def test_change_while_reading_is_noticed(tmp_path: Path, kept: Kept) -> None:
    path = roster(tmp_path, 5)

    def refuse(_: Inbound) -> None:
        with path.open("a") as file:
            file.write("9,late\n")

    kept.refuse = refuse
    assert (await read(path, kept)).reason == "the file was changed while it was read"


async def test_pieces_that_are_no_message_are_told_and_few_are_kept(tmp_path: Path, kept: Kept) -> None:
    path = tmp_path / "a.hl7"
    message = b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|1|P|2.5\r"
    path.write_bytes(b"stray\r" + b"".join(b"BHS|^~\\&|\rstray\r" + message for _ in range(300)))
    ended = await read(path, kept, form=Hl7())
    assert ended.refused == 301
    assert len(kept.quarantined) == 100
    assert kept.quarantined[0] == (
        "a.hl7:1",
        "line 1: what stands here belongs to no message: there is no MSH before it",
        b"stray",
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"folder": ""},
        {"folder": "x", "pattern": "a/b"},
        {"folder": "x", "pattern": ".*"},
        {"folder": "x", "poll": 0},
        {"folder": "x", "after": "burn"},
        {"folder": "x", "pattern": ()},
        {"folder": "x", "done": "."},
        {"folder": "/x", "failed": "/x"},
    ],
)
def test_declaration_is_refused_when_it_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FilesSpec.model_validate(options)
