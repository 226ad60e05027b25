"""What `up`, `drill` and `demo` make of the options that describe a new cluster."""

from __future__ import annotations

from pathlib import Path

from twinstar.cli.local_files import find_config
from twinstar.cli.make_cluster import Wishes
from twinstar.config.strategies import strategy_named
from twinstar.model.errors import UsageError


def wishes_of(
    nodes: int | None = None,
    strategy: str | None = None,
    durability: str | None = None,
    store: str | None = None,
    policy: str | None = None,
    preset: str | None = None,
    bin_dir: Path | None = None,
    lease_ms: int | None = None,
    witnesses: int | None = None,
) -> Wishes:
    """The options that were given, with defaults for the others."""
    given = {
        "nodes": nodes,
        "strategy": strategy_named(strategy) if strategy is not None else None,
        "durability": durability,
        "store": store,
        "policy": policy,
        "preset": preset,
        "bin_dir": bin_dir,
        "lease_ms": lease_ms,
        "witnesses": witnesses,
    }
    return Wishes(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def existing_config(config: Path | None, wishes: Wishes) -> Path | None:
    """The file to start from, None when a new cluster is to be made here. Raises UsageError for a mixture of both."""
    try:
        file = find_config(config)
    except UsageError:
        if config is not None:
            raise
        return None
    if wishes != Wishes():
        raise UsageError(
            f"{file} describes a cluster already: change it there and run `twinstar up` without these options, "
            "or run this in an empty folder for a new cluster."
        )
    return file
