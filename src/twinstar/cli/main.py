"""The command `twinstar`. Here is what commands share; what each does is imported when it is called."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from twinstar.cli import commands_cluster, commands_local, commands_proof, commands_tables, lazy, store_group
from twinstar.model.errors import TwinstarError, UsageError

app = typer.Typer(
    name="twinstar",
    help="Keeps a PostgreSQL database answering when a machine dies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
commands_local.register(app)
lazy.register(app)
commands_cluster.register(app)
commands_tables.register(app)
commands_proof.register(app)
store_group.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"twinstar {version('twinstar')}, Python {sys.version.split()[0]}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point. An error is one sentence on standard error; status 1, or 2 when the user's input is wrong."""
    try:
        app()
    except TwinstarError as trouble:
        sys.stderr.write(f"{trouble}\n")
        sys.exit(2 if isinstance(trouble, UsageError) else 1)
    except BrokenPipeError:
        sys.stderr.close()  # Whoever read has had enough; Python would complain at its end.
        sys.exit(1)


if __name__ == "__main__":
    main()
