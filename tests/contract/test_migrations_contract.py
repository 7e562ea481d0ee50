"""The migrations of the engine's store add up to the tables that the code declares, on both databases."""

import asyncio

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from broker.migrate import migrate, sqlalchemy_url
from broker.schema import metadata


async def test_migrations_make_the_tables_that_are_declared(store_urls: str) -> None:
    await asyncio.to_thread(migrate, store_urls)
    engine = create_engine(sqlalchemy_url(store_urls))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
