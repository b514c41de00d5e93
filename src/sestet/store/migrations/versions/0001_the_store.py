"""Everything the store begins with: its tables, one organisation, and its default workspace."""

import time
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "organization",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _count("generation"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display_color", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("archived_at", sa.BigInteger()),
        sa.Column("concurrency", sa.Integer()),
        sa.Column("priority_input_tokens_per_minute", sa.BigInteger()),
        sa.Column("priority_output_tokens_per_minute", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
        sa.UniqueConstraint("name", name=op.f("uq_workspaces_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("models", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_api_keys_workspace_id_workspaces")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_table(
        "rate_limits",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("model_class", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('requests', 'input_tokens', 'output_tokens')", name=op.f("ck_rate_limits_kind")),
        sa.PrimaryKeyConstraint("workspace_id", "model_class", "kind", name=op.f("pk_rate_limits")),
    )
    op.create_table(
        "spend_limits",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text()),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("period IN ('daily', 'monthly')", name=op.f("ck_spend_limits_period")),
        sa.ForeignKeyConstraint(
            ["workspace_id"], ["workspaces.id"], name=op.f("fk_spend_limits_workspace_id_workspaces")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spend_limits")),
        sa.UniqueConstraint("workspace_id", "period", name=op.f("uq_spend_limits_workspace_id_period")),
    )
    op.create_index(
        "uq_spend_limits_organization_period",
        "spend_limits",
        ["period"],
        unique=True,
        sqlite_where=sa.text("workspace_id IS NULL"),
        postgresql_where=sa.text("workspace_id IS NULL"),
    )
    op.create_table(
        "ledger",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("weights_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        _count("input_tokens"),
        _count("cache_write_5m_tokens"),
        _count("cache_write_1h_tokens"),
        _count("cache_read_tokens"),
        _count("output_tokens"),
        _count("thinking_tokens"),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("price_input", sa.BigInteger(), nullable=False),
        sa.Column("price_cache_write_5m", sa.BigInteger(), nullable=False),
        sa.Column("price_cache_write_1h", sa.BigInteger(), nullable=False),
        sa.Column("price_cache_read", sa.BigInteger(), nullable=False),
        sa.Column("price_output", sa.BigInteger(), nullable=False),
        _count("cost"),
        sa.Column("own_price_input", sa.BigInteger(), nullable=False),
        sa.Column("own_price_output", sa.BigInteger(), nullable=False),
        _count("own_cost"),
        sa.Column("queue_us", sa.BigInteger()),
        sa.Column("first_token_us", sa.BigInteger()),
        sa.Column("duration_us", sa.BigInteger()),
        sa.CheckConstraint("(state = 'running') = (settled_at IS NULL)", name=op.f("ck_ledger_settled")),
        sa.CheckConstraint(
            "state IN ('running', 'finished', 'failed', 'abandoned', 'interrupted')", name=op.f("ck_ledger_state")
        ),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_ledger")),
    )
    op.create_index("ix_ledger_settled_at", "ledger", ["settled_at"])
    op.create_index("ix_ledger_state_server_id", "ledger", ["state", "server_id"])
    op.create_index("ix_ledger_workspace_id_settled_at", "ledger", ["workspace_id", "settled_at"])
    op.create_table(
        "daily_spend",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        _count("cost"),
        _count("own_cost"),
        sa.PrimaryKeyConstraint("workspace_id", "day", name=op.f("pk_daily_spend")),
    )
    op.create_table(
        "servers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_servers")),
    )
    op.create_table(
        "idempotency",
        sa.Column("workspace_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_digest", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("server_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "key", name=op.f("pk_idempotency")),
    )

    now = time.time_ns() // 1000
    organization = sa.table("organization", sa.column("id"), sa.column("name"), sa.column("created_at"))
    op.execute(organization.insert().values(id=str(uuid.uuid4()), name="Organization", created_at=now))
    workspaces = sa.table(
        "workspaces", sa.column("id"), sa.column("name"), sa.column("display_color"), sa.column("created_at")
    )
    op.execute(workspaces.insert().values(id="wrkspc_default", name="Default", display_color="#6C5BB9", created_at=now))


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
