"""`twinstar history`: every change of leader that is still recorded."""

from __future__ import annotations

import datetime
from typing import Any

from rich.table import Table

from twinstar.cli.ask import ask_history
from twinstar.cli.output import console, print_json
from twinstar.config.schema import Config


def show_history(config: Config, *, as_json: bool) -> None:
    """As a table, or as JSON."""
    entries = completed(ask_history(config))
    if as_json:
        print_json(entries)
    else:
        console().print(history_table(entries))


def completed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each entry with whom it took the leadership from (`from`, null for the first) and how long it took until clients
    were served (`took_ms`, from the naming of the leader on; null when that was not recorded).
    """
    leaders = [None, *(entry.get("leader") for entry in entries)]
    return [
        {**entry, "from": before, "took_ms": max((entry.get("milestones_ms") or {}).values(), default=None)}
        for entry, before in zip(entries, leaders, strict=False)
    ]


def history_table(entries: list[dict[str, Any]]) -> Table:
    """One row for each completed entry, oldest first."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("epoch", "when", "leader", "took", "why", "evidence"):
        table.add_column(column, justify="right" if column in ("epoch", "took") else "left", overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry["epoch"]),
            _when(entry.get("at_wall_ms")),
            _change(entry["from"], entry.get("leader")),
            "" if entry["took_ms"] is None else f"{entry['took_ms']:.0f} ms",
            str(entry.get("reason") or ""),
            str(entry.get("evidence") or ""),
        )
    return table


def _change(before: str | None, after: str | None) -> str:
    if before is None:
        return f"{after}"
    return f"{after} again" if before == after else f"{before} → {after}"


def _when(wall_ms: float | None) -> str:
    if wall_ms is None:
        return ""
    return datetime.datetime.fromtimestamp(wall_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
