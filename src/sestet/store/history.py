"""What was used before now: for limits after a restart, and for spending that other servers wrote down."""

from sqlalchemy import select

from sestet.ledger.entry import Use
from sestet.store.database import Database
from sestet.store.rows import Spent
from sestet.store.tables import daily_spend, ledger


def spending_since(database: Database, day: int) -> Spent:
    """Micro-dollars by workspace and day, from this day (days since 1970 UTC) on."""
    with database.plainly(), database.reading() as connection:
        rows = connection.execute(select(daily_spend).where(daily_spend.c.day >= day))
        return {(row.workspace_id, row.day): row.cost for row in rows}


def uses_since(database: Database, since_us: int) -> list[Use]:
    """The requests settled since; what was read from a cache is not in their input."""
    with database.plainly(), database.reading() as connection:
        written = ledger.c.cache_write_5m_tokens + ledger.c.cache_write_1h_tokens
        rows = connection.execute(
            select(
                ledger.c.workspace_id,
                ledger.c.model,
                ledger.c.started_at,
                ledger.c.settled_at,
                (ledger.c.input_tokens + written).label("input_tokens"),
                ledger.c.output_tokens,
            ).where(ledger.c.settled_at >= since_us)
        )
        return [Use(*row) for row in rows]
