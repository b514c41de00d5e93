"""Tests of the tree itself: its layout, its locks, its manual."""
