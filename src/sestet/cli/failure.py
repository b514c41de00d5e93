"""How a command ends that could not do what it was asked."""

import typer

from sestet.config import ConfigError


class Failure(ConfigError):
    """One line for the terminal: what is wrong, and what to do next. It ends the command with status 2."""


def refuse_options(context: typer.Context) -> None:
    """For a command that has subcommands: what comes before one of them would be forgotten."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise Failure(f"options come after `{context.invoked_subcommand}`, not before it")
