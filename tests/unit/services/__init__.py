"""Unit tests of sestet.services."""
