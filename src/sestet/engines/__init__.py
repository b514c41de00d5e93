"""Engines: each turns a rendered prompt into tokens. One file or folder an engine; none knows another. Beside them
`slots.py`, the bookkeeping that every engine with places of its own needs."""
