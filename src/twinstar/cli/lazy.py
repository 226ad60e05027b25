"""Commands whose modules are large: loaded when they are called, named from a table when help is asked for."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import typer


@dataclass(frozen=True, slots=True)
class Lazy:
    name: str
    module: str
    function: str
    help: str


COMMANDS = (
    Lazy("init", "twinstar.cli.init", "init", "Write a commented twinstar.yaml, the secrets and certificates."),
    Lazy("show-config", "twinstar.cli.show_config", "show_config", "Show what is in effect, and where it comes from."),
    Lazy(
        "advise", "twinstar.cli.run_advise", "advise", "Say which strategy fits your wishes, what will hurt, and why."
    ),
    Lazy("dsn", "twinstar.cli.dsn", "dsn", "Print a connection string; the password is in the file that it names."),
)


def register(app: typer.Typer) -> None:
    """Adds the commands: the one that is called for what it is, the others by name and help alone."""
    called = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    for command in COMMANDS:
        if command.name == called:
            function = getattr(importlib.import_module(command.module), command.function)
            app.command(command.name)(function)
        else:
            app.command(command.name, help=command.help)(_not_called)


def _not_called() -> None:
    raise AssertionError("a command that was not called")
