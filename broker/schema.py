"""This module declares the tables of the engine's store; `broker/migrations` brings a database to this form.

``open`` deliveries occupy their lane, or both of their lanes. Only the head of a lane has ``due_at``, so claiming work
reads one small index and a million deliveries in backoff cost nothing to skip. Times are POSIX seconds. Sealed columns
are marked.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

# On SQLite only a key of type INTEGER is the row's own address; anything else costs a second tree.
_Id = BigInteger().with_variant(Integer, "sqlite")

setting = Table(
    "setting", metadata, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False)
)

channel = Table(
    "channel", metadata, Column("id", Integer, primary_key=True), Column("name", Text, nullable=False, unique=True)
)

revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel_id", Integer, ForeignKey("channel.id"), nullable=False),
    Column("digest", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("channel_id", "digest", name="revision_digest"),
)

route = Table(
    "route",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel_id", Integer, ForeignKey("channel.id"), nullable=False),
    Column("destination", Text, nullable=False),
    UniqueConstraint("channel_id", "destination", name="route_destination"),
)

message = Table(
    "message",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("channel_id", Integer, nullable=False),
    Column("revision_id", Integer),  # the revision that processed it
    Column("state", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("processed_at", Double),
    Column("type", Text, nullable=False),  # ADT^A04
    Column("peer", Text, nullable=False),
    Column("sender", BigInteger, nullable=False),  # keyed hash of channel, MSH-3, MSH-4, MSH-10
    Column("digest", BigInteger, nullable=False),  # keyed hash of the body
    Column("hashes", LargeBinary, nullable=False),  # its search hashes, 8 bytes each, big endian
    Column("step", Text),  # where it was filtered or failed
    Column("location", Text),
    Column("reason", Text),
    Index(
        "message_received",
        "channel_id",
        "id",
        sqlite_where=text("state = 'received'"),
        postgresql_where=text("state = 'received'"),
    ),
    Index("message_failed", "id", sqlite_where=text("state = 'failed'"), postgresql_where=text("state = 'failed'")),
)

# Insert-only, apart from the rows that change: states are updated often, and a row is rewritten whole.
content = Table(
    "content",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),  # of a message: its body; of a delivery: its request
    Column("data", LargeBinary, nullable=False),  # sealed
)

# Keyed hashes fall all over an index: kept up to date with every message they would be most of what a commit writes.
# So messages carry them, in order, and `broker.keys` sorts them into these two tables a few thousand at a time.
message_key = Table(
    "message_key",
    metadata,
    Column("sender", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

search = Table(
    "search",
    metadata,
    Column("hash", BigInteger, primary_key=True, autoincrement=False),  # keyed hash of channel, index name and value
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("route_id", Integer, nullable=False),
    Column("lane", BigInteger, nullable=False),  # keyed hash of the order key
    Column("state", Text, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("after_id", BigInteger),  # the delivery that must be delivered first
    Column("due_at", Double),
    Column("attempts", Integer, nullable=False),  # ever
    Column("spent", Integer, nullable=False),  # of the present retry budget; a replay begins a new one
    Column("away", Integer, nullable=False, server_default=text("0")),  # of those: they reached nobody
    Column("first_at", Double),  # first attempt of the present budget
    Column("sent_at", Double),
    Column("done_at", Double),
    Column("class", Text),  # of the last outcome: retry, unknown, rejected, expired …
    Column("reason", Text),
    Column("location", Text),
    Column("other_lane", BigInteger),  # of what concerns two records; it has its turn when it has it in both
    Index("delivery_lane", "route_id", "lane", "id", sqlite_where=text("open"), postgresql_where=text("open")),
    Index(
        "delivery_other_lane",
        "route_id",
        "other_lane",
        "id",
        sqlite_where=text("open AND other_lane IS NOT NULL"),
        postgresql_where=text("open AND other_lane IS NOT NULL"),
    ),
    Index(
        "delivery_due",
        "route_id",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index(
        "delivery_after",
        "after_id",
        sqlite_where=text("after_id IS NOT NULL"),
        postgresql_where=text("after_id IS NOT NULL"),
    ),
    Index(
        "delivery_dead",
        "id",
        sqlite_where=text("state IN ('held', 'dead')"),
        postgresql_where=text("state IN ('held', 'dead')"),
    ),
)

attempt = Table(
    "attempt",
    metadata,
    Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
    Column("outcome", Text, nullable=False),  # delivered, retry, unknown, rejected, suppressed
    Column("reason", Text),
    Column("detail", LargeBinary),  # sealed: the other side's reference and response
    Column("via_id", BigInteger),  # whom it reached
    sqlite_with_rowid=False,
)

via = Table(  # every peer once: attempts are many, those whom they reach are few
    "via",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),  # hash of the rest
    Column("address", Text, nullable=False),
    Column("tls", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)

fallback = Table(  # deliveries that come to be only if another cannot be had; their requests are in `content` already
    "fallback",
    metadata,
    Column("delivery_id", BigInteger, primary_key=True, autoincrement=False),  # the other
    Column("id", BigInteger, nullable=False),
    Column("route_id", Integer, nullable=False),
    sqlite_with_rowid=False,
)

pause = Table(  # what an operator has stopped
    "pause",
    metadata,
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("route_id", Integer, primary_key=True, autoincrement=False),  # 0: the channel's way in
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

report = Table(  # what the other side said later of something that it took
    "report",
    metadata,
    Column("reference", BigInteger, primary_key=True, autoincrement=False),  # keyed hash of the attempt's reference
    Column("state", Text, primary_key=True),  # sent, delivered, undeliverable …
    Column("code", Text, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)

counter = Table(  # what the console counts, kept in the transaction that makes it true
    "counter",
    metadata,
    Column("channel_id", Integer, primary_key=True, autoincrement=False),
    Column("route_id", Integer, primary_key=True, autoincrement=False),  # 0: of the channel itself
    Column("hour", Integer, primary_key=True, autoincrement=False),  # hours since 1970
    Column("name", Text, primary_key=True),  # a state, or duplicate, quarantined, attempt
    Column("value", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=False),
    Column("channel_id", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("peer", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # sealed; the first 64 KiB
    Index("quarantine_channel", "channel_id", "id"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("mac", LargeBinary, nullable=False),  # HMAC-SHA256 over the previous mac and this row
)
