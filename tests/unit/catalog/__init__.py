"""Unit tests of sestet.catalog."""
