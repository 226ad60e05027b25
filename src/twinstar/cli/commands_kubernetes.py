"""What a Kubernetes cluster needs to be a store."""

from __future__ import annotations

from typing import Annotated

import typer


def register(store: typer.Typer) -> None:
    """Adds these commands."""
    store.command(name="manifest")(print_manifest)


def print_manifest(
    namespace: Annotated[str, typer.Option(help="Where the cluster's objects are; one for each cluster.")] = "twinstar",
    account: Annotated[str, typer.Option(help="The service account that may read and write them.")] = "twinstar",
) -> None:
    """Print what Kubernetes needs to be the store, for `kubectl apply -f -`: a kind of object and the least rights."""
    from twinstar.cli.output import print_line
    from twinstar.store.kubernetes.manifest import manifest

    print_line(manifest(namespace, account).rstrip())
