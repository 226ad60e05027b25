"""`twinstar tables`: which tables every node writes to, and what stands in the way of others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from twinstar.api.all_nodes import Ask, Checked, add_table, check_table, everywhere
from twinstar.api.tables import Wish
from twinstar.cli.ask import ask_status, asker
from twinstar.cli.local_files import find_config
from twinstar.cli.output import console, print_json, print_line, progress
from twinstar.config.load import load
from twinstar.config.schema import Config, TableRule
from twinstar.config.tables import matches, rule_of, split
from twinstar.model.errors import EnvironmentTrouble, UsageError


def opened(config: Path | None) -> tuple[Config, Ask, list[str]]:
    """The configuration, a way to each node, and the nodes that are in. Raises TwinstarError."""
    loaded = load(find_config(config))
    ask = asker(loaded)
    members: list[str] = ask_status(loaded)["copies"]
    if not members:
        raise EnvironmentTrouble("No node is in yet: wait until `twinstar status` shows one as serving.")
    return loaded, ask, members


def list_tables(config: Path | None, *, as_json: bool) -> None:
    """Every table, and on which nodes it is taken in."""
    _, ask, members = opened(config)
    answers = asyncio.run(everywhere(members, ask, "tables/list", {}))
    of_nodes: dict[tuple[str, str], dict[str, Any]] = {}
    for member, answer in answers.items():
        for table in answer["tables"]:
            known = of_nodes.setdefault((table["schema"], table["name"]), {**table, "taken_in": []})
            if table["taken_in"]:
                known["taken_in"].append(member)
                known |= {name: table[name] for name in ("counters", "groups", "function")}
    tables = [of_nodes[key] for key in sorted(of_nodes)]
    if as_json:
        print_json({"nodes": members, "tables": tables})
        return
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("table", "rows", "taken in", "policy"):
        shown.add_column(column, justify="right" if column == "rows" else "left")
    for table in tables:
        there = table["taken_in"]
        where = "everywhere" if sorted(there) == sorted(members) else ", ".join(there) or "no"
        shown.add_row(f"{table['schema']}.{table['name']}", str(table["rows"]), where, _policy(table) if there else "")
    console().print(shown, soft_wrap=True)


def _policy(table: dict[str, Any]) -> str:
    words = [f"counts {', '.join(table['counters'])}"] if table["counters"] else []
    words += [f"groups {'; '.join(', '.join(group) for group in table['groups'])}"] if table["groups"] else []
    words += [f"merged by {table['function']}"] if table["function"] else []
    return ", ".join(words) or "last write wins"


def check_tables(config: Path | None, names: list[str], rule: TableRule | None, *, as_json: bool) -> None:
    """Says what stands in the way; exit status 1 when something does. Changes nothing."""
    _each(config, names, rule, as_json=as_json, adding=False)


def add_tables(config: Path | None, names: list[str], rule: TableRule | None, *, as_json: bool) -> None:
    """Takes tables in on all nodes: first all are checked on all nodes, and only when nothing stands in the way
    anywhere is anything changed."""
    _each(config, names, rule, as_json=as_json, adding=True)


def _each(config: Path | None, names: list[str], rule: TableRule | None, *, as_json: bool, adding: bool) -> None:
    loaded, ask, members = opened(config)
    wishes = asyncio.run(_wishes(loaded, ask, members, names, rule))
    with progress("tables", quiet=as_json) as say:
        found = asyncio.run(_checked(wishes, ask, members, say))
        free = all(checked.free for checked in found.values())
        if adding and free:
            asyncio.run(_added(wishes, ask, members, say))
    if as_json:
        print_json([_facts(wish, checked, added=adding and free) for wish, checked in found.items()])
    else:
        for wish, checked in found.items():
            _show(wish, checked, adding=adding, free=free)
    if not free:
        raise typer.Exit(1)


async def _checked(wishes: list[Wish], ask: Ask, members: list[str], say: Any) -> dict[Wish, Checked]:
    found = {}
    for wish in wishes:
        say(f"checking {wish.schema}.{wish.name}")
        found[wish] = await check_table(members, ask, wish)
    return found


async def _added(wishes: list[Wish], ask: Ask, members: list[str], say: Any) -> None:
    for wish in wishes:
        say(f"taking in {wish.schema}.{wish.name}")
        await add_table(members, ask, wish)


def _facts(wish: Wish, checked: Checked, *, added: bool) -> dict[str, Any]:
    return {**wish.fields(), "obstacles": {m: list(found) for m, found in checked.obstacles.items()}, "added": added}


def _show(wish: Wish, checked: Checked, *, adding: bool, free: bool) -> None:
    name = f"{wish.schema}.{wish.name}"
    if checked.free:
        print_line(f"{name} is taken in." if adding and free else f"{name} can be taken in.")
    for member, sentences in checked.obstacles.items():
        for sentence in sentences:
            print_line(f"{member}: {sentence}")


async def _wishes(config: Config, ask: Ask, members: list[str], names: list[str], rule: TableRule | None) -> list[Wish]:
    """Tables by name or pattern, each with the policy that is asked for or that the configuration has."""
    listed = await ask(members[0], "tables/list", {})
    there = [(table["schema"], table["name"]) for table in listed["tables"]]
    wishes = []
    for pattern in names:
        found = [table for table in there if matches(pattern, *table)]
        if not found and "*" not in pattern and "?" not in pattern:
            found = [split(pattern)]  # The node says it best.
        if not found:
            raise UsageError(f"No table is called {pattern}: `twinstar tables list` shows all of them.")
        wishes += [_wish(schema, name, rule or rule_of(config.tables, schema, name)) for schema, name in found]
    return list(dict.fromkeys(wishes))


def _wish(schema: str, name: str, rule: TableRule | None) -> Wish:
    if rule is None:
        return Wish(schema, name)
    return Wish(schema, name, rule.counters, tuple(rule.groups.values()), rule.function)


def remove_tables(config: Path | None, names: list[str], *, as_json: bool) -> None:
    """Makes tables ordinary ones again, on every node; their rows stay, and go their own ways."""
    _, ask, members = opened(config)
    for pattern in names:
        schema, name = split(pattern)
        asyncio.run(everywhere(members, ask, "tables/remove", {"schema": schema, "table": name}))
        if not as_json:
            print_line(f"{schema}.{name} is left out: from now on each node has its own rows.")
    if as_json:
        print_json({"removed": names})
