"""This module shows on each database that the store keeps marks of ways in, and shows nobody what they are."""

from broker.marks import StoreMarks
from broker.store import Store
from tests.contract.test_database_contract import run
from tests.filling import SEALER


async def test_store_keeps_marks_sealed(laid_urls: str) -> None:
    store = Store(laid_urls, SEALER, lambda _notice: None)
    await store.open()
    try:
        marks = StoreMarks(store, SEALER)
        assert await marks.read("visits") is None
        for value in (b"first", b"Okafor"):
            await marks.write("visits", value)
            assert await marks.read("visits") == value
        assert await marks.read("others") is None
        assert b"Okafor" not in b"".join(bytes(row[0]) for row in run(laid_urls, "SELECT value FROM setting"))
    finally:
        await store.close()
