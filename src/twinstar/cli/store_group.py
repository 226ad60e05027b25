"""The commands `twinstar store …`: each store's are in a module of its own."""

from __future__ import annotations

import typer

from twinstar.cli import commands_kubernetes, commands_migrate, commands_store


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    store = typer.Typer(help="The store: members, backups, and what it needs.", no_args_is_help=True)
    commands_store.register(store)
    commands_kubernetes.register(store)
    commands_migrate.register(store)
    app.add_typer(store, name="store")
