"""`twinstar show-config`: every value in effect and where it comes from; secrets are named, never shown."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from twinstar.cli.local_files import find_config
from twinstar.config.effective import effective
from twinstar.config.load import load
from twinstar.config.schema import Config
from twinstar.config.secrets import ENVIRONMENT_PREFIX, Secret

_HIDDEN = "********"
_PASSWORD = re.compile(r"(\w*(?:passw|secret|token)\w*\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE)


def show_config(
    config: Annotated[Path | None, typer.Option(help="The cluster's twinstar.yaml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is in effect, and whether it comes from the file, the preset or a default."""
    file = find_config(config)
    loaded = load(file)
    values = {key: (masked(entry.value), entry.origin) for key, entry in effective(loaded).items()}
    kept = secrets_kept(loaded)
    if as_json:
        shown: dict[str, Any] = {key: {"value": value, "origin": origin} for key, (value, origin) in values.items()}
        typer.echo(json.dumps({"file": str(file), "values": shown, "secrets": kept}, indent=2))
        return
    typer.echo(f"# {file}")
    width = max(len(f"{key}: {_plain(value)}") for key, (value, _) in values.items() if len(_plain(value)) < 40)
    for key, (value, origin) in values.items():
        typer.echo(f"{f'{key}: {_plain(value)}':{width}}  # {origin}")
    for name, where in kept.items():
        typer.echo(f"{f'secret {name}: {_HIDDEN}':{width}}  # {where}")


def secrets_kept(config: Config) -> dict[str, str]:
    """Where each secret comes from: ``environment``, ``file`` or ``missing``."""
    found = {}
    for name in Secret:
        if os.environ.get(ENVIRONMENT_PREFIX + name.upper()):
            found[name.value] = "environment"
        else:
            found[name.value] = "file" if (config.secrets / name).exists() else "missing"
    return found


def masked(value: Any) -> Any:
    """The value as JSON, passwords inside of texts (an LDAP line of `hba`) replaced."""
    if isinstance(value, str | Path):
        return _PASSWORD.sub(lambda match: match[1] + _HIDDEN, str(value))
    if isinstance(value, tuple | list):
        return [masked(entry) for entry in value]
    return value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
