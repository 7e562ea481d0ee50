"""This module lets what is in quarantine be found by its channel, so that room is made without a look at the others."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the index."""
    op.create_index("quarantine_channel", "quarantine", ["channel_id", "id"], unique=False)
