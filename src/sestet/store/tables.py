"""The tables: times in whole microseconds since 1970 UTC, money in micro-dollars, prices a million tokens.

A change here needs a migration beside it (migrations/versions); a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

# A constraint without a name cannot be changed by a migration, and the two databases would invent different ones.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

US_PER_DAY = 86_400_000_000


def _count(name: str) -> Column[int]:
    """A number that begins at nothing."""
    return Column(name, BigInteger, nullable=False, server_default="0")


# One row. `generation` rises with every change of keys, workspaces or limits, in the transaction that changes them.
organization = Table(
    "organization",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    _count("generation"),
)

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("display_color", Text, nullable=False),
    Column("tags", Text, nullable=False, server_default="{}"),  # a JSON object of strings
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
    Column("concurrency", Integer),  # requests at once; none: as many as the organisation's
    Column("priority_input_tokens_per_minute", BigInteger),
    Column("priority_output_tokens_per_minute", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workspace_id", Text, ForeignKey(workspaces.c.id)),  # none: the organisation's
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False, unique=True),  # 64 hex characters, keyed; the key itself is nowhere
    Column("hint", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # words separated by spaces
    Column("models", Text),  # a JSON list; none: every model
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text),
    Column("expires_at", BigInteger),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("workspace_id", Text, primary_key=True),  # '' is the organisation
    Column("model_class", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),  # a minute
    CheckConstraint("kind IN ('requests', 'input_tokens', 'output_tokens')", name="kind"),
)

# What is left of limits by the minute, where several servers count together. No row: everything is.
meters = Table(
    "meters",
    metadata,
    Column("workspace_id", Text, primary_key=True),  # '' is the organisation
    Column("model_class", Text, primary_key=True),  # '' is the capacity of the priority tier
    Column("levels", Text, nullable=False),  # a JSON object: kind to its capacity and level; they pass 64 bits
    Column("at", BigInteger, nullable=False),  # when the levels were so, by the database's clock
    Column("full_at", BigInteger, nullable=False),  # from when on the row says nothing more
)

spend_limits = Table(
    "spend_limits",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workspace_id", Text, ForeignKey(workspaces.c.id)),  # none: the organisation's
    Column("period", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("workspace_id", "period"),
    CheckConstraint("period IN ('daily', 'monthly')", name="period"),
)
# No two NULLs are equal to a unique constraint, so the organisation needs one of its own.
Index(
    "uq_spend_limits_organization_period",
    spend_limits.c.period,
    unique=True,
    sqlite_where=spend_limits.c.workspace_id.is_(None),
    postgresql_where=spend_limits.c.workspace_id.is_(None),
)

# One row a request. Prices are those in force at its start, discounts included.
ledger = Table(
    "ledger",
    metadata,
    Column("request_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Column("server_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("weights_id", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    _count("input_tokens"),
    _count("cache_write_5m_tokens"),
    _count("cache_write_1h_tokens"),
    _count("cache_read_tokens"),
    _count("output_tokens"),
    _count("thinking_tokens"),
    Column("stop_reason", Text),
    Column("error", Text),
    Column("price_input", BigInteger, nullable=False),
    Column("price_cache_write_5m", BigInteger, nullable=False),
    Column("price_cache_write_1h", BigInteger, nullable=False),
    Column("price_cache_read", BigInteger, nullable=False),
    Column("price_output", BigInteger, nullable=False),
    _count("cost"),
    Column("own_price_input", BigInteger, nullable=False),
    Column("own_price_output", BigInteger, nullable=False),
    _count("own_cost"),
    Column("queue_us", BigInteger),
    Column("first_token_us", BigInteger),
    Column("duration_us", BigInteger),
    CheckConstraint("state IN ('running', 'finished', 'failed', 'abandoned', 'interrupted')", name="state"),
    CheckConstraint("(state = 'running') = (settled_at IS NULL)", name="settled"),
    Index(None, "settled_at"),
    Index(None, "workspace_id", "settled_at"),
    Index(None, "state", "server_id"),
)

# What the ledger adds up to, by the day of `settled_at`, written in the transaction that settles.
daily_spend = Table(
    "daily_spend",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970 UTC
    _count("cost"),
    _count("own_cost"),
)

servers = Table(
    "servers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("heartbeat_at", BigInteger, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_digest", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("server_id", Text, nullable=False),
    Column("status", Integer),  # none while the request runs
    Column("body", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
)
