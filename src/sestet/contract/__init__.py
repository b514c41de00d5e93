"""The Messages API as types and tables: what may be said, in which order, and how it fails. No logic, no I/O."""
