"""Moving a running cluster's register to another store."""

from __future__ import annotations

from typing import Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption


def register(store: typer.Typer) -> None:
    """Adds these commands."""
    store.command()(migrate)


def migrate(
    to: Annotated[str | None, typer.Option(help="The kind of store that `next_store` names, to be sure.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look whether it can be done, and change nothing.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move the register of the running cluster to `next_store`. No leader changes; begun again, it is finished."""
    from twinstar.cli.local_files import find_config
    from twinstar.cli.tell import tell
    from twinstar.config.load import load
    from twinstar.model.errors import UsageError

    path = find_config(config)
    planned = load(path).next_store
    if planned is None:
        raise UsageError(
            "`next_store` is not in the configuration: write the new store there, in the file of every node, restart "
            "the agents one by one, and then move the register with this command."
        )
    kinds = [kind for kind, value in planned if value is not None]
    if to is not None and [to] != kinds:
        raise UsageError(f"`next_store` is {', '.join(kinds)}, not {to}: correct the file, or name that.")
    tell(path, "migrate", as_json=as_json, dry_run=dry_run)
