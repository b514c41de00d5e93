"""Unit tests of sestet.server."""
