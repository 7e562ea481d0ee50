"""This module puts together what most fault tests need: an engine, the other side, a ledger and a feed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.harness.channels import channel, others
from tests.faults.harness.engine import Engine
from tests.faults.harness.feed import Feed, Ledger, Sent
from tests.faults.harness.invariants import assert_kept, drain
from tests.faults.harness.sender import Sender, send
from tests.faults.harness.sink import Sink


@dataclass(slots=True)
class Bench:
    """An engine (not started), the other side, the ledger, and a feed of messages."""

    engine: Engine
    sink: Sink
    ledger: Ledger
    feed: Feed

    async def send(self, *messages: Sent) -> None:
        """Send good messages over one connection; all are acknowledged."""
        assert await send(self.engine.port, self.ledger, *messages) == ["AA"] * len(messages)

    async def assert_kept(self, sender: Sender | None = None, seconds: float = 30.0) -> float:
        """Let the engine drain, and see that it kept its promises; return the seconds that draining took."""
        took = await drain(self.engine, seconds)
        assert_kept(self.engine, self.ledger, self.sink, sender)
        return took


@asynccontextmanager
async def set_up(
    folder: Path,
    write: Callable[[int], str] | None = None,
    *,
    store: str = "",
    settings: str = "",
    seed: int = 1,
    patients: int = 40,
) -> AsyncIterator[Bench]:
    """Set everything up in a folder; at the end no process and no port of it is left."""
    async with Sink() as sink:
        with (
            Engine(folder, write or channel(), store=store, settings=settings + others(sink.base)) as engine,
            Ledger(folder / "ledger") as ledger,
        ):
            yield Bench(engine, sink, ledger, Feed(seed, patients))
