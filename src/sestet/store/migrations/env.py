"""What Alembic runs. The connection is the caller's, and so is the transaction, which holds every step or none."""

from alembic import context

from sestet.store.tables import metadata

# SQLite changes a table by making it anew.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
