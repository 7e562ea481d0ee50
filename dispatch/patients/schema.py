"""This module declares the tables of the patient store; `dispatch/patients/migrations` brings a database to this form.

A patient that was merged into another keeps everything of its own and points to the survivor; ``survivor_id`` always
names the last survivor, never one that was merged itself. Columns named ``delivery_id`` say which delivery a value came
from. Times that we took are POSIX seconds (``updated_at``, ``recorded_at``, ``applied.at``), times that a sender said
are FHIR dateTime text. The names do not clash with the engine's, so both may share a PostgreSQL database.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

_KEY = BigInteger().with_variant(Integer(), "sqlite")  # INTEGER PRIMARY KEY is the row's own key on SQLite


def _patient() -> Column[int]:
    return Column("patient_id", _KEY, ForeignKey("patient.id"), primary_key=True, autoincrement=False)


def _position() -> Column[int]:
    return Column("position", Integer, primary_key=True, autoincrement=False)


patient = Table(
    "patient",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("survivor_id", _KEY, ForeignKey("patient.id")),
    Column("mrn_value", Text, nullable=False),
    Column("mrn_system", Text, nullable=False),
    Column("mrn_type", Text, nullable=False),
    Column("family", Text),
    Column("given", Text),
    Column("birth_date", Text),
    Column("sex", Text),
    Column("mobile", Text),
    Column("email", Text),
    Column("language", Text),
    Column("marital_status", Text),
    Column("deceased", Boolean),
    Column("deceased_at", Text),
    Column("account", Text),  # JSON: value, system, type
    Column("digest", Text),  # of the demographics applied last, as they were sent
    Column("as_of", Text),  # when they were true: occurred_at of their event
    Column("encounter_id", _KEY),  # the encounter heard of last
    Column("version", Integer, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("delivery_id", BigInteger, nullable=False),
    Column("source_id", Integer, nullable=False),
    UniqueConstraint("mrn_value", "mrn_system", "mrn_type", name="patient_mrn"),
    CheckConstraint(
        "length(mrn_value) BETWEEN 1 AND 256 AND length(mrn_system) <= 256 AND length(mrn_type) <= 64",
        name="patient_mrn_length",
    ),
    CheckConstraint("survivor_id <> id", name="patient_survivor_is_another"),
    Index(
        "patient_survivor",
        "survivor_id",
        sqlite_where=text("survivor_id IS NOT NULL"),
        postgresql_where=text("survivor_id IS NOT NULL"),
    ),
)

patient_identifier = Table(  # attributes: they never match one patient with another
    "patient_identifier",
    metadata,
    _patient(),
    Column("value", Text, primary_key=True),
    Column("system", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("delivery_id", BigInteger, nullable=False),
    CheckConstraint(
        "length(value) <= 256 AND length(system) <= 256 AND length(type) <= 64", name="patient_identifier_length"
    ),
    sqlite_with_rowid=False,
)

patient_name = Table(
    "patient_name",
    metadata,
    _patient(),
    _position(),
    Column("family", Text),
    Column("given", Text),  # JSON: a list
    Column("prefix", Text),
    Column("suffix", Text),
    Column("use", Text),
    sqlite_with_rowid=False,
)

patient_telecom = Table(
    "patient_telecom",
    metadata,
    _patient(),
    _position(),
    Column("system", Text),
    Column("value", Text),
    Column("use", Text),
    sqlite_with_rowid=False,
)

patient_address = Table(
    "patient_address",
    metadata,
    _patient(),
    _position(),
    Column("lines", Text),  # JSON: a list
    Column("city", Text),
    Column("district", Text),
    Column("state", Text),
    Column("postal_code", Text),
    Column("country", Text),
    Column("use", Text),
    sqlite_with_rowid=False,
)

encounter = Table(
    "encounter",
    metadata,
    Column("id", _KEY, primary_key=True),
    Column("patient_id", _KEY, ForeignKey("patient.id"), nullable=False),
    Column("value", Text, nullable=False),  # the visit number
    Column("system", Text, nullable=False),
    Column("status", Text),
    Column("patient_class", Text),
    Column("location", Text),  # JSON, as are the next three
    Column("prior_location", Text),
    Column("attending", Text),
    Column("referring", Text),
    Column("service", Text),
    Column("admitted_at", Text),
    Column("discharged_at", Text),
    Column("disposition", Text),
    Column("digest", Text, nullable=False),  # of what was said last, and of its effect
    Column("as_of", Text),
    Column("updated_at", Double, nullable=False),
    Column("delivery_id", BigInteger, nullable=False),
    UniqueConstraint("patient_id", "value", "system", name="encounter_visit"),
    CheckConstraint("length(value) BETWEEN 1 AND 256 AND length(system) <= 256", name="encounter_visit_length"),
)

patient_source = Table(  # said once instead of with every event
    "patient_source",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("facility", Text, nullable=False),
    UniqueConstraint("channel", "application", "facility", name="patient_source_key"),
    CheckConstraint(
        "length(channel) <= 256 AND length(application) <= 256 AND length(facility) <= 256",
        name="patient_source_length",
    ),
)

# The two tables that every event writes hold no foreign keys: on PostgreSQL each costs a lookup and a lock per row.
patient_event = Table(
    "patient_event",
    metadata,
    Column("id", _KEY, primary_key=True),  # in the order of recording
    Column("patient_id", _KEY, nullable=False),
    Column("delivery_id", BigInteger, nullable=False),
    Column("source_id", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("occurred_at", Text),
    Column("recorded_at", Double, nullable=False),
    Column("late", Boolean, nullable=False),  # something newer was known, which it did not overwrite
    Column("changed", Text),  # names of fields, separated by commas; never values
    Index("patient_event_patient", "patient_id", "id"),
)

consent = Table(  # what people said about being contacted, by where they are reached
    "consent",
    metadata,
    Column("telecom", Text, primary_key=True),  # a number in E.164
    Column("medium", Text, primary_key=True),  # sms
    Column("purpose", Text, primary_key=True),  # empty: any
    Column("decision", Text, nullable=False),  # permit, deny
    Column("said_at", Double, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("delivery_id", BigInteger, nullable=False),
)

permission = Table(  # what a patient allows and forbids us to do, whoever is reached
    "permission",
    metadata,
    _patient(),
    Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),
    Column("medium", Text, nullable=False),  # sms, email, phone …; empty: any
    Column("purpose", Text, nullable=False),  # appointment, marketing …; empty: any
    Column("decision", Text, nullable=False),  # permit, deny
    Column("said_at", Double, nullable=False),
    Column("starts_at", Double),
    Column("ends_at", Double),
    Column("recorded_at", Double, nullable=False),
)

applied = Table(  # a delivery that stands here took effect, and takes none again
    "applied",
    metadata,
    Column("delivery_id", _KEY, primary_key=True, autoincrement=False),
    Column("patient_id", _KEY, nullable=False),
    Column("at", Double, nullable=False),
)
