"""`twinstar verify`: are the nodes equal? And with --repair: make them so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from twinstar.api.all_nodes import Ask, Verified, Verifier, everywhere, taken_in
from twinstar.cli.ask import ask_status, asker
from twinstar.cli.local_files import find_config
from twinstar.cli.output import console, print_json, print_line, progress
from twinstar.config.load import load
from twinstar.config.tables import matches
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.clock import SystemClock
from twinstar.rules.active_active.comparing import Versions

_SHORTEST_PAUSE_MS, _LONGEST_PAUSE_MS = 500.0, 30_000.0
_SHOWN = 20


def run_verify(config: Path | None, table: str | None, *, repair: bool, as_json: bool) -> None:
    """Compares all tables, or those that match; exit status 1 when rows differ in the end."""
    loaded = load(find_config(config))
    ask = asker(loaded)
    status = ask_status(loaded)
    members, absent = _members(status)
    with progress("verify", quiet=as_json) as say:
        found = asyncio.run(_verified(members, ask, table, pause_of(status), say, repair=repair))
    if as_json:
        print_json(_facts(found, members, absent))
    else:
        _show(found, members, absent)
    if any(each.unequal for each in found):
        raise typer.Exit(1)


def pause_of(status: dict[str, Any]) -> float:
    """Longer than what is on its way takes, as far as it is known."""
    lag_ms = max((member["lag_ms"] or 0.0 for member in status["members"]), default=0.0)
    return float(min(_LONGEST_PAUSE_MS, _SHORTEST_PAUSE_MS + 2 * lag_ms))


def _members(status: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Those that can be compared, and those that are in and cannot be asked."""
    answering = {member["name"] for member in status["members"] if member["state"] != "unreachable"}
    members = [name for name in status["copies"] if name in answering]
    if len(members) < 2:
        raise EnvironmentTrouble("Fewer than two nodes answer, so nothing can be compared: `twinstar status` says why.")
    return members, [name for name in status["copies"] if name not in answering]


async def _verified(
    members: list[str], ask: Ask, pattern: str | None, pause_ms: float, say: Callable[[str], None], *, repair: bool
) -> list[Verified]:
    tables = taken_in(await everywhere(members, ask, "tables/list", {}))
    wanted = [table for table in tables if pattern is None or matches(pattern, *table)]
    if pattern is not None and not wanted:
        raise UsageError(f"No table that is taken in is called {pattern}: `twinstar tables list` shows them.")
    found = []
    for schema, name in wanted:
        verifier = Verifier(members, ask, SystemClock(), schema, name, pause_ms)
        each = await verifier.compare(lambda so_far: say(_words(so_far)))
        if repair and each.unequal:
            say(f"{_words(each)}; sending them again")
            each = await verifier.repair(each)
        found.append(each)
    return found


def _words(found: Verified) -> str:
    words = f"{found.schema}.{found.name}: {found.rows} rows"
    words += f", {found.unequal} differ" if found.unequal else ""
    return words + (f", {found.moving} to be looked at again" if found.moving else "")


def _facts(found: list[Verified], members: list[str], absent: list[str]) -> dict[str, Any]:
    return {
        "nodes": members,
        "not_compared": absent,
        "differing": sum(each.unequal for each in found),
        "repaired": sum(each.repaired for each in found),
        "tables": [
            {
                "schema": each.schema,
                "name": each.name,
                "rows": each.rows,
                "differing": each.unequal,
                "moving": each.moving,
                "repaired": each.repaired,
                "keys": [
                    {"key": list(key), "stamps": stamps(versions)}
                    for key, versions in list((each.differing or {}).items())[:_SHOWN]
                ],
            }
            for each in found
        ],
    }


def stamps(versions: Versions) -> dict[str, int | None]:
    """By node: the row's stamp; null: it has no such row."""
    return {node: version.stamp if version else None for node, version in versions.items()}


def _show(found: list[Verified], members: list[str], absent: list[str]) -> None:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("table", "rows", "differing", "repaired", "changing all the time"):
        shown.add_column(column, justify="left" if column == "table" else "right")
    for each in found:
        numbers = (each.rows, each.unequal, each.repaired, each.moving)
        shown.add_row(f"{each.schema}.{each.name}", *map(str, numbers))
    console().print(shown, soft_wrap=True)
    for each in found:
        for key, versions in list((each.differing or {}).items())[:_SHOWN]:
            where = ", ".join(f"{node} {'-' if stamp is None else stamp}" for node, stamp in stamps(versions).items())
            print_line(f"{each.schema}.{each.name} {', '.join(key)}: {where}")
    total = sum(each.unequal for each in found)
    equal = f"{', '.join(members)} are equal." if not total else f"{total} rows differ: `twinstar verify --repair`."
    print_line(equal + (f" Not compared: {', '.join(absent)}, who cannot be asked." if absent else ""))
