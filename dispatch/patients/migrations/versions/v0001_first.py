"""This module makes the first tables of the patient store."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table and index."""
    _make_patients()
    _make_lists()
    _make_encounters()
    _make_history()


def _make_patients() -> None:
    op.create_table(
        "patient",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("survivor_id", _KEY, nullable=True),
        sa.Column("mrn_value", sa.Text(), nullable=False),
        sa.Column("mrn_system", sa.Text(), nullable=False),
        sa.Column("mrn_type", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=True),
        sa.Column("given", sa.Text(), nullable=True),
        sa.Column("birth_date", sa.Text(), nullable=True),
        sa.Column("sex", sa.Text(), nullable=True),
        sa.Column("mobile", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("marital_status", sa.Text(), nullable=True),
        sa.Column("deceased", sa.Boolean(), nullable=True),
        sa.Column("deceased_at", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("as_of", sa.Text(), nullable=True),
        sa.Column("encounter_id", _KEY, nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "length(mrn_value) BETWEEN 1 AND 256 AND length(mrn_system) <= 256 AND length(mrn_type) <= 64",
            name="patient_mrn_length",
        ),
        sa.CheckConstraint("survivor_id <> id", name="patient_survivor_is_another"),
        sa.ForeignKeyConstraint(
            ["survivor_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("mrn_value", "mrn_system", "mrn_type", name="patient_mrn"),
    )
    op.create_index(
        "patient_survivor",
        "patient",
        ["survivor_id"],
        unique=False,
        sqlite_where=sa.text("survivor_id IS NOT NULL"),
        postgresql_where=sa.text("survivor_id IS NOT NULL"),
    )


def _make_lists() -> None:
    op.create_table(
        "patient_identifier",
        sa.Column("patient_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "length(value) <= 256 AND length(system) <= 256 AND length(type) <= 64", name="patient_identifier_length"
        ),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("patient_id", "value", "system", "type"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "patient_name",
        sa.Column("patient_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("family", sa.Text(), nullable=True),
        sa.Column("given", sa.Text(), nullable=True),
        sa.Column("prefix", sa.Text(), nullable=True),
        sa.Column("suffix", sa.Text(), nullable=True),
        sa.Column("use", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("patient_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "patient_telecom",
        sa.Column("patient_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("system", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("use", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("patient_id", "position"),
        sqlite_with_rowid=False,
    )
    # ### end Alembic commands ###
    op.create_table(
        "patient_address",
        sa.Column("patient_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("lines", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("district", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("use", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("patient_id", "position"),
        sqlite_with_rowid=False,
    )


def _make_encounters() -> None:
    op.create_table(
        "encounter",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("patient_class", sa.Text(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("prior_location", sa.Text(), nullable=True),
        sa.Column("attending", sa.Text(), nullable=True),
        sa.Column("referring", sa.Text(), nullable=True),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("admitted_at", sa.Text(), nullable=True),
        sa.Column("discharged_at", sa.Text(), nullable=True),
        sa.Column("disposition", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("as_of", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(value) BETWEEN 1 AND 256 AND length(system) <= 256", name="encounter_visit_length"),
        sa.ForeignKeyConstraint(
            ["patient_id"],
            ["patient.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("patient_id", "value", "system", name="encounter_visit"),
    )


def _make_history() -> None:
    op.create_table(
        "patient_event",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("delivery_id", sa.BigInteger(), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("changed", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("patient_event_patient", "patient_event", ["patient_id", "id"], unique=False)
    op.create_table(
        "patient_source",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("facility", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(channel) <= 256 AND length(application) <= 256 AND length(facility) <= 256",
            name="patient_source_length",
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel", "application", "facility", name="patient_source_key"),
    )
    op.create_table(
        "applied",
        sa.Column("delivery_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("patient_id", _KEY, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
