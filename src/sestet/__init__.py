"""Sestet: the Claude Messages API, with the whole contract behind it, for models people run themselves."""

__version__ = "0.1.0"
