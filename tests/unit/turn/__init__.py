"""Unit tests of sestet.turn."""
