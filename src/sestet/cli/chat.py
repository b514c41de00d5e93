"""`sestet chat`."""


def chat() -> None:
    """To be written."""
