"""Unit tests of sestet.dialects."""
