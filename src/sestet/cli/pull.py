"""`sestet pull`."""


def pull() -> None:
    """To be written."""
