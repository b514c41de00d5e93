"""Tests of sestet.ledger."""
