"""This module lets a delivery say how many of its attempts reached nobody: they do not count against its budget."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the number; what waits already has been tried as often as its budget says."""
    op.add_column("delivery", sa.Column("away", sa.Integer(), nullable=False, server_default=sa.text("0")))
