"""What outlives the process: workspaces, keys, limits, the ledger. SQLite or PostgreSQL, the same code for both."""
