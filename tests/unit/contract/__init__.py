"""Unit tests of sestet.contract."""
