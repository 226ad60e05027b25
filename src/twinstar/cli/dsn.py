"""`twinstar dsn`: connection strings that a client can use as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from twinstar.cli.local_files import find_config
from twinstar.config.derive import main_endpoint
from twinstar.config.dsn import client_dsn, member_dsn, write_passfile
from twinstar.config.load import load
from twinstar.config.secrets import Secrets


def dsn(
    config: Annotated[Path | None, typer.Option(help="The cluster's twinstar.yaml.")] = None,
    read: Annotated[bool, typer.Option("--read", help="For reads that may be a little behind.")] = False,
    multi_host: Annotated[
        bool, typer.Option("--multi-host", help="Name all members and let the client find the leader, past the router.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of them as JSON.")] = False,
) -> None:
    """Print a connection string; the password is in the file that it names."""
    loaded = load(find_config(config))
    passfile = write_passfile(loaded, Secrets(loaded.secrets))
    main = main_endpoint(loaded)
    if not as_json:
        typer.echo(client_dsn(loaded, "read" if read else main, multi_host=multi_host))
        return
    document = {
        main: client_dsn(loaded, main, multi_host=multi_host),
        "read": client_dsn(loaded, "read", multi_host=multi_host),
        "members": {node.name: member_dsn(loaded, node) for node in loaded.nodes},
        "passfile": str(passfile),
    }
    typer.echo(json.dumps(document, indent=2))
