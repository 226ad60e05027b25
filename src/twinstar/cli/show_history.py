"""`twinstar history`: every change of leader that is still recorded."""

from __future__ import annotations

import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from twinstar.cli.ask import ask_history
from twinstar.cli.output import print_json
from twinstar.config.schema import Config

_FIRST = ("epoch", "at", "from", "to", "reason", "evidence", "duration_ms")


def show_history(config: Config, *, as_json: bool) -> None:
    """As a table, or as JSON."""
    entries = ask_history(config)
    if as_json:
        print_json(entries)
        return
    Console().print(history_table(entries))


def history_table(entries: list[dict[str, Any]]) -> Table:
    """One row for each change, oldest first; fields that no entry has are left out."""
    columns = [name for name in _FIRST if any(name in entry for entry in entries)]
    columns += sorted({name for entry in entries for name in entry} - set(_FIRST) - {"schema"})
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column.removesuffix("_ms"), overflow="fold")
    for entry in entries:
        table.add_row(*(_shown(name, entry.get(name)) for name in columns))
    return table


def _shown(name: str, value: object) -> str:
    if value is None:
        return ""
    if name.endswith("wall_ms") and isinstance(value, int | float):
        return datetime.datetime.fromtimestamp(value / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if name.endswith("_ms") and isinstance(value, int | float):
        return f"{value:.0f} ms"
    return str(value)
