"""How the schema came to be, step by step. `Database.upgrade` runs what is missing."""
