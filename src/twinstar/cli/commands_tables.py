"""Commands of active-active clusters: which tables, what lost, what waits, whether the nodes are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption

if TYPE_CHECKING:
    from twinstar.config.schema import TableRule

NamesArgument = Annotated[list[str], typer.Argument(help="Tables, as schema.name or a pattern such as shop.*")]
CounterOption = Annotated[list[str] | None, typer.Option("--counter", help="A column that all nodes add to.")]
GroupOption = Annotated[
    list[str] | None, typer.Option("--group", help="COLUMN,COLUMN: they win or lose together. Once for each group.")
]
FunctionOption = Annotated[str | None, typer.Option(help="An SQL function that makes a new row of two that crossed.")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    tables = typer.Typer(help="Which tables every node writes to.", no_args_is_help=True)
    for name, function in (("list", list_), ("add", add), ("remove", remove), ("check", check)):
        tables.command(name)(function)
    app.add_typer(tables, name="tables")
    conflicts = typer.Typer(help="What has lost against a concurrent write, and how to bring it back.")
    conflicts.callback(invoke_without_command=True)(conflicts_)
    for name, of_one in (("show", show), ("restore", restore)):
        conflicts.command(name)(of_one)
    app.add_typer(conflicts, name="conflicts")
    letters = typer.Typer(help="Changes of other nodes that could not be applied.", no_args_is_help=True)
    for name, of_all in (("list", waiting), ("retry", retry)):
        letters.command(name)(of_all)
    app.add_typer(letters, name="dead-letters")
    app.command()(verify)


def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every table, where it is taken in, and its policy."""
    from twinstar.cli.tables import list_tables

    list_tables(config, as_json=as_json)


def add(
    names: NamesArgument,
    counter: CounterOption = None,
    group: GroupOption = None,
    function: FunctionOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have every node write to these tables, if nothing stands in the way on any."""
    from twinstar.cli.tables import add_tables

    add_tables(config, names, _rule(counter, group, function), as_json=as_json)


def check(
    names: NamesArgument,
    counter: CounterOption = None,
    group: GroupOption = None,
    function: FunctionOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what stands in the way of taking these tables in; change nothing."""
    from twinstar.cli.tables import check_tables

    check_tables(config, names, _rule(counter, group, function), as_json=as_json)


def remove(
    names: NamesArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make these tables ordinary ones again: each node then has its own rows."""
    from twinstar.cli.tables import remove_tables
    from twinstar.cli.tell import confirm

    confirm(f"What is written to {', '.join(names)} on one node no longer reaches the others. Go on?", yes)
    remove_tables(config, names, as_json=as_json)


def conflicts_(
    context: typer.Context,
    table: Annotated[str | None, typer.Option(help="Of this table alone.")] = None,
    since: Annotated[str | None, typer.Option(help="From this time on, or this old: 30min, 2h, 7d.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many, the latest.")] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what has lost against a concurrent write."""
    from twinstar.cli.show_conflicts import show_conflicts

    if context.invoked_subcommand is None:
        show_conflicts(config, table, since, limit, as_json=as_json)


def show(
    number: Annotated[str, typer.Argument(help="As `twinstar conflicts` shows it, such as n1.17.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one conflict with both rows."""
    from twinstar.cli.show_conflicts import show_conflict

    show_conflict(config, number, as_json=as_json)


def restore(
    number: Annotated[str, typer.Argument(help="As `twinstar conflicts` shows it, such as n1.17.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write what lost as a new version."""
    from twinstar.cli.show_conflicts import restore_conflict

    restore_conflict(config, number, as_json=as_json)


def waiting(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what could not be applied, and why."""
    from twinstar.cli.show_conflicts import show_dead_letters

    show_dead_letters(config, as_json=as_json)


def retry(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try all of them again."""
    from twinstar.cli.show_conflicts import retry_dead_letters

    retry_dead_letters(config, as_json=as_json)


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Send again what differs.")] = False,
    table: Annotated[str | None, typer.Option(help="This table alone, or those that match.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare all nodes, row by row, while they are written to."""
    from twinstar.cli.run_verify import run_verify

    run_verify(config, table, repair=repair, as_json=as_json)


def _rule(counters: list[str] | None, groups: list[str] | None, function: str | None) -> TableRule | None:
    """The policy that the options describe; None: they say nothing."""
    if not (counters or groups or function):
        return None
    from twinstar.config.schema import TableRule

    named = {f"group {place}": tuple(group.split(",")) for place, group in enumerate(groups or ())}
    return TableRule(pattern="*", counters=tuple(counters or ()), groups=named, function=function)
