"""Commands to agents, and how their outcome is shown."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from twinstar.cli.ask import command, command_each
from twinstar.cli.local_files import find_config
from twinstar.cli.output import print_json, print_line, progress
from twinstar.config.load import load
from twinstar.model.errors import EnvironmentTrouble, UsageError


def tell(config: Path | None, name: str, *, as_json: bool, at: str | None = None, **fields: Any) -> None:
    """Has one agent (`at`, else the leader's) carry a command out. Raises EnvironmentTrouble when it did not."""
    loaded = load(find_config(config))
    with progress(name, quiet=as_json) as say:
        say("waiting for the agent")
        outcome = command(loaded, name, at=at, **fields)
    if as_json:
        print_json(asdict(outcome))
        if not outcome.ok:
            raise typer.Exit(1)
    elif outcome.ok:
        print_line(outcome.message)
    else:
        raise EnvironmentTrouble(outcome.message)


def tell_each(config: Path | None, name: str, *, as_json: bool) -> None:
    """Has every agent carry a command out; exit status 1 when one did not."""
    outcomes = command_each(load(find_config(config)), name)
    if as_json:
        print_json({member: asdict(outcome) for member, outcome in outcomes.items()})
    else:
        for member, outcome in outcomes.items():
            print_line(f"{member}: {outcome.message}")
    if not all(outcome.ok for outcome in outcomes.values()):
        raise typer.Exit(1)


def confirm(question: str, yes: bool) -> None:
    """Asks, unless the answer was given. Raises UsageError when there is nobody to ask or the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Answer with --yes.")
    if not typer.confirm(question):
        raise UsageError("Nothing was changed.")
