"""The `sestet` command."""
