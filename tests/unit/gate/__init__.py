"""Unit tests of sestet.gate."""
