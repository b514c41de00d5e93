"""Unit tests of sestet.engines."""
