"""The command `twinstar`. Here is what commands share; what each does is imported when it is called."""

from __future__ import annotations

import sys

import typer

from twinstar.cli import commands_cluster, commands_local, commands_proof, commands_tables, lazy
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
