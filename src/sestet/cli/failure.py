"""How a command ends that could not do what it was asked."""

from sestet.config import ConfigError


class Failure(ConfigError):
    """One line for the terminal: what is wrong, and what to do next. It ends the command with status 2."""
