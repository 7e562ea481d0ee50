"""This module lets a delivery stand in two lanes: a merge concerns the record that stays and the one that ceases."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the other lane, and the index by which it is found where there is one."""
    op.add_column("delivery", sa.Column("other_lane", sa.BigInteger(), nullable=True))
    op.create_index(
        "delivery_other_lane",
        "delivery",
        ["route_id", "other_lane", "id"],
        unique=False,
        sqlite_where=sa.text("open AND other_lane IS NOT NULL"),
        postgresql_where=sa.text("open AND other_lane IS NOT NULL"),
    )
